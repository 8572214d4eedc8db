//! The threads of a machine, and how whoever embeds it confines each of them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};

/// A kind of thread that a machine has besides those that call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// Runs one vCPU: is in the guest, or handles its exits.
    Vcpu,
    /// Runs every device.
    Devices,
}

/// What each thread of a machine does first, on itself.
#[derive(Clone)]
pub(crate) struct Confine(Arc<dyn Fn(Thread) -> io::Result<()> + Send + Sync>);

impl Confine {
    pub(crate) fn new(confine: impl Fn(Thread) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(confine))
    }

    /// What a new thread of this kind is to call.
    pub(crate) fn of(&self, thread: Thread) -> impl FnOnce() -> io::Result<()> + Send + 'static {
        let confine = self.0.clone();
        move || confine(thread)
    }
}

/// Starts a thread that runs `confine` on itself and then `body`; returns when it is confined.
///
/// # Errors
///
/// When there can be no thread, and what `confine` returns: then `body` does not run.
pub(crate) fn spawn(
    name: String,
    confine: impl FnOnce() -> io::Result<()> + Send + 'static,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (confined, ready) = sync_channel(1);
    let thread = Builder::new().name(name).spawn(move || {
        let result = confine();
        let go_on = result.is_ok();
        // The receiver waits below; it is gone only if the spawning thread died.
        let _ = confined.send(result);
        if go_on {
            body();
        }
    })?;
    ready.recv().map_err(io::Error::other)??;
    Ok(thread)
}

impl fmt::Debug for Confine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confine").finish_non_exhaustive()
    }
}
