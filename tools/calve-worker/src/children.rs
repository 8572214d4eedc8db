//! The worker's children: the copies of itself that keep memory while a machine that is forked goes on.
#![allow(unsafe_code)]

use nix::sys::signal::{SigHandler, Signal, signal};

/// Undoes an embedder's ignoring of SIGCHLD, which a new program inherits (execve(2)) and by which the kernel takes
/// children away before anybody has asked how they ended.
pub(crate) fn can_be_waited_for() -> nix::Result<()> {
    // SAFETY: the default is no function of ours, and there is no other thread yet.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(drop)
}
