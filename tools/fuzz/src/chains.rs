//! A hostile driver of one device: descriptors, rings and buffers as the input says.
//!
//! The driver's registers are set up as they must be; everything in guest memory is the input's. What must hold after
//! each turn, whatever it says:
//!
//! - a queue never uses more than it took, nor takes more than was made available;
//! - guest memory changes in used rings and in buffers that the driver called writable, and nowhere else;
//! - a device is done after so many turns, each of which is bounded;
//! - a device that was saved and loaded is where it was.

use calve_vmm::fuzzing::{ByHand, GuestMemory, Position};
use calve_vmm::virtio::Backend;
use vm_memory::{Bytes, GuestAddress};

use crate::input::{Input, Output};
use crate::memory::{self, contents};

/// Descriptors of each queue.
const SIZE: u16 = 16;
/// Where queue *n* has its rings: descriptors, then available ring, then used ring.
const QUEUE: u64 = 0x400;
const AVAILABLE: u64 = 0x100;
const USED: u64 = 0x200;
/// Bytes of a used ring with its event index.
const USED_LEN: u64 = 6 + 8 * SIZE as u64;
/// Most records of an input that are looked at: many short inputs find more than few long ones.
const RECORDS: usize = 100;
/// Most turns after which a device must have done all that was asked: far more than 65,536 chains take.
const TURNS: usize = 10_000;

/// Most bytes of an indirect table that is followed to tell what may change.
const LARGEST_TABLE: u64 = 0x1000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Numbers of the records.
mod op {
    pub(super) const DESCRIBE: u8 = 0;
    pub(super) const PUBLISH: u8 = 1;
    pub(super) const INDEX: u8 = 2;
    pub(super) const EVENT: u8 = 3;
    pub(super) const STORE: u8 = 4;
    pub(super) const KICK: u8 = 5;
    pub(super) const RELOAD: u8 = 6;
    pub(super) const RESTART: u8 = 7;
    pub(super) const COUNT: u8 = 8;
}

/// A device under attack.
pub(crate) struct Attack<'a> {
    memory: GuestMemory,
    devices: ByHand,
    queues: usize,
    features: u64,
    /// Makes the same backend again, for a device that is loaded.
    backend: &'a dyn Fn() -> Option<Backend>,
    broken: bool,
}

/// Runs the input against a device that `backend` stands behind. `reused` says whether a chain that is taken is used
/// within the turn.
pub(crate) fn run(data: &[u8], backend: &dyn Fn() -> Option<Backend>, reused: bool) {
    let mut input = Input::new(data);
    // Event indices or none: the two ways to ask for notifications.
    let features = 1 << 32 | u64::from(input.u8() & 1) << 29;
    let memory = memory::zeroed();
    let Some(first) = backend() else { return };
    let queues = first.kind().queues();
    let devices = ByHand::new(memory.clone(), vec![first]).expect("a device");
    let mut attack = Attack { memory, devices, queues, features, backend, broken: false };
    attack.start();
    for _ in 0..RECORDS {
        if input.is_empty() {
            break;
        }
        attack.step(&mut input, reused);
    }
    attack.work(reused);
}

