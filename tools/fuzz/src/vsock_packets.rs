//! Any packets in sound chains (VIRTIO 1.3, §5.10.6), and what programs of the host do meanwhile.
//!
//! Each stream carries bytes of one value, so a byte that strays is seen. What must hold: every packet to the guest has
//! a sound header and fits its buffer; none is larger than the credit that the guest ever gave; no byte of one stream
//! comes out of another; and the device is done after a bounded number of turns.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};

use calve_vmm::fuzzing::{ByHand, GuestMemory};
use calve_vmm::virtio::{Backend, HostPorts, VsockHost};
use vm_memory::{Bytes, GuestAddress};

use crate::Seeds;
use crate::input::{Input, Output};
use crate::memory;

/// The guest's context id.
pub(crate) const CID: u32 = 3;
const HOST_CID: u64 = 2;
/// Bytes of a header.
const HEADER: usize = 44;
/// First port that the device gives the host's side of a stream that it opens.
const FIRST_PORT: u32 = 1 << 30;

const SIZE: u16 = 32;
const QUEUE: u64 = 0x800;
const AVAILABLE: u64 = 0x200;
const USED: u64 = 0x400;
const RX: u64 = 0;
const TX: u64 = 1;
/// Receive buffers: so many, so large, there.
const BUFFERS: u16 = 16;
const BUFFER: u64 = 0x800;
const BUFFERS_AT: u64 = 0x1_0000;
/// Packets of the guest, one at a time in a slot of its own.
const SLOTS: u16 = 8;
const SLOT: u64 = 0x1000;
const SLOTS_AT: u64 = 0x4000;
/// Most payload of a packet.
const PAYLOAD: usize = 4000;
/// Streams of the host that are there from the beginning, for guest ports from this one on.
const STREAMS: u32 = 3;
const GUEST_PORT: u32 = 1024;
/// Most records of an input that are looked at.
const RECORDS: usize = 200;
/// Turns after which the device must be done.
const TURNS: usize = 10_000;

/// Operations.
pub(crate) mod op {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const RESPONSE: u16 = 2;
    pub(crate) const SHUTDOWN: u16 = 4;
    pub(crate) const RW: u16 = 5;
    pub(crate) const CREDIT_UPDATE: u16 = 6;
    pub(crate) const CREDIT_REQUEST: u16 = 7;
}

/// Numbers of the records.
mod act {
    pub(super) const SEND: u8 = 0;
    pub(super) const POST: u8 = 1;
    pub(super) const HOST_WRITE: u8 = 2;
    pub(super) const HOST_READ: u8 = 3;
    pub(super) const HOST_CLOSE: u8 = 4;
    pub(super) const HOST_END: u8 = 5;
    pub(super) const RELOAD: u8 = 6;
    pub(super) const COUNT: u8 = 7;
}

/// A header, as the guest says it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) src_cid: u64,
    pub(crate) dst_cid: u64,
    pub(crate) src_port: u32,
    pub(crate) dst_port: u32,
    pub(crate) len: u32,
    pub(crate) kind: u16,
    pub(crate) op: u16,
    pub(crate) flags: u32,
    pub(crate) buf_alloc: u32,
    pub(crate) fwd_cnt: u32,
}

impl Default for Header {
    fn default() -> Self {
        let (src_cid, dst_cid) = (CID.into(), HOST_CID);
        let (src_port, dst_port, len, kind, op) = (0, 0, 0, 1, 0);
        let (flags, buf_alloc, fwd_cnt) = (0, 0, 0);
        Self { src_cid, dst_cid, src_port, dst_port, len, kind, op, flags, buf_alloc, fwd_cnt }
    }
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let out = Output::new().u64(self.src_cid).u64(self.dst_cid).u32(self.src_port);
        let out = out.u32(self.dst_port).u32(self.len).u16(self.kind).u16(self.op);
        out.u32(self.flags).u32(self.buf_alloc).u32(self.fwd_cnt).done()
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut input = Input::new(bytes);
        Self {
            src_cid: input.u64(),
            dst_cid: input.u64(),
            src_port: input.u32(),
            dst_port: input.u32(),
            len: input.u32(),
            kind: input.u16(),
            op: input.u16(),
            flags: input.u32(),
            buf_alloc: input.u32(),
            fwd_cnt: input.u32(),
        }
    }
}

/// Takes every connection of the guest, and passes the host's end on.
#[derive(Debug)]
struct Door(Sender<UnixStream>);

