//! Host → guest: filling the receive queue (VIRTIO 1.3, §5.10.6.4).
//!
//! Bytes go from the host's socket straight into the guest's receive buffers: one `recvmsg` over as
//! many buffers as the connection has lately filled, then one header per buffer. Connections take
//! turns of at most [`TURN_BYTES`]; RSTs go before everything, so that after a load the guest hears
//! of the death of its old streams before it hears of a new one.

use super::super::device::Broken;
use super::buffers::BURST;
use super::connection::{Connection, Next};
use super::header::{HOST_CID, Header, Op, Ports, TYPE_STREAM};
use super::{RX, Vsock};
use crate::memory::GuestMemory;

/// Bytes a connection may send before the next has its turn; also the largest packet of Linux.
const TURN_BYTES: usize = 64 * 1024;
/// Packets delivered in one turn of the device; a connection's turn counts as one at least.
const PACKETS: usize = 256;

impl Vsock {
    /// Sends what is due; true where more is due and could be sent.
    pub(super) fn deliver(&mut self, memory: &GuestMemory) -> Result<bool, Broken> {
        let mut packets = 0;
        while packets < PACKETS {
            let sent = if let Some(&ports) = self.resets.front() {
                let sent = self.control(memory, self.header(ports, Op::Rst))?;
                if sent > 0 {
                    self.resets.pop_front();
                }
                sent
            } else if let Some(number) = self.table.first_ready() {
                match self.turn(memory, number)? {
                    Turn::Starved => 0,
                    Turn::Sent(sent) => {
                        self.table.end_turn();
                        packets += sent.max(1);
                        continue;
                    }
                }
            } else {
                return Ok(false);
            };
            packets += sent.max(1);
            // No buffers: ask for a kick, and look once more in case they came just now.
            if sent == 0 && !self.ring(RX)?.arm(memory)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn turn(&mut self, memory: &GuestMemory, number: u32) -> Result<Turn, Broken> {
        let cid = self.cid;
        let Some(connection) = self.table.get_mut(number) else { return Ok(Turn::Sent(0)) };
        let sent = match connection.next() {
            Next::Nothing => 0,
            Next::Control(op) => {
                let header = header_of(cid, connection, op);
                if self.control(memory, header)? == 0 {
                    return Ok(Turn::Starved);
                }
                if let Some(connection) = self.table.get_mut(number) {
                    connection.said(op);
                }
                1
            }
            Next::Data(room) => match self.read(memory, number, room)? {
                Some(sent) => sent,
                None => return Ok(Turn::Starved),
            },
        };
        self.settle(number);
        Ok(Turn::Sent(sent))
    }

    /// Sends one packet without payload; the number sent is 0 or 1.
    fn control(&mut self, memory: &GuestMemory, header: Header) -> Result<usize, Broken> {
        let Some(ring) = &mut self.rings[RX] else { return Err(Broken) };
        self.buffers.take(ring, memory, 1, 0)?;
        self.buffers.give(ring, memory, header, 0)
    }

    /// Reads from the host for the guest; `None` where there are no buffers.
    fn read(
        &mut self,
        memory: &GuestMemory,
        number: u32,
        room: u32,
    ) -> Result<Option<usize>, Broken> {
        let Some(ring) = &mut self.rings[RX] else { return Err(Broken) };
        let Some(connection) = self.table.get_mut(number) else { return Ok(Some(0)) };
        let burst = connection.burst.clamp(*BURST.start(), *BURST.end());
        let wanted = TURN_BYTES.min(room as usize);
        self.buffers.take(ring, memory, burst, wanted)?;
        if self.buffers.is_empty() {
            return Ok(None);
        }
        match connection.read(self.buffers.payload()) {
            Ok(Some(bytes)) => {
                let full = bytes as usize == self.buffers.payload().len();
                connection.burst = if full { burst * 2 } else { 0 };
                let header = header_of(self.cid, connection, Op::Rw);
                connection.said(Op::Rw);
                self.buffers.give(ring, memory, header, bytes).map(Some)
            }
            Ok(None) => {
                self.buffers.put_back(ring);
                Ok(Some(0))
            }
            Err(_) => {
                self.buffers.put_back(ring);
                self.reset_connection(number);
                Ok(Some(0))
            }
        }
    }

    /// Header of a packet for a connection that does not exist.
    fn header(&self, ports: Ports, op: Op) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: u64::from(self.cid),
            src_port: ports.host,
            dst_port: ports.guest,
            kind: TYPE_STREAM,
            op: op as u16,
            ..Header::default()
        }
    }
}

/// What became of a connection's turn.
enum Turn {
    /// There was no receive buffer.
    Starved,
    /// It is over, and that many packets went out.
    Sent(usize),
}

/// Header of a connection's next packet.
fn header_of(cid: u32, connection: &Connection, op: Op) -> Header {
    let (buf_alloc, fwd_cnt) = connection.credit.account();
    Header {
        src_cid: HOST_CID,
        dst_cid: u64::from(cid),
        src_port: connection.ports.host,
        dst_port: connection.ports.guest,
        len: 0,
        kind: TYPE_STREAM,
        op: op as u16,
        flags: if op == Op::Shutdown { connection.shutdown_flags() } else { 0 },
        buf_alloc,
        fwd_cnt,
    }
}
