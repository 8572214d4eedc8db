//! The lab: a complete KVM host on machines whose processor offers none.
//!
//! QEMU's software emulation (TCG) emulates AMD's SVM with nested paging, so a stock Debian kernel
//! with `kvm_amd` runs in it and offers a real `/dev/kvm`. The nested host sees this machine's files
//! as a read-only root under a RAM overlay; what a command writes there is gone when the lab ends.
//!
//! Two ways to use it:
//!
//! - [`OneShot`]: boot, run one command, end. Nothing outlives the caller, not even when it is
//!   killed, and no file is created.
//! - [`Persistent`]: a named lab in the background that many callers share, several at once.
//!
//! ```text
//!  caller ── Unix socket ── QEMU ── virtio-serial port ── agent (one process a port)
//!                                                           └ supervisor (PID 1 of a namespace)
//!                                                               └ the command
//! ```
//!
//! The processor emulated is slower than a real one by a factor of 20 or so: absolute times taken in
//! the lab mean nothing, ratios of one run and counts do.

pub mod agent;
mod boot;
mod client;
mod console;
mod error;
mod oneshot;
mod persistent;
mod qemu;
mod signals;
pub mod wire;

pub use boot::{BootFiles, PACKAGES, cache_dir};
pub use client::{Command, Output};
pub use error::Error;
pub use oneshot::OneShot;
pub use persistent::{Persistent, State};
pub use qemu::{DISK, Machine};
pub use signals::watch_signals;
