//! The guest's half of vsock, as Linux does it: receive buffers of 4 KiB, packets of up to 64 KiB,
//! 256 KiB of credit per socket, an update when less than 64 KiB of it are known to be free.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use vm_memory::{Bytes, GuestAddress};

use super::super::header::{HEADER, HOST_CID, Header, Op, TYPE_STREAM};
use crate::virtio::testing::{DEADLINE, Driver, Rig};
use crate::virtio::{Backend, HostPorts, NoPorts, VsockHost};

pub(super) const CID: u32 = 3;
const RX: usize = 0;
const TX: usize = 1;
const RX_BUFFERS: u64 = 0x20_0000;
const TX_BUFFERS: u64 = 0x40_0000;
/// Room of one receive buffer behind its header.
const ROOM: u32 = 4096;
const RX_STRIDE: u64 = 8192;
const TX_STRIDE: u64 = 0x2_0000;
/// Largest packet.
pub(super) const PACKET: usize = 64 * 1024;
/// Receive buffer of a socket.
pub(super) const BUFFER: u32 = 256 * 1024;

/// A packet from the device.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) header: Header,
    pub(super) data: Vec<u8>,
}

impl Packet {
    pub(super) fn op(&self) -> Op {
        Op::try_from(self.header.op).unwrap()
    }
}

/// A machine with a vsock device and its driver.
pub(super) struct Guest {
    pub(super) rig: Rig,
    pub(super) driver: Driver,
    /// Heads of posted receive buffers, by the buffer's number.
    posted: Vec<Option<u16>>,
    sent: u64,
    queue: VecDeque<Packet>,
    /// Post receive buffers again as soon as they were used.
    pub(super) reposts: bool,
}

/// A host with nothing but these.
pub(super) fn host(streams: Vec<(u32, UnixStream)>, ports: Box<dyn HostPorts>) -> VsockHost {
    VsockHost { cid: CID, listener: None, streams, host_ports: ports }
}

pub(super) fn nothing() -> Backend {
    Backend::Vsock(host(Vec::new(), Box::new(NoPorts)))
}

impl Guest {
    pub(super) fn new(host: VsockHost) -> Self {
        Self::refusing(host, 0)
    }

    pub(super) fn refusing(host: VsockHost, features: u64) -> Self {
        let mut guest = Self::without_buffers(host, features);
        guest.post();
        guest
    }

    /// A guest that has not posted receive buffers yet.
    pub(super) fn without_buffers(host: VsockHost, features: u64) -> Self {
        let rig = Rig::running(Backend::Vsock(host));
        let driver = Driver::probe(&rig, 0, features);
        let posted = vec![None; driver.rings[RX].size.into()];
        Self { rig, driver, posted, sent: 0, queue: VecDeque::new(), reposts: true }
    }

    /// Posts every free receive buffer.
    pub(super) fn post(&mut self) {
        self.post_up_to(usize::MAX);
    }

    pub(super) fn post_up_to(&mut self, count: usize) {
        let free = (0..self.posted.len()).filter(|&it| self.posted[it].is_none());
        for buffer in free.take(count).collect::<Vec<_>>() {
            let at = RX_BUFFERS + RX_STRIDE * buffer as u64;
            let head = self.driver.rings[RX].add(&[(at, HEADER as u32 + ROOM, true)]);
            self.posted[buffer] = Some(head);
        }
        self.driver.kick(&self.rig, RX);
    }

    /// The next packet, waiting for an interrupt where there is none.
    pub(super) fn next(&mut self) -> Packet {
        self.next_until(Instant::now() + DEADLINE).expect("a packet")
    }

    pub(super) fn next_until(&mut self, until: Instant) -> Option<Packet> {
        while self.queue.is_empty() {
            self.collect();
            if self.queue.is_empty() {
                self.driver.interrupt(&self.rig, until)?;
            }
        }
        self.queue.pop_front()
    }