impl HostPorts for Door {
    fn connect(&mut self, port: u32) -> std::io::Result<UnixStream> {
        if port == 0 {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = pair();
        self.0.send(ours).map_err(std::io::Error::other)?;
        Ok(theirs)
    }
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    ours.set_nonblocking(true).expect("a socket");
    theirs.set_nonblocking(true).expect("a socket");
    (ours, theirs)
}

/// A program of the host, and the value of the bytes that it has got.
struct Program {
    stream: Option<UnixStream>,
    got: Option<u8>,
}

struct Machine {
    memory: GuestMemory,
    devices: ByHand,
    programs: Vec<Program>,
    door: Receiver<UnixStream>,
    posted: [bool; BUFFERS as usize],
    available: [u16; 2],
    used: [u16; 2],
    sent: u16,
    /// The most credit that the guest ever gave, by (guest port, host port).
    credit: BTreeMap<(u32, u32), u32>,
}

pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let event_idx = input.u8() & 1 != 0;
    let mut machine = Machine::new(event_idx);
    for _ in 0..RECORDS {
        if input.is_empty() {
            break;
        }
        machine.step(&mut input);
    }
}

impl Machine {
    fn new(event_idx: bool) -> Self {
        let memory = memory::zeroed();
        let (devices, programs, door) = devices(&memory);
        let mut machine = Self {
            memory,
            devices,
            programs,
            door,
            posted: [false; BUFFERS as usize],
            available: [0; 2],
            used: [0; 2],
            sent: 0,
            credit: BTreeMap::new(),
        };
        machine.start(event_idx);
        machine
    }

    fn start(&mut self, event_idx: bool) {
        self.devices.resume();
        let write = |register, value: u32| {
            self.devices.transport(0).write(register, &value.to_le_bytes());
        };
        for (register, value) in [
            (0x70, 1),
            (0x70, 3),
            (0x24, 1),
            (0x20, 1),
            (0x24, 0),
            (0x20, u32::from(event_idx) << 29),
        ] {
            write(register, value);
        }
        write(0x70, 0xb);
        for queue in [0, 1] {
            let base = queue * QUEUE as u32;
            for (register, value) in [
                (0x30, queue),
                (0x38, SIZE.into()),
                (0x80, base),
                (0x90, base + AVAILABLE as u32),
                (0xa0, base + USED as u32),
                (0x44, 1),
            ] {
                write(register, value);
            }
        }
        write(0x70, 0xf);
        self.work();
        assert_eq!(self.status(), 0xf);
    }

    fn status(&self) -> u32 {
        let mut word = [0; 4];
        self.devices.transport(0).read(0x70, &mut word);
        u32::from_le_bytes(word)
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let act = input.u8() % act::COUNT;
        match act {
            act::SEND => self.send(input),
            act::POST => self.post(input.u8()),
            act::RELOAD => self.reload(),
            _ => self.program(act, input),
        }
        self.work();
        self.collect();
    }

    fn send(&mut self, input: &mut Input<'_>) {
        let (op, guest, host) = (u16::from(input.u8()), input.u8(), input.u8());
        let (len, lie) = (usize::from(input.u16()) % PAYLOAD, input.u8());
        let (flags, buf_alloc, fwd_cnt) = (u32::from(input.u8()), input.u32(), input.u32());
        let src_port = GUEST_PORT + u32::from(guest % 8);
        // Ports of streams that the host opened, or any other.
        let dst_port =
            if host < 0x80 { FIRST_PORT + u32::from(host % 16) } else { u32::from(host) - 0x80 };
        let mut header = Header {
            src_port,
            dst_port,
            len: len as u32,
            op,
            flags,
            buf_alloc,
            fwd_cnt,
            ..Header::default()
        };
        match lie {
            1 => header.len = buf_alloc,
            2 => header.src_cid = u64::from(buf_alloc),
            3 => header.dst_cid = u64::from(buf_alloc) << 32 | HOST_CID,
            4 => header.kind = flags as u16,
            _ => {}
        }
        let most = self.credit.entry((src_port, dst_port)).or_default();
        *most = (*most).max(buf_alloc);
        let slot = self.sent % SLOTS;
        self.sent = self.sent.wrapping_add(1);
        let at = SLOTS_AT + SLOT * u64::from(slot);
        self.store(at, &header.encode());
        self.store(at + HEADER as u64, &vec![tag(src_port); len]);
        // Header and payload in one buffer or in two.
        let whole = HEADER as u64 + len as u64;
        if flags & 0x80 == 0 {
            self.describe(TX, 2 * slot, at, whole, 0);
        } else {
            self.describe(TX, 2 * slot, at, 50.min(whole), 1);
            self.describe(TX, 2 * slot + 1, at + 50.min(whole), whole.saturating_sub(50), 0);
        }
        self.publish(TX, 2 * slot);
    }