impl Attack<'_> {
    fn write(&self, register: u64, value: u32) {
        self.devices.transport(0).write(register, &value.to_le_bytes());
    }

    fn read(&self, register: u64) -> u32 {
        let mut word = [0; 4];
        self.devices.transport(0).read(register, &mut word);
        u32::from_le_bytes(word)
    }

    /// What a driver does that probes a device (VIRTIO 1.3, §3.1.1 and §4.2.3.2).
    fn start(&mut self) {
        self.write(0x70, 0);
        self.devices.resume();
        for status in [1, 3] {
            self.write(0x70, status);
        }
        for half in [0, 1] {
            self.write(0x24, half);
            self.write(0x20, (self.features >> (32 * half)) as u32);
        }
        self.write(0x70, 0xb);
        for queue in 0..self.queues {
            let base = queue as u32 * QUEUE as u32;
            self.write(0x30, queue as u32);
            self.write(0x38, SIZE.into());
            for (register, at) in [(0x80, base), (0x90, base + 0x100), (0xa0, base + 0x200)] {
                self.write(register, at);
            }
            self.write(0x44, 1);
        }
        self.write(0x70, 0xf);
        self.devices.turn();
        self.broken = self.read(0x70) & 0x40 != 0;
    }

    fn step(&mut self, input: &mut Input<'_>, reused: bool) {
        let (op, queue) = (input.u8() % op::COUNT, u64::from(input.u8()) % self.queues as u64);
        let base = queue * QUEUE;
        match op {
            op::DESCRIBE => {
                let index = u64::from(input.u8()) % u64::from(SIZE);
                let (at, len) = (input.u32(), input.u32());
                let (flags, next) = (u16::from(input.u8() & 7), u16::from(input.u8()));
                // The upper half is all ones or nothing: addresses at the end of 64 bits.
                let high = if flags & 7 == 7 { u64::MAX << 32 } else { 0 };
                self.store(base + 16 * index, &(high | u64::from(at)).to_le_bytes());
                self.store(base + 16 * index + 8, &len.to_le_bytes());
                self.store(base + 16 * index + 12, &flags.to_le_bytes());
                self.store(base + 16 * index + 14, &next.to_le_bytes());
            }
            op::PUBLISH => {
                let head = input.u16();
                let index = self.load(base + AVAILABLE + 2);
                let slot = u64::from(index % SIZE);
                self.store(base + AVAILABLE + 4 + 2 * slot, &head.to_le_bytes());
                self.store(base + AVAILABLE + 2, &index.wrapping_add(1).to_le_bytes());
            }
            op::INDEX => self.store(base + AVAILABLE + 2, &input.u16().to_le_bytes()),
            op::EVENT => {
                let (flags, event) = (input.u16(), input.u16());
                self.store(base + AVAILABLE, &flags.to_le_bytes());
                self.store(base + AVAILABLE + 4 + 2 * u64::from(SIZE), &event.to_le_bytes());
            }
            op::STORE => {
                let at = u64::from(input.u32());
                let bytes = input.bytes();
                // Where it does not fit, as much is stored as does.
                let _ = self.memory.write(bytes, GuestAddress(at));
            }
            op::KICK => {
                self.write(0x50, queue as u32);
                self.work(reused);
            }
            op::RELOAD => self.reload(),
            op::RESTART => self.start(),
            _ => unreachable!("a number below the count"),
        }
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).expect("a ring in memory");
    }

    fn load(&self, at: u64) -> u16 {
        self.memory.read_obj(GuestAddress(at)).expect("a ring in memory")
    }

    /// Lets the device work until it has nothing to do, and checks what it did.
    fn work(&mut self, reused: bool) {
        self.devices.suspend();
        let before = self.devices.positions(0);
        let available: Vec<_> =
            (0..self.queues as u64).map(|n| self.load(n * QUEUE + AVAILABLE + 2)).collect();
        let old = contents(&self.memory);
        let writable = self.writable();
        self.devices.resume();
        let done = (0..TURNS).any(|_| !self.devices.turn() && !self.devices.turn());
        assert!(done, "a device that has something to do for ever");
        self.devices.suspend();
        self.broken = self.read(0x70) & 0x40 != 0;
        if let Some(writable) = writable {
            check_memory(&old, &contents(&self.memory), &writable);
            for ((old, new), available) in
                before.iter().zip(self.devices.positions(0)).zip(available)
            {
                self.check_positions(old, &new, available, reused);
            }
        }
        self.devices.resume();
    }

    fn check_positions(&self, old: &Position, new: &Position, available: u16, reused: bool) {
        let taken = new.next_avail.wrapping_sub(old.next_avail);
        let used = new.next_used.wrapping_sub(old.next_used);
        let ahead = new.next_avail.wrapping_sub(new.next_used);
        let offered = available.wrapping_sub(old.next_avail);
        assert!(taken <= offered, "took {taken} of {offered}");
        assert!(!reused || used <= taken, "took {taken}, used {used}");
        assert!(ahead <= new.size, "{ahead} taken and not used");
        if !self.broken && reused {
            assert_eq!(used, taken, "what was taken was not used");
            assert_eq!(taken, offered, "something was left, and the device does not know");
        }
    }

    /// Guest memory that the device may change: ascending ranges; `None` where that cannot be told beforehand, because
    /// some of it is itself what says what may be changed.
    fn writable(&self) -> Option<Vec<(u64, u64)>> {
        let rings = self.queues as u64 * QUEUE;
        let mut ranges: Vec<_> = (0..self.queues as u64)
            .map(|n| (n * QUEUE + USED, n * QUEUE + USED + USED_LEN))
            .collect();
        let mut tables = vec![(0, rings)];
        for queue in 0..self.queues as u64 {
            for index in 0..u64::from(SIZE) {
                let (at, len, flags) = self.descriptor(queue * QUEUE + 16 * index)?;
                if flags & WRITE != 0 {
                    ranges.push((at, at.saturating_add(len)));
                }
                if flags & INDIRECT != 0 {
                    if len > LARGEST_TABLE {
                        return None;
                    }
                    tables.push((at, at.saturating_add(len)));
                    for entry in (0..len / 16).map(|n| at.checked_add(16 * n)) {
                        let Some((at, len, flags)) = entry.and_then(|at| self.descriptor(at))
                        else {
                            break;
                        };
                        if flags & WRITE != 0 {
                            ranges.push((at, at.saturating_add(len)));
                        }
                    }
                }
            }
        }
        let buffers = &ranges[self.queues..];
        let entangled = buffers
            .iter()
            .any(|range| tables.iter().any(|table| range.0 < table.1 && table.0 < range.1));
        // Used rings may lie in an indirect table, too.
        let under = tables[1..]
            .iter()
            .any(|table| ranges.iter().any(|range| range.0 < table.1 && table.0 < range.1));
        (!entangled && !under).then_some(ranges)
    }

    fn descriptor(&self, at: u64) -> Option<(u64, u64, u16)> {
        let bytes: [u8; 16] = self.memory.read_obj(GuestAddress(at)).ok()?;
        let (address, rest) = bytes.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (flags, _) = rest.split_first_chunk::<2>()?;
        let len = u32::from_le_bytes(*len).into();
        Some((u64::from_le_bytes(*address), len, u16::from_le_bytes(*flags)))
    }

    /// Moves the device's state into another device over the same memory.
    fn reload(&mut self) {
        self.devices.suspend();
        let states = self.devices.save();
        let Some(backend) = (self.backend)() else { return };
        let mut other = ByHand::new(self.memory.clone(), vec![backend]).expect("a device");
        other.load(states.clone()).expect("what was saved can be loaded");
        // Of a device that waits for its reset nobody wants to know how far it came.
        assert!(self.broken || other.save() == states, "{states:?} became {:?}", other.save());
        self.devices = other;
        self.devices.resume();
    }
}