    /// Moves used receive buffers to `queue`, and posts them again.
    fn collect(&mut self) {
        let before = self.queue.len();
        while let Some((head, len)) = self.driver.rings[RX].take_used() {
            let buffer = self.posted.iter().position(|&it| it == Some(head)).unwrap();
            self.posted[buffer] = None;
            let at = RX_BUFFERS + RX_STRIDE * buffer as u64;
            let mut header = [0; HEADER];
            self.rig.memory.read_slice(&mut header, GuestAddress(at)).unwrap();
            let header = Header::from_bytes(&header);
            assert_eq!(header.src_cid, HOST_CID);
            assert_eq!(header.dst_cid, u64::from(CID));
            assert_eq!(header.kind, TYPE_STREAM);
            assert_eq!(header.len + HEADER as u32, len);
            let mut data = vec![0; header.len as usize];
            self.rig.memory.read_slice(&mut data, GuestAddress(at + HEADER as u64)).unwrap();
            self.queue.push_back(Packet { header, data });
        }
        if self.reposts && self.queue.len() > before {
            self.post();
        }
    }

    /// The next packet, which must be of this operation.
    pub(super) fn expect(&mut self, op: Op) -> Packet {
        let packet = self.next();
        assert_eq!(packet.op(), op, "{:?}", packet.header);
        packet
    }

    /// Proves that the device has nothing to say: it answers a stray packet, and only that.
    pub(super) fn assert_silent(&mut self) {
        let said = self.sync();
        assert!(said.is_empty(), "{said:?}");
    }

    /// Waits until the device has handled everything sent so far; returns what it said meanwhile.
    pub(super) fn sync(&mut self) -> Vec<Packet> {
        let stray = Header { op: Op::Rw as u16, src_port: 77, dst_port: 77, ..template() };
        self.send(stray, &[]);
        let mut said = Vec::new();
        loop {
            let packet = self.next();
            if packet.header.src_port == 77 && packet.op() == Op::Rst {
                return said;
            }
            said.push(packet);
        }
    }

    /// Sends a packet, waiting for room in the ring.
    pub(super) fn send(&mut self, header: Header, data: &[u8]) {
        while self.driver.rings[TX].free() < 3 {
            self.driver.used(&self.rig, TX);
        }
        let slots = u64::from(self.driver.rings[TX].size / 3);
        let at = TX_BUFFERS + TX_STRIDE * (self.sent % slots);
        self.sent += 1;
        let memory = &self.rig.memory;
        memory.write_slice(&header.to_bytes(), GuestAddress(at)).unwrap();
        memory.write_slice(data, GuestAddress(at + HEADER as u64)).unwrap();
        // Header and payload in one, two or three pieces.
        let (header, len) = (HEADER as u32, data.len() as u32);
        let body = at + u64::from(header);
        let chain = match self.sent % 3 {
            0 => vec![(at, header + len, false)],
            1 => vec![(at, header, false), (body, len, false)],
            _ => {
                let half = len / 2;
                let rest = (body + u64::from(half), len - half, false);
                vec![(at, header, false), (body, half, false), rest]
            }
        };
        self.driver.submit(&self.rig, TX, &chain);
    }
}

/// A header of a packet from the guest.
pub(super) fn template() -> Header {
    Header {
        src_cid: CID.into(),
        dst_cid: HOST_CID,
        kind: TYPE_STREAM,
        buf_alloc: BUFFER,
        ..Header::default()
    }
}

/// A socket of the guest.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) port: u32,
    pub(super) peer: u32,
    pub(super) received: Vec<u8>,
    /// SHUTDOWN hints from the host, and whether it sent RST.
    pub(super) hints: u32,
    pub(super) reset: bool,
    forwarded: u32,
    told: u32,
    sent: u32,
    peer_alloc: u32,
    peer_forwarded: u32,
}

