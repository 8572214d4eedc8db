//! Readiness of file descriptors: a thin layer over epoll(7) that knows which interest is registered.
//!
//! Level-triggered, so that a source that is read only in part comes up again. A source without interest is taken out
//! of the set altogether: epoll reports a hang-up even for an empty interest, and the loop would spin on it.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Who an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Signals arrived.
    Signals,
    /// The host connects.
    Listener,
    /// The control stream.
    Control,
    /// The runtime's standard output.
    Stdout,
    /// The runtime's standard error.
    Stderr,
    /// The socket to our own shim.
    Shim,
    /// The Runtime API's listening socket.
    ApiListener,
    /// One connection of the Runtime API, by its slot.
    ApiConnection(u32),
}

impl Token {
    const FIRST_CONNECTION: u64 = 16;

    fn encode(self) -> u64 {
        match self {
            Self::Signals => 0,
            Self::Listener => 1,
            Self::Control => 2,
            Self::Stdout => 3,
            Self::Stderr => 4,
            Self::Shim => 5,
            Self::ApiListener => 6,
            Self::ApiConnection(slot) => Self::FIRST_CONNECTION + u64::from(slot),
        }
    }

    fn decode(data: u64) -> Option<Self> {
        Some(match data {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Control,
            3 => Self::Stdout,
            4 => Self::Stderr,
            5 => Self::Shim,
            6 => Self::ApiListener,
            slot => {
                Self::ApiConnection(u32::try_from(slot.checked_sub(Self::FIRST_CONNECTION)?).ok()?)
            }
        })
    }
}

/// What a source wants to hear of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const READ: Self = Self { read: true, write: false };

    fn flags(self) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, self.read);
        flags.set(EpollFlags::EPOLLOUT, self.write);
        flags
    }
}

/// The registration of one source. Closing the source's descriptor ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    token: Token,
    registered: Interest,
}

impl Watch {
    pub(crate) fn new(token: Token) -> Self {
        Self { token, registered: Interest::default() }
    }
}

/// The set of watched sources.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: Epoll,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Makes `interest` what is registered for the source `fd`. Costs nothing if it is already.
    pub(crate) fn set(
        &self,
        watch: &mut Watch,
        fd: impl AsFd,
        interest: Interest,
    ) -> io::Result<()> {
        let none = Interest::default();
        if watch.registered == interest {
            return Ok(());
        }
        let mut event = EpollEvent::new(interest.flags(), watch.token.encode());
        match (watch.registered == none, interest == none) {
            (true, _) => self.epoll.add(fd, event)?,
            (false, true) => self.epoll.delete(fd)?,
            (false, false) => self.epoll.modify(fd, &mut event)?,
        }
        watch.registered = interest;
        Ok(())
    }

    /// Waits until a source is ready or `deadline` has passed. Returns the ready sources.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<Vec<Token>> {
        let mut events = [EpollEvent::empty(); 16];
        let timeout = match deadline {
            None => EpollTimeout::NONE,
            Some(deadline) => timeout(deadline.saturating_duration_since(Instant::now())),
        };
        match self.epoll.wait(&mut events, timeout) {
            Ok(n) => Ok(events[..n].iter().filter_map(|e| Token::decode(e.data())).collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }
}

/// Rounds up to epoll's milliseconds, so that a deadline has passed when the wait is over.
fn timeout(left: Duration) -> EpollTimeout {
    let millis = left.as_nanos().div_ceil(1_000_000);
    i32::try_from(millis)
        .ok()
        .and_then(|ms| EpollTimeout::try_from(ms).ok())
        .unwrap_or(EpollTimeout::MAX)
}

#[cfg(test)]
mod tests;
