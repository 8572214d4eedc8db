//! The host's side: the listener, greetings, and streams handed over.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use vmm_sys_util::epoll::EventSet;

use super::super::backend::{NoPorts, VsockHost};
use super::super::error::Error;
use super::connection::{Connection, Phase};
use super::greeting::{self, Line};
use super::header::RESERVED_CID;
use super::{LISTENER, MAX_CONNECTIONS, Vsock};

/// Sockets that may be silent before the oldest of them is dropped for a new one.
const GREETINGS_MAX: usize = 16;
/// Sockets accepted in one turn of the device.
const ACCEPTS: usize = 16;

impl Vsock {
    /// Lets go of the host.
    pub(super) fn detach(&mut self) {
        self.drop_connections();
        self.drop_listener();
        self.streams.clear();
        self.host_ports = Box::new(NoPorts);
    }

    pub(super) fn attach_host(&mut self, host: VsockHost) -> Result<(), Error> {
        if host.cid <= RESERVED_CID {
            return Err(Error::ReservedCid(host.cid));
        }
        if host.streams.len() > MAX_CONNECTIONS {
            return Err(Error::Streams { max: MAX_CONNECTIONS, got: host.streams.len() });
        }
        if let Some(listener) = &host.listener {
            listener.set_nonblocking(true).map_err(Error::Watch)?;
            self.poller.watch(listener, LISTENER, EventSet::IN).map_err(Error::Watch)?;
        }
        self.cid = host.cid;
        self.config = u64::from(host.cid).to_le_bytes();
        self.listener = host.listener;
        self.streams = host.streams;
        self.host_ports = host.host_ports;
        Ok(())
    }

    /// Makes connections of the streams that were handed over.
    pub(super) fn open_streams(&mut self) {
        for (guest, stream) in std::mem::take(&mut self.streams) {
            let ports = self.table.new_ports(guest);
            // A full table or epoll instance closes the stream: its program sees the end.
            if let Some(number) = self.adopt(Connection::requested(stream, ports)) {
                self.table.name(number, ports);
                self.table.wake(number);
            }
        }
    }

    /// Accepts who waits; true where somebody may be left.
    pub(super) fn accept(&mut self) -> bool {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listener.as_ref().filter(|_| self.accept_due) else {
                return false;
            };
            match listener.accept() {
                Ok((stream, _)) => self.greet(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.accept_due = false,
                Err(error) if passing(&error) => {}
                // No descriptors or memory: whoever waits is tried again at the next event.
                Err(error) if exhausted(&error) => return false,
                Err(_) => self.drop_listener(),
            }
        }
        self.accept_due
    }

    fn greet(&mut self, stream: UnixStream) {
        if self.greetings.len() >= GREETINGS_MAX
            && let Some(&oldest) = self.greetings.front()
        {
            self.remove(oldest);
        }
        // A full table closes the socket: its program sees the end in place of an OK.
        if let Some(number) = self.adopt(Connection::greeting(stream)) {
            self.greetings.push_back(number);
            self.read_greeting(number);
        }
    }

    /// The socket of a connection has news.
    pub(super) fn hear(&mut self, number: u32, what: EventSet) {
        let Some(connection) = self.table.get_mut(number) else { return };
        if connection.phase == Phase::Greeting {
            return self.read_greeting(number);
        }
        let verdict = connection.notice(what);
        self.apply(number, verdict);
    }

    fn read_greeting(&mut self, number: u32) {
        let Some(connection) = self.table.get_mut(number) else { return };
        let port = match greeting::read(&connection.stream) {
            Ok(Line::Partial) => return,
            Ok(Line::Connect { port, .. }) => port,
            Ok(Line::Invalid) | Err(_) => return self.remove(number),
        };
        let ports = self.table.new_ports(port);
        if let Some(connection) = self.table.get_mut(number) {
            connection.request(ports);
        }
        self.greetings.retain(|&greeting| greeting != number);
        self.table.name(number, ports);
        self.table.wake(number);
    }

    fn drop_listener(&mut self) {
        if let Some(listener) = self.listener.take() {
            self.poller.unwatch(&listener);
        }
        self.accept_due = false;
    }
}

fn passing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted)
}

fn exhausted(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}
