//! One stream between a host socket and a guest port.
//!
//! ```text
//!  Greeting ──CONNECT line──► Requested ──RESPONSE──► Open ──guest forgot it──► Draining ──► gone
//!  (accepted socket)            ▲                      ▲     (RST, SHUTDOWN)    (backlog to the host)
//!                handed-over stream          REQUEST of the guest
//! ```
//!
//! Each direction of an open connection closes by itself: the host's end of file becomes
//! SHUTDOWN(SEND), a host that stopped reading SHUTDOWN(RECEIVE), and the guest's hints become
//! `shutdown(2)` after the backlog. When both are closed and said, the connection is over.
//! What is to be sent to the guest is not queued but derived, by [`Connection::next`].

mod flow;

use std::os::unix::net::UnixStream;

use vmm_sys_util::epoll::EventSet;

use super::backlog::Backlog;
use super::credit::Credit;
use super::header::{Header, Op, Ports, RECEIVE, SEND};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The host program has yet to say which port it wants.
    Greeting,
    /// The guest has been asked, or will be; `greet`: the program waits for its OK line.
    Requested { greet: bool },
    /// Both sides agreed.
    Open,
    /// The guest is done with it; the host gets what is left.
    Draining,
}

/// What to send to the guest next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// A packet without payload.
    Control(Op),
    /// Bytes from the host, at most this many.
    Data(u32),
}

/// What an event means for the connection as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Verdict {
    /// It goes on.
    Keep,
    /// It is broken: tell the guest by RST, and drop it.
    Reset,
    /// The guest closed it whole: confirm by RST (§5.10.6.5), and drain it.
    Confirm,
    /// The guest has forgotten it: drain it.
    Forget,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) ports: Ports,
    pub(super) phase: Phase,
    pub(super) credit: Credit,
    /// Receive buffers to gather for the next read; see `deliver.rs`.
    pub(super) burst: usize,
    backlog: Backlog,
    /// The socket is watched for room to write.
    watches_room: bool,
    /// The stream may have bytes or its end to read.
    readable: bool,
    /// The host program will write no more: behind the last byte there is an end to find.
    ending: bool,
    /// Directions that are closed, as SHUTDOWN hints: the host's side and the guest's.
    host_closed: u32,
    guest_closed: u32,
    /// Which of `host_closed` the guest knows.
    said: u32,
    /// REQUEST or RESPONSE that is to be sent.
    opening: Option<Op>,
    /// The guest asked for our credit; we asked for the guest's and have no answer yet.
    credit_asked: bool,
    credit_awaited: bool,
}

impl Connection {
    fn new(stream: UnixStream, ports: Ports, phase: Phase, opening: Option<Op>) -> Self {
        Self {
            stream,
            ports,
            phase,
            credit: Credit::default(),
            burst: 0,
            backlog: Backlog::default(),
            watches_room: false,
            readable: true,
            ending: false,
            host_closed: 0,
            guest_closed: 0,
            said: 0,
            opening,
            credit_asked: false,
            credit_awaited: false,
        }
    }

    /// A socket that was accepted: which port it wants is not known yet.
    pub(super) fn greeting(stream: UnixStream) -> Self {
        Self::new(stream, Ports { host: 0, guest: 0 }, Phase::Greeting, None)
    }

    /// A stream that was handed over for a guest port.
    pub(super) fn requested(stream: UnixStream, ports: Ports) -> Self {
        Self::new(stream, ports, Phase::Requested { greet: false }, Some(Op::Request))
    }

    /// A stream that the guest asked for.
    pub(super) fn answered(stream: UnixStream, request: &Header) -> Self {
        let mut new = Self::new(stream, request.ports(), Phase::Open, Some(Op::Response));
        new.credit.note_peer(request);
        new
    }

    /// The host program named a port.
    pub(super) fn request(&mut self, ports: Ports) {
        self.ports = ports;
        self.phase = Phase::Requested { greet: true };
        self.opening = Some(Op::Request);
    }

    /// What to send next; stays the same until [`Connection::said`] or [`Connection::read`].
    pub(super) fn next(&self) -> Next {
        if let Some(op) = self.opening {
            return Next::Control(op);
        }
        if self.phase != Phase::Open {
            return Next::Nothing;
        }
        if self.readable && self.host_closed & SEND == 0 && self.guest_closed & RECEIVE == 0 {
            match self.credit.room() {
                0 if !self.credit_awaited => return Next::Control(Op::CreditRequest),
                0 => {}
                room => return Next::Data(room),
            }
        }
        if self.host_closed != self.said {
            return Next::Control(Op::Shutdown);
        }
        if self.credit_asked || self.credit.update_due() {
            return Next::Control(Op::CreditUpdate);
        }
        Next::Nothing
    }

    /// Flags of the next SHUTDOWN.
    pub(super) const fn shutdown_flags(&self) -> u32 {
        self.host_closed
    }

    /// A packet was sent. Every one tells our credit.
    pub(super) fn said(&mut self, op: Op) {
        self.credit.note_told();
        self.credit_asked = false;
        match op {
            Op::Request | Op::Response => self.opening = None,
            Op::Shutdown => self.said = self.host_closed,
            Op::CreditRequest => self.credit_awaited = true,
            Op::Rw | Op::Rst | Op::CreditUpdate => {}
        }
    }

    /// The guest told its credit, with whatever packet.
    pub(super) const fn note_peer(&mut self, header: &Header) {
        self.credit.note_peer(header);
        if self.credit.room() > 0 {
            self.credit_awaited = false;
        }
    }

    /// The guest wants to know our credit.
    pub(super) const fn ask_credit(&mut self) -> Verdict {
        self.credit_asked = true;
        Verdict::Keep
    }

    /// The guest has heard of it and not of its end.
    pub(super) fn is_known(&self) -> bool {
        match self.phase {
            Phase::Greeting | Phase::Draining => false,
            Phase::Requested { .. } => self.opening.is_none(),
            Phase::Open => true,
        }
    }

    /// Nothing can flow any more, and the guest knows.
    pub(super) fn is_over(&self) -> bool {
        let to_guest = (self.host_closed & SEND) | (self.guest_closed & RECEIVE);
        let to_host = (self.host_closed & RECEIVE) | (self.guest_closed & SEND);
        match self.phase {
            Phase::Greeting | Phase::Requested { .. } => false,
            Phase::Open => {
                let closed = to_guest != 0 && to_host != 0;
                closed && self.backlog.is_empty() && self.host_closed == self.said
            }
            Phase::Draining => self.backlog.is_empty(),
        }
    }

    /// What the socket is to be watched for, where that has changed.
    pub(super) fn rewatch(&mut self) -> Option<EventSet> {
        let wants_room = !self.backlog.is_empty();
        if wants_room == std::mem::replace(&mut self.watches_room, wants_room) {
            return None;
        }
        Some(if wants_room { WATCHED | EventSet::OUT } else { WATCHED })
    }
}

/// What every socket is watched for.
pub(super) const WATCHED: EventSet = EventSet::IN.union(EventSet::READ_HANG_UP);
