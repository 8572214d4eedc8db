//! The signals that ask for an end, as something to wait for.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::Error;

/// Takes SIGINT, SIGTERM and SIGHUP from this thread: instead of ending the process they make the
/// descriptor readable, so that a lab can be ended in order and its console shown. Programs started
/// from here do not inherit that: the standard library resets their mask.
///
/// # Errors
///
/// When the kernel refuses the mask or the descriptor.
pub fn watch_signals() -> Result<SignalFd, Error> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().map_err(Error::system("block signals"))?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
        .map_err(Error::system("watch for signals"))
}
