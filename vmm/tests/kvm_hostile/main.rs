//! Guests that mean harm, on any `/dev/kvm`: whatever they do to their devices and processors, the host keeps its memory,
//! descriptors and threads, says what went wrong where there is something to say, and goes on with the next machine.
//!
//! Each guest is the one interpreter of [`script`], and does what its test wrote down for it.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]
#![allow(unsafe_code, reason = "the guests are assembled into this binary")]

#[path = "../common/mod.rs"]
mod common;
mod floods;
mod host;
mod processor;
mod queue;
mod registers;
mod rings;
mod script;