    fn post(&mut self, count: u8) {
        let free: Vec<_> = (0..BUFFERS).filter(|&n| !self.posted[usize::from(n)]).collect();
        for number in free.into_iter().take(count.into()) {
            self.posted[usize::from(number)] = true;
            self.describe(RX, number, BUFFERS_AT + BUFFER * u64::from(number), BUFFER, 2);
            self.publish(RX, number);
        }
    }

    fn program(&mut self, act: u8, input: &mut Input<'_>) {
        let (which, len) = (usize::from(input.u8()), usize::from(input.u16()));
        let which = which % self.programs.len();
        let Program { stream, got } = &mut self.programs[which];
        let Some(open) = stream.as_mut() else { return };
        match act {
            act::HOST_WRITE => {
                // As much as fits.
                let _ = open.write(&vec![which as u8; len]);
            }
            act::HOST_READ => {
                let mut bytes = vec![0; len];
                let count = open.read(&mut bytes).unwrap_or(0);
                for &byte in &bytes[..count] {
                    assert_eq!(*got.get_or_insert(byte), byte, "a byte of another stream");
                }
                let port = GUEST_PORT + which as u32;
                let expected = (which < STREAMS as usize).then(|| tag(port));
                assert!(got.is_none() || expected.is_none() || *got == expected);
            }
            act::HOST_CLOSE => *stream = None,
            act::HOST_END => {
                // A peer that is gone already is no matter.
                let _ = open.shutdown(Shutdown::Write);
            }
            _ => unreachable!("the others are the guest's"),
        }
    }

    /// Lets the device work until it has nothing to do.
    fn work(&mut self) {
        let done = (0..TURNS).any(|_| !self.devices.turn() && !self.devices.turn());
        assert!(done, "a device that has something to do for ever");
        while let Ok(stream) = self.door.try_recv() {
            if self.programs.len() < 64 {
                self.programs.push(Program { stream: Some(stream), got: None });
            }
        }
    }

    /// Takes what the device has used.
    fn collect(&mut self) {
        for queue in [RX, TX] {
            let used = QUEUE * queue + USED;
            let end: u16 = self.memory.read_obj(GuestAddress(used + 2)).expect("a ring");
            let mine = &mut self.used[queue as usize];
            let made = self.available[queue as usize].wrapping_sub(*mine);
            assert!(end.wrapping_sub(*mine) <= made, "more was used than was made available");
            let mut heads = Vec::new();
            while *mine != end {
                let at = used + 4 + 8 * u64::from(*mine % SIZE);
                let entry: [u32; 2] = self.memory.read_obj(GuestAddress(at)).expect("a ring");
                heads.push(entry);
                *mine = mine.wrapping_add(1);
            }
            if queue == RX {
                heads.into_iter().for_each(|[head, len]| self.receive(head, len));
            }
        }
    }

    fn receive(&mut self, head: u32, len: u32) {
        let number = usize::try_from(head).expect("a head");
        assert!(std::mem::take(&mut self.posted[number]), "a buffer that was not there");
        let len = len as usize;
        assert!((HEADER..=BUFFER as usize).contains(&len), "{len} bytes in a buffer");
        let mut bytes = vec![0; len];
        let at = GuestAddress(BUFFERS_AT + BUFFER * u64::from(head));
        self.memory.read_slice(&mut bytes, at).expect("a buffer");
        let (header, data) = (Header::decode(&bytes), &bytes[HEADER..]);
        assert_eq!((header.src_cid, header.dst_cid, header.kind), (HOST_CID, CID.into(), 1));
        assert_eq!(header.len as usize, data.len(), "{header:?}");
        assert!((op::REQUEST..=op::CREDIT_REQUEST).contains(&header.op), "{header:?}");
        if header.op == op::RW {
            let most = self.credit.get(&(header.dst_port, header.src_port)).copied().unwrap_or(0);
            assert!(header.len > 0 && header.len <= most, "{header:?} over a credit of {most}");
            assert!(data.iter().all(|byte| *byte == data[0]), "bytes of two streams");
        } else {
            assert_eq!(header.len, 0, "{header:?}");
        }
    }

