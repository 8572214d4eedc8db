//! Ports of the host, as the guest sees them: each connection is a pair of sockets, one end of
//! which goes to the fleet.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use calve_fleet::control::{Report, Socket};
use calve_vmm::HostPorts;

/// The ports that the fleet wants to hear of.
pub(crate) struct Ports {
    socket: Arc<Socket>,
    open: Vec<u32>,
}

impl Ports {
    pub(crate) fn new(socket: Arc<Socket>, open: Vec<u32>) -> Self {
        Self { socket, open }
    }
}

impl HostPorts for Ports {
    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        if !self.open.contains(&port) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        // A fleet that does not read is no reason to stall the device thread: sending never waits.
        self.socket.send(&Report::Port { port }, &[theirs.as_fd()]).map_err(io::Error::other)?;
        Ok(ours)
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ports").field(&self.open).finish()
    }
}
