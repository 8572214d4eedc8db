//! Virtio socket device (VIRTIO 1.3, §5.10): streams between guest ports and the host.
//!
//! ```text
//!   host programs                     device                              guest
//!  ─────────────── CONNECT p ──► greeting ─┐
//!  handed-over streams ────────────────────┤► connection ──REQUEST──► RX ring ──► listener on p
//!  HostPorts ◄── connect(port) ────────────┘◄──────────────REQUEST─── TX ring ◄── connect()
//! ```
//!
//! * `transmit` takes the guest's packets, `deliver` fills its receive buffers: bytes go between
//!   sockets and guest memory without a copy in between.
//! * `connection` is the state of one stream, `credit` its flow control, `table` all of them and
//!   their turns, `greeting` the CONNECT line of the host's side.
//!
//! Sockets are watched edge-triggered and what is readable is remembered, so that missing credit or
//! missing receive buffers cost no wake-ups at all.
//!
//! **Save and load.** Streams cannot survive: their host side is of another time. The state lists
//! the ports of those that were open, and after a load each gets an RST, through the receive queue
//! and before anything else in it. The transport-reset event (§5.10.6.7) would do the same with one
//! buffer, but the guest handles it on another work queue than its packets, so that it could kill
//! the first new connection with the old ones. Where nothing was open, nothing is sent.

mod backlog;
mod buffers;
mod connection;
mod credit;
mod deliver;
mod device;
mod greeting;
mod header;
mod host;
mod table;
#[cfg(test)]
mod tests;
mod transmit;

use std::collections::VecDeque;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use super::backend::{HostPorts, NoPorts};
use super::device::{Broken, MAX_QUEUES, Rings};
use super::poller::Poller;
use super::ring::Ring;
use super::scatter::Scatter;
use crate::memory::GuestMemory;
use buffers::Buffers;
use connection::{Phase, Verdict};
use header::Ports;
use table::{MAX_CONNECTIONS, Table};

/// Index of the queue of buffers for the guest.
const RX: usize = 0;
/// Index of the queue of buffers from the guest.
const TX: usize = 1;
/// Index of the event queue; nothing is ever sent on it (see the module's text).
pub(super) const EVENT_QUEUE: usize = 2;
/// Size of the RX and TX queues. 128 receive buffers of Linux are 512 KiB: twice the buffer of one
/// of its sockets. Larger queues would only make the guest keep more memory.
pub(super) const QUEUE_MAX: u16 = 128;
/// Size of the event queue; Linux posts eight buffers.
pub(super) const EVENT_QUEUE_MAX: u16 = 16;
/// Most streams in a saved state: the guest knows of no more, and `RESETS_MAX` in `transmit.rs` says why.
const SAVED_MAX: usize = 2 * MAX_CONNECTIONS;
/// Token of the listener; connections use their number.
const LISTENER: u32 = 1 << 30;

/// A vsock device.
pub(super) struct Vsock {
    memory: Arc<GuestMemory>,
    poller: Poller,
    cid: u32,
    /// The guest's CID as in the config space (§5.10.4).
    config: [u8; 8],
    listener: Option<UnixListener>,
    /// The listener may have somebody waiting.
    accept_due: bool,
    /// Accepted sockets that have not said which port they want, oldest first.
    greetings: VecDeque<u32>,
    /// Streams handed over that are not connections yet.
    streams: Vec<(u32, UnixStream)>,
    host_ports: Box<dyn HostPorts>,
    table: Table,
    /// Streams that the guest must be told are gone.
    resets: VecDeque<Ports>,
    rings: Rings,
    /// Receive buffers at hand.
    buffers: Buffers,
    /// The packet at hand.
    packet: Scatter,
}

impl Vsock {
    pub(super) fn new(memory: Arc<GuestMemory>, poller: Poller) -> Self {
        Self {
            poller,
            cid: 0,
            config: [0; 8],
            listener: None,
            accept_due: false,
            greetings: VecDeque::new(),
            streams: Vec::new(),
            host_ports: Box::new(NoPorts),
            table: Table::new(),
            resets: VecDeque::new(),
            rings: [const { None }; MAX_QUEUES],
            buffers: Buffers::new(&memory),
            packet: Scatter::new(Arc::clone(&memory), 64),
            memory,
        }
    }

    fn ring(&mut self, index: usize) -> Result<&mut Ring, Broken> {
        self.rings[index].as_mut().ok_or(Broken)
    }

    /// Drops every connection without a word to the guest.
    fn drop_connections(&mut self) {
        for connection in self.table.drain() {
            self.poller.unwatch(&connection.stream);
        }
        self.greetings.clear();
        self.resets.clear();
    }

    /// Does what an event means for its connection.
    fn apply(&mut self, number: u32, verdict: Verdict) {
        match verdict {
            Verdict::Keep => {}
            Verdict::Reset => return self.reset_connection(number),
            Verdict::Confirm | Verdict::Forget => {
                let Some(connection) = self.table.get_mut(number) else { return };
                let ports = connection.ports;
                connection.phase = Phase::Draining;
                self.table.unname(number, ports);
                if verdict == Verdict::Confirm {
                    self.resets.push_back(ports);
                }
            }
        }
        self.settle(number);
    }

    /// Brings what depends on a connection's state up to date.
    fn settle(&mut self, number: u32) {
        let Some(connection) = self.table.get_mut(number) else { return };
        if connection.is_over() {
            return self.remove(number);
        }
        if let Some(what) = connection.rewatch()
            && self.poller.rewatch(&connection.stream, number, what).is_err()
        {
            return self.reset_connection(number);
        }
        self.table.wake(number);
    }

    /// Drops a connection that cannot go on, and tells the guest where it knows of it.
    fn reset_connection(&mut self, number: u32) {
        let Some(connection) = self.table.get_mut(number) else { return };
        if connection.is_known() {
            let ports = connection.ports;
            self.resets.push_back(ports);
        }
        self.remove(number);
    }

    fn remove(&mut self, number: u32) {
        if let Some(connection) = self.table.remove(number) {
            self.poller.unwatch(&connection.stream);
            self.greetings.retain(|&greeting| greeting != number);
        }
    }
}