    fn describe(&self, queue: u64, index: u16, at: u64, len: u64, flags: u16) {
        let out = Output::new().u64(at).u32(len as u32).u16(flags).u16(index + 1);
        self.store(QUEUE * queue + 16 * u64::from(index), &out.done());
    }

    fn publish(&mut self, queue: u64, head: u16) {
        let index = &mut self.available[queue as usize];
        let at = QUEUE * queue + AVAILABLE + 4 + 2 * u64::from(*index % SIZE);
        *index = index.wrapping_add(1);
        let index = *index;
        self.store(at, &head.to_le_bytes());
        self.store(QUEUE * queue + AVAILABLE + 2, &index.to_le_bytes());
        self.devices.transport(0).write(0x50, &(queue as u32).to_le_bytes());
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).expect("a place in memory");
    }

    /// A clone: the same memory and state, other programs.
    fn reload(&mut self) {
        self.devices.suspend();
        let states = self.devices.save();
        let (mut devices, programs, door) = devices(&self.memory);
        devices.load(states.clone()).expect("what was saved can be loaded");
        // How far a device came that waits for its reset is not kept.
        assert!(self.status() != 0xf || devices.save() == states, "{states:?} was not taken over");
        (self.devices, self.programs, self.door) = (devices, programs, door);
        self.devices.resume();
    }
}

fn devices(memory: &GuestMemory) -> (ByHand, Vec<Program>, Receiver<UnixStream>) {
    let (sender, door) = channel();
    let (mut programs, mut streams) = (Vec::new(), Vec::new());
    for port in GUEST_PORT..GUEST_PORT + STREAMS {
        let (ours, theirs) = pair();
        programs.push(Program { stream: Some(ours), got: None });
        streams.push((port, theirs));
    }
    let host_ports = Box::new(Door(sender));
    let host = VsockHost { cid: CID, listener: None, streams, host_ports };
    let devices = ByHand::new(memory.clone(), vec![Backend::Vsock(host)]).expect("a device");
    (devices, programs, door)
}

/// The value of the bytes that a guest port sends.
fn tag(guest_port: u32) -> u8 {
    0x40 | guest_port as u8
}

/// A packet from the guest.
fn send(out: Output, op: u16, guest: u8, host: u8, len: u16) -> Output {
    let out = out.u8(act::SEND).u8(op as u8).u8(guest).u8(host).u16(len).u8(0);
    out.u8(0x80 | 3).u32(1 << 16).u32(0)
}

/// Something that the host does.
fn does(out: Output, act: u8, which: u8, len: u16) -> Output {
    out.u8(act).u8(which).u16(len)
}

pub fn seeds() -> Seeds {
    let start = |event_idx: u8| Output::new().u8(event_idx).u8(act::POST).u8(16);
    let open = |event_idx| send(start(event_idx), op::RESPONSE, 0, 0, 0);
    let talk = does(send(open(1), op::RW, 0, 0, 3000), act::HOST_READ, 0, 3000);
    let talk = does(talk, act::HOST_WRITE, 0, 9000).u8(act::POST).u8(16);
    let close = send(talk.clone(), op::SHUTDOWN, 0, 0, 0);
    let connect = send(start(0), op::REQUEST, 5, 0x80 + 9, 0);
    let connect = send(connect, op::RW, 5, 0x80 + 9, 100);
    let connect = does(does(connect, act::HOST_WRITE, 3, 50), act::HOST_READ, 3, 100);
    let ended = does(does(open(0), act::HOST_END, 0, 0), act::HOST_CLOSE, 1, 0);
    let credit = send(send(open(0), op::CREDIT_UPDATE, 0, 0, 0), op::CREDIT_REQUEST, 0, 0, 0);
    let lie = start(1).u8(act::SEND).u8(5).u8(0).u8(0).u16(100).u8(1).u8(0).u32(u32::MAX).u32(7);
    vec![
        ("talk", talk.clone().done()),
        ("close", close.done()),
        ("connect", connect.clone().done()),
        ("refused", send(start(0), op::REQUEST, 5, 0x80, 0).done()),
        ("ended-by-the-host", ended.done()),
        ("credit", credit.done()),
        ("lie", lie.done()),
        ("clone", send(talk.u8(act::RELOAD), op::RW, 0, 0, 10).done()),
        // As often as it takes to have more streams than a state may name, were they all kept.
        (
            "clones-without-buffers",
            [act::RELOAD; 180].into_iter().fold(Output::new().u8(0), Output::u8).done(),
        ),
        ("clone-of-a-connected", connect.u8(act::RELOAD).u8(act::POST).u8(16).done()),
    ]
}