impl Socket {
    /// The socket at `port` for a REQUEST or RESPONSE of the host.
    pub(super) fn new(port: u32, header: &Header) -> Self {
        Self {
            port,
            peer: header.src_port,
            received: Vec::new(),
            hints: 0,
            reset: false,
            forwarded: 0,
            told: 0,
            sent: 0,
            peer_alloc: header.buf_alloc,
            peer_forwarded: header.fwd_cnt,
        }
    }

    /// Accepts the next connection, which must be to `port`.
    pub(super) fn accept(guest: &mut Guest, port: u32) -> Self {
        let request = guest.expect(Op::Request);
        assert_eq!(request.header.dst_port, port);
        let mut socket = Self::new(port, &request.header);
        socket.say(guest, Op::Response, 0, &[]);
        socket
    }

    /// Takes bytes out of the receive buffer that a test handled by itself.
    pub(super) fn forward(&mut self, bytes: u32) {
        self.forwarded = self.forwarded.wrapping_add(bytes);
    }

    /// Connects to a port of the host.
    pub(super) fn connect(guest: &mut Guest, port: u32, peer: u32) -> Self {
        let header =
            Header { src_port: port, dst_port: peer, op: Op::Request as u16, ..template() };
        guest.send(header, &[]);
        // Answers to earlier packets may come first.
        let response = std::iter::repeat_with(|| guest.next()).find(|it| it.op() != Op::Rst);
        let response = response.unwrap();
        assert_eq!(response.op(), Op::Response);
        assert_eq!((response.header.src_port, response.header.dst_port), (peer, port));
        Self::new(port, &response.header)
    }

    /// Bytes the host has room for.
    pub(super) fn credit(&self) -> u32 {
        self.peer_alloc - self.sent.wrapping_sub(self.peer_forwarded)
    }

    pub(super) fn say(&mut self, guest: &mut Guest, op: Op, flags: u32, data: &[u8]) {
        let header = Header {
            src_port: self.port,
            dst_port: self.peer,
            op: op as u16,
            flags,
            len: data.len() as u32,
            fwd_cnt: self.forwarded,
            ..template()
        };
        self.told = self.forwarded;
        self.sent = self.sent.wrapping_add(data.len() as u32);
        guest.send(header, data);
    }

    pub(super) fn is_for(&self, packet: &Packet) -> bool {
        (packet.header.src_port, packet.header.dst_port) == (self.peer, self.port)
    }

    /// Takes one packet in, and answers as Linux does.
    pub(super) fn handle(&mut self, guest: &mut Guest, packet: &Packet) {
        assert!(self.is_for(packet), "{:?} is not for {self:?}", packet.header);
        self.peer_alloc = packet.header.buf_alloc;
        self.peer_forwarded = packet.header.fwd_cnt;
        match packet.op() {
            Op::Rw => {
                assert_eq!(self.hints & 2, 0, "bytes behind the end");
                assert!(packet.header.len > 0);
                self.received.extend_from_slice(&packet.data);
                self.forwarded = self.forwarded.wrapping_add(packet.header.len);
                if self.forwarded.wrapping_sub(self.told) > BUFFER - PACKET as u32 {
                    self.say(guest, Op::CreditUpdate, 0, &[]);
                }
            }
            Op::CreditRequest => self.say(guest, Op::CreditUpdate, 0, &[]),
            Op::CreditUpdate => {}
            Op::Shutdown => self.hints |= packet.header.flags,
            Op::Rst => self.reset = true,
            op @ (Op::Request | Op::Response) => panic!("{op:?} in an open connection"),
        }
    }

    /// Handles packets until the condition holds.
    pub(super) fn until(&mut self, guest: &mut Guest, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let packet = guest.next();
            self.handle(guest, &packet);
        }
    }

    /// Sends everything, as credit allows.
    pub(super) fn send_all(&mut self, guest: &mut Guest, mut data: &[u8]) {
        while !data.is_empty() {
            self.until(guest, |it| it.credit() > 0);
            let len = data.len().min(PACKET).min(self.credit() as usize);
            let (now, later) = data.split_at(len);
            self.say(guest, Op::Rw, 0, now);
            data = later;
        }
    }
}
