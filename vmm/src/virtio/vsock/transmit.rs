//! Guest → host: the transmit queue.
//!
//! Payload goes from the guest's buffers straight into the host's socket; only what the socket does
//! not take is copied, into the connection's backlog. Packets of other CIDs or types are dropped;
//! those for no connection are answered with RST. While many answers wait for receive buffers the
//! transmit queue waits too, so that a guest cannot make the device remember without bound.

use super::super::chain::walk;
use super::super::device::Broken;
use super::connection::{Connection, Verdict, WATCHED};
use super::header::{HEADER, HOST_CID, Header, Op, TYPE_STREAM};
use super::{TX, Vsock};
use crate::memory::GuestMemory;

/// Resets that may wait for receive buffers before the guest is heard again. Those of connections come on top, and each
/// takes the place of one: connections that the guest knows and resets are never more than this and `MAX_CONNECTIONS`.
const RESETS_MAX: usize = 128;
/// Packets taken in one turn of the device.
const PACKETS: usize = 64;
/// Most descriptors of a packet: header and payload in pages; Linux sends at most 64 KiB.
const DESCRIPTORS: usize = 64;

impl Vsock {
    /// Whether answers must leave before more packets are taken.
    pub(super) fn is_congested(&self) -> bool {
        self.resets.len() >= RESETS_MAX
    }

    /// Takes what the guest sent; true where there may be more that can be taken.
    pub(super) fn transmit(&mut self, memory: &GuestMemory) -> Result<bool, Broken> {
        for _ in 0..PACKETS {
            if self.is_congested() {
                return Ok(false);
            }
            let ring = self.ring(TX)?;
            let Some(mut chain) = ring.pop(memory)? else {
                if ring.arm(memory)? {
                    continue;
                }
                return Ok(false);
            };
            let head = chain.head_index();
            self.packet.clear();
            walk(&mut chain, DESCRIPTORS, |descriptor| {
                if descriptor.is_write_only() {
                    return Err(Broken);
                }
                self.packet.push(descriptor.addr(), descriptor.len() as usize).map_err(|_| Broken)
            })?;
            let mut header = [0; HEADER];
            if self.packet.read(&mut header) < HEADER {
                return Err(Broken);
            }
            self.receive(&Header::from_bytes(&header));
            self.ring(TX)?.push_used(memory, head, 0)?;
        }
        Ok(true)
    }

    /// Handles one packet, whose payload is in `self.packet`.
    fn receive(&mut self, header: &Header) {
        let addressed = header.src_cid == u64::from(self.cid) && header.dst_cid == HOST_CID;
        if !addressed || header.kind != TYPE_STREAM {
            return;
        }
        let op = Op::try_from(header.op);
        let Some(number) = self.table.find(header.ports()) else {
            match op {
                Ok(Op::Rst) => {}
                Ok(Op::Request) => self.answer(header),
                _ => self.resets.push_back(header.ports()),
            }
            return;
        };
        let Some(connection) = self.table.get_mut(number) else { return };
        connection.note_peer(header);
        let whole = self.packet.len() >= header.len as usize;
        self.packet.truncate(header.len as usize);
        let verdict = match op {
            Ok(Op::Response) => connection.accepted(),
            Ok(Op::Rst) => Verdict::Forget,
            Ok(Op::Shutdown) => connection.close(header.flags),
            Ok(Op::Rw) if whole => connection.write(&mut self.packet),
            Ok(Op::CreditUpdate) => Verdict::Keep,
            Ok(Op::CreditRequest) => connection.ask_credit(),
            Ok(Op::Request | Op::Rw) | Err(_) => Verdict::Reset,
        };
        self.apply(number, verdict);
    }

    /// The guest wants to reach a port of the host.
    fn answer(&mut self, request: &Header) {
        let ports = request.ports();
        // The host's program is not bothered where there is no place for it.
        let stream =
            if self.table.is_full() { None } else { self.host_ports.connect(ports.host).ok() };
        let adopted = stream.and_then(|it| self.adopt(Connection::answered(it, request)));
        let Some(number) = adopted else { return self.resets.push_back(ports) };
        self.table.name(number, ports);
        self.table.wake(number);
    }

    /// Takes a connection in and watches its socket; `None` where either cannot be done.
    pub(super) fn adopt(&mut self, connection: Connection) -> Option<u32> {
        let number = self.table.insert(connection)?;
        let connection = self.table.get_mut(number)?;
        if self.poller.watch(&connection.stream, number, WATCHED).is_err() {
            self.table.remove(number);
            return None;
        }
        Some(number)
    }
}
