//! A worker's process, for whoever watches a machine while somebody else waits for it.

use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::worker::Gone;

/// A handle on the process of a machine, which cannot be mistaken for another's and does not keep it alive.
#[derive(Debug)]
pub struct Process(Gone);

impl Process {
    pub(crate) fn new(process: Gone) -> Self {
        Self(process)
    }

    /// Ends the machine: a call that is under way fails. No effect on one that has ended.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}
