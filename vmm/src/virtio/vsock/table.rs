//! The connections of a device: a bounded slab, found by number or by ports, and the queue of those
//! that may have something for the guest, in the order in which they get their turns.

use std::collections::{HashMap, VecDeque};

use super::connection::{Connection, Next};
use super::header::Ports;

/// Most connections at a time, in every phase. An agent needs two and a busy HTTP service some
/// dozens; the bound keeps a hostile guest and silent host programs from taking more than
/// 256 × (one descriptor + `WINDOW`) = 32 MiB from the worker.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// First host port of connections that the host opens: ports below stand for host services.
pub(super) const FIRST_PORT: u32 = 1 << 30;
/// One past the last one.
const PORTS_END: u32 = 1 << 31;

#[derive(Debug, Default)]
struct Place {
    connection: Option<Connection>,
    /// The number is in `ready`: at most once, whoever holds the place.
    queued: bool,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
    named: HashMap<Ports, u32>,
    ready: VecDeque<u32>,
    next_port: u32,
}

impl Table {
    /// Without room: most machines need it for two, and a clone that waits should take little memory.
    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            named: HashMap::new(),
            ready: VecDeque::new(),
            next_port: FIRST_PORT,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.places.len() == MAX_CONNECTIONS
    }

    /// Takes a connection in; `None` where the table is full.
    pub(super) fn insert(&mut self, connection: Connection) -> Option<u32> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.is_full() => return None,
            None => {
                self.places.push(Place::default());
                u32::try_from(self.places.len() - 1).ok()?
            }
        };
        self.places[number as usize].connection = Some(connection);
        Some(number)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Connection> {
        let connection = self.places.get_mut(number as usize)?.connection.take()?;
        self.unname(number, connection.ports);
        self.free.push(number);
        Some(connection)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Connection> {
        self.places.get_mut(number as usize)?.connection.as_mut()
    }

    pub(super) fn find(&self, ports: Ports) -> Option<u32> {
        self.named.get(&ports).copied()
    }

    /// Lets a connection be found by its ports.
    pub(super) fn name(&mut self, number: u32, ports: Ports) {
        self.named.insert(ports, number);
    }

    /// The guest does not know a connection by these ports any more.
    pub(super) fn unname(&mut self, number: u32, ports: Ports) {
        if self.named.get(&ports) == Some(&number) {
            self.named.remove(&ports);
        }
    }

    /// Ports of all connections that the guest knows of.
    pub(super) fn known(&self) -> impl Iterator<Item = Ports> {
        let connections = self.places.iter().filter_map(|place| place.connection.as_ref());
        connections.filter(|it| it.is_known()).map(|it| it.ports)
    }

    pub(super) const fn next_port(&self) -> u32 {
        self.next_port
    }

    pub(super) const fn set_next_port(&mut self, port: u32) {
        self.next_port = if FIRST_PORT <= port && port < PORTS_END { port } else { FIRST_PORT };
    }

    /// Ports for a new connection to a guest port, under which there is none. Host ports are used
    /// in turn, so that one does not come back before the guest has forgotten it.
    pub(super) fn new_ports(&mut self, guest: u32) -> Ports {
        loop {
            let ports = Ports { host: self.next_port, guest };
            self.set_next_port(self.next_port + 1);
            // At most `MAX_CONNECTIONS` of 2³⁰ ports are in use.
            if !self.named.contains_key(&ports) {
                return ports;
            }
        }
    }

    /// Queues a connection for a turn, where it has something for the guest.
    pub(super) fn wake(&mut self, number: u32) {
        let Some(place) = self.places.get_mut(number as usize) else { return };
        let due = place.connection.as_ref().is_some_and(|it| it.next() != Next::Nothing);
        if due && !std::mem::replace(&mut place.queued, true) {
            self.ready.push_back(number);
        }
    }

    /// Whose turn it is.
    pub(super) fn first_ready(&self) -> Option<u32> {
        self.ready.front().copied()
    }

    /// Ends the turn of the first; it comes again after all others where it has more.
    pub(super) fn end_turn(&mut self) {
        if let Some(number) = self.ready.pop_front() {
            self.places[number as usize].queued = false;
            self.wake(number);
        }
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Connection> {
        self.free.clear();
        self.named.clear();
        self.ready.clear();
        self.places.drain(..).filter_map(|place| place.connection)
    }
}
