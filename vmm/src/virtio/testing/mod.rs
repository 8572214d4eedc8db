//! A guest in user space: memory, a driver that speaks to the registers and rings as Linux does,
//! and the suite that every device runs.
//!
//! The driver obeys the notification rules to the letter — it kicks only when asked to, and looks
//! at a ring only after an interrupt — so that a kick or an interrupt that gets lost hangs a test
//! until its deadline instead of going unnoticed.
#![allow(clippy::cast_possible_truncation)] // numbers of a test are small

mod driver;
mod rig;
pub(super) mod suite;
mod vring;

pub(super) use driver::Driver;
pub(super) use rig::{DEADLINE, Rig, wait};
pub(super) use suite::device_suite;
pub(super) use vring::Buffer;