fn check_memory(old: &[u8], new: &[u8], writable: &[(u64, u64)]) {
    // Most pages are as they were.
    let pages = old.chunks(4096).zip(new.chunks(4096)).enumerate();
    for (page, (old, new)) in pages.filter(|(_, (old, new))| old != new) {
        for (offset, (old, new)) in old.iter().zip(new).enumerate().filter(|(_, (a, b))| a != b) {
            let at = memory::address(4096 * page + offset);
            let allowed = writable.iter().any(|range| (range.0..range.1).contains(&at));
            assert!(allowed, "the byte at {at:#x} was {old:#x} and became {new:#x}");
        }
    }
}

/// A program for [`run`], for seeds.
pub(crate) struct Program(Output);

impl Program {
    pub(crate) fn new(event_idx: bool) -> Self {
        Self(Output::new().u8(event_idx.into()))
    }

    /// Puts bytes into memory.
    pub(crate) fn store(self, at: u32, bytes: &[u8]) -> Self {
        Self(self.0.u8(op::STORE).u8(0).u32(at).bytes(bytes))
    }

    /// Makes a chain of buffers (address, length, writable) from descriptor `first` on, and kicks.
    pub(crate) fn chain(self, queue: u8, first: u8, buffers: &[(u32, u32, bool)]) -> Self {
        let mut out = self.0;
        for (n, &(at, len, writable)) in (first..).zip(buffers) {
            let last = usize::from(n - first) + 1 == buffers.len();
            let flags = if last { 0 } else { NEXT } | if writable { WRITE } else { 0 };
            out = out.u8(op::DESCRIBE).u8(queue).u8(n).u32(at).u32(len);
            out = out.u8(flags as u8).u8(n + 1);
        }
        Self(out.u8(op::PUBLISH).u8(queue).u16(first.into()).u8(op::KICK).u8(queue))
    }

    /// Makes a chain of one indirect descriptor, whose table is in memory already.
    pub(crate) fn indirect(self, queue: u8, at: u32, len: u32) -> Self {
        let out = self.0.u8(op::DESCRIBE).u8(queue).u8(0).u32(at).u32(len).u8(INDIRECT as u8).u8(0);
        Self(out.u8(op::PUBLISH).u8(queue).u16(0).u8(op::KICK).u8(queue))
    }

    /// Sets the index of the available ring.
    pub(crate) fn index(self, queue: u8, index: u16) -> Self {
        Self(self.0.u8(op::INDEX).u8(queue).u16(index).u8(op::KICK).u8(queue))
    }

    /// Sets flags and event index of the available ring.
    pub(crate) fn event(self, queue: u8, flags: u16, event: u16) -> Self {
        Self(self.0.u8(op::EVENT).u8(queue).u16(flags).u16(event))
    }

    pub(crate) fn reload(self) -> Self {
        Self(self.0.u8(op::RELOAD).u8(0))
    }

    pub(crate) fn restart(self) -> Self {
        Self(self.0.u8(op::RESTART).u8(0))
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0.done()
    }
}
