//! One epoll instance for everything the device thread waits for.
//!
//! Every descriptor is watched edge-triggered. For eventfds this saves the read that would clear
//! them; for sockets it saves an `epoll_ctl` each time the guest has no buffer or credit: the
//! device remembers what is readable, and no readiness that it cannot use wakes the thread twice.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Descriptors reported by one wait.
const BATCH: usize = 64;
/// Marks the kick of a queue among the tokens of a slot.
const KICK: u32 = 1 << 31;
/// The token of the control eventfd.
const CONTROL: u64 = u64::MAX;

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The control eventfd.
    Control,
    /// A queue of this slot was kicked.
    Kick(usize),
    /// A descriptor that the device in this slot watches under a token.
    Host(usize, u32),
}

/// A device's access to the epoll instance. Tokens are below 2³¹.
#[derive(Clone, Debug)]
pub(super) struct Poller {
    epoll: Arc<Epoll>,
    slot: u32,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Arc::new(Epoll::new()?), slot: 0 })
    }

    /// The access of the device in `slot`.
    pub(super) fn for_slot(&self, slot: u32) -> Self {
        Self { epoll: Arc::clone(&self.epoll), slot }
    }

    /// Watches a host descriptor; what is ready already is reported, too.
    pub(super) fn watch(&self, fd: &impl AsRawFd, token: u32, what: EventSet) -> io::Result<()> {
        self.control(ControlOperation::Add, fd.as_raw_fd(), self.data(token), what)
    }

    /// Changes what is watched for, and reports anew what is ready.
    pub(super) fn rewatch(&self, fd: &impl AsRawFd, token: u32, what: EventSet) -> io::Result<()> {
        self.control(ControlOperation::Modify, fd.as_raw_fd(), self.data(token), what)
    }

    /// Forgets a descriptor that is about to be closed. Closing alone would not do where another
    /// process holds the same open file.
    pub(super) fn unwatch(&self, fd: &impl AsRawFd) {
        let none = EpollEvent::default();
        // It fails only for a descriptor that was never added.
        let _ = self.epoll.ctl(ControlOperation::Delete, fd.as_raw_fd(), none);
    }

    pub(super) fn watch_kick(&self, fd: &impl AsRawFd) -> io::Result<()> {
        self.watch(fd, KICK, EventSet::IN)
    }

    pub(super) fn watch_control(&self, fd: &impl AsRawFd) -> io::Result<()> {
        self.control(ControlOperation::Add, fd.as_raw_fd(), CONTROL, EventSet::IN)
    }

    /// Waits for events, without limit or not at all, and hands them out.
    pub(super) fn wait(
        &self,
        block: bool,
        mut handle: impl FnMut(Source, EventSet),
    ) -> io::Result<()> {
        let mut events = [EpollEvent::default(); BATCH];
        let count = match self.epoll.wait(if block { -1 } else { 0 }, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        for event in &events[..count] {
            handle(Source::from(event.data()), event.event_set());
        }
        Ok(())
    }

    fn data(&self, token: u32) -> u64 {
        u64::from(self.slot) << 32 | u64::from(token)
    }

    fn control(
        &self,
        operation: ControlOperation,
        fd: RawFd,
        data: u64,
        what: EventSet,
    ) -> io::Result<()> {
        self.epoll.ctl(operation, fd, EpollEvent::new(what | EventSet::EDGE_TRIGGERED, data))
    }
}

impl From<u64> for Source {
    fn from(data: u64) -> Self {
        #[allow(clippy::cast_possible_truncation)] // taken apart as `Poller::data` put it together
        let (slot, token) = ((data >> 32) as usize, data as u32);
        match data {
            CONTROL => Self::Control,
            _ if token & KICK != 0 => Self::Kick(slot),
            _ => Self::Host(slot, token),
        }
    }
}
