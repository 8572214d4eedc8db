//! Giving up everything at once, for Ctrl-C.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Ends every wait of a fleet, now and later, with
/// [`WorkerError::Cancelled`](crate::WorkerError::Cancelled). Cheap to clone; may be called from
/// any thread.
#[derive(Clone, Debug)]
pub struct Canceller {
    event: Arc<EventFd>,
}

impl Canceller {
    pub(crate) fn new() -> nix::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self { event: Arc::new(EventFd::from_value_and_flags(0, flags)?) })
    }

    /// Gives up. There is no way back: make another fleet.
    pub fn cancel(&self) {
        // It fails only when the counter is full, that is, after 2^64 - 2 calls.
        let _ = self.event.write(1);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Readable from the cancellation on; never read, so that every waiter sees it.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
