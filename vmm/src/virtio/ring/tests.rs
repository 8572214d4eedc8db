//! The arithmetic of a ring against a model that counts without end: indices wrap at 2¹⁶ wherever a life begins.

use std::collections::VecDeque;

use proptest::prelude::*;
use virtio_queue::QueueState;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::super::chain::walk;
use super::Ring;
use crate::memory::GuestMemory;

const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x4000;
const USED: u64 = 0x5000;
const BUFFER: u64 = 0x8000;

/// What driver and device do.
#[derive(Clone, Debug)]
enum Act {
    /// The driver makes a chain available, where there is room.
    Add,
    /// The driver says that its index is so far from where the device is.
    Jump(u16),
    /// The device takes a chain.
    Pop,
    /// The device puts the last chains back that it took.
    Unpop(u8),
    /// The device uses the chain that it took first.
    Use(u32),
    /// The device asks for kicks.
    Arm,
    /// The driver asks for an interrupt so many entries from the last one used, or for none.
    Ask { ahead: u16, no_interrupt: bool },
    /// The device asks whether the driver wants to hear of it.
    Tell,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Add),
        1 => prop_oneof![0_u16..300, any::<u16>()].prop_map(Act::Jump),
        6 => Just(Act::Pop),
        1 => (0_u8..5).prop_map(Act::Unpop),
        5 => any::<u32>().prop_map(Act::Use),
        2 => Just(Act::Arm),
        2 => (prop_oneof![0_u16..5, any::<u16>()], any::<bool>())
            .prop_map(|(ahead, no_interrupt)| Act::Ask { ahead, no_interrupt }),
        3 => Just(Act::Tell),
    ]
}

/// Counts that do not wrap in the life of a test; what is in memory is their lower half.
struct Model {
    size: u64,
    event_idx: bool,
    added: u64,
    taken: u64,
    used: u64,
    told: u64,
    /// Heads that the device has, oldest first.
    held: VecDeque<u16>,
    armed: bool,
    used_event: u16,
}

fn low(count: u64) -> u16 {
    u16::try_from(count & 0xffff).unwrap()
}

fn write(memory: &GuestMemory, at: u64, value: u16) {
    memory.write_obj(value, GuestAddress(at)).unwrap();
}

fn read(memory: &GuestMemory, at: u64) -> u16 {
    memory.read_obj(GuestAddress(at)).unwrap()
}

fn live(size_log: u32, event_idx: bool, begin: u16, acts: &[Act]) -> Result<(), TestCaseError> {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
    let size = 1_u16 << size_log;
    for n in 0..size {
        let one = Descriptor::new(BUFFER + u64::from(n), 1, 0, 0);
        memory.write_obj(one, GuestAddress(DESCRIPTORS + 16 * u64::from(n))).unwrap();
    }
    let state = QueueState {
        max_size: 256,
        next_avail: begin,
        next_used: begin,
        event_idx_enabled: event_idx,
        size,
        ready: true,
        desc_table: DESCRIPTORS,
        avail_ring: AVAILABLE,
        used_ring: USED,
    };
    write(&memory, AVAILABLE + 2, begin);
    write(&memory, USED + 2, begin);
    let mut ring = Ring::at(state, true, &memory).unwrap();
    let start = u64::from(begin);
    let mut model = Model {
        size: size.into(),
        event_idx,
        added: start,
        taken: start,
        used: start,
        told: start,
        held: VecDeque::new(),
        armed: true,
        used_event: 0,
    };
    for act in acts {
        if !model.step(act, &mut ring, &memory)? {
            return Ok(());
        }
        prop_assert_eq!(read(&memory, USED + 2), low(model.used));
        prop_assert_eq!(ring.is_armed(), model.armed);
    }
    Ok(())
}

impl Model {
    /// False where the driver broke the ring, which is then over.
    fn step(
        &mut self,
        act: &Act,
        ring: &mut Ring,
        memory: &GuestMemory,
    ) -> Result<bool, TestCaseError> {
        match *act {
            Act::Add if self.added - self.used < self.size => {
                let slot = self.added % self.size;
                // Any head will do: each descriptor is a chain of its own.
                let head = low(self.added * 7 % self.size);
                write(memory, AVAILABLE + 4 + 2 * slot, head);
                self.added += 1;
                write(memory, AVAILABLE + 2, low(self.added));
            }
            Act::Add => {}
            Act::Jump(ahead) => {
                self.added = self.taken + u64::from(ahead);
                write(memory, AVAILABLE + 2, low(self.added));
            }
            Act::Pop => return self.pop(ring, memory),
            Act::Unpop(count) => {
                let count = usize::from(count).min(self.held.len());
                self.held.truncate(self.held.len() - count);
                self.taken -= count as u64;
                ring.unpop(count);
                prop_assert_eq!(virtio_queue::QueueT::next_avail(ring.queue()), low(self.taken));
            }
            Act::Use(len) => {
                let Some(head) = self.held.pop_front() else { return Ok(true) };
                ring.push_used(memory, head, len).unwrap();
                let at = USED + 4 + 8 * (self.used % self.size);
                let entry: [u32; 2] = memory.read_obj(GuestAddress(at)).unwrap();
                prop_assert_eq!(entry, [u32::from(head), len]);
                self.used += 1;
            }
            Act::Arm => {
                let more = ring.arm(memory).unwrap();
                prop_assert_eq!(more, low(self.added) != low(self.taken));
                if !self.event_idx {
                    prop_assert_eq!(read(memory, USED) & 1, 0);
                } else if !self.armed {
                    // The driver kicks when it has added the entry that the device is at.
                    let event = read(memory, USED + 4 + 8 * self.size);
                    prop_assert_eq!(event, low(self.taken));
                }
                self.armed = true;
            }
            Act::Ask { ahead, no_interrupt } => {
                self.used_event = low(self.used).wrapping_add(ahead);
                write(memory, AVAILABLE, no_interrupt.into());
                write(memory, AVAILABLE + 4 + 2 * self.size, self.used_event);
            }
            Act::Tell => {
                let wanted = self.wants_interrupt();
                prop_assert_eq!(ring.wants_interrupt(memory).unwrap(), wanted);
                self.told = self.used;
            }
        }
        Ok(true)
    }

    fn pop(&mut self, ring: &mut Ring, memory: &GuestMemory) -> Result<bool, TestCaseError> {
        let ahead = low(self.added - self.taken);
        let popped = ring.pop(memory);
        if u64::from(ahead) > self.size {
            prop_assert!(popped.is_err(), "{ahead} chains in a ring of {}", self.size);
            return Ok(false);
        }
        let Some(mut chain) = popped.unwrap() else {
            prop_assert_eq!(ahead, 0);
            return Ok(true);
        };
        prop_assert!(ahead > 0);
        let head = read(memory, AVAILABLE + 4 + 2 * (self.taken % self.size));
        prop_assert_eq!(chain.head_index(), head);
        let mut seen = 0;
        walk(&mut chain, 4, |descriptor| {
            seen += 1;
            assert_eq!(descriptor.addr().0, BUFFER + u64::from(head));
            Ok(())
        })
        .unwrap();
        prop_assert_eq!(seen, 1);
        self.held.push_back(head);
        self.taken += 1;
        self.armed = false;
        prop_assert!(self.event_idx || read(memory, USED) & 1 == 1, "kicks were not turned off");
        Ok(true)
    }

    /// Whether the entry that the driver waits for is one of those used since it was last told (§2.7.10).
    fn wants_interrupt(&self) -> bool {
        if self.used == self.told {
            return false;
        }
        if !self.event_idx {
            // The driver's flag only says that it can do without (§2.7.7.2: "SHOULD NOT"); virtio-queue ignores it.
            return true;
        }
        (self.told..self.used).any(|entry| low(entry) == self.used_event)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_counts_as_the_model_does(
        size_log in 0_u32..9,
        event_idx: bool,
        begin in prop_oneof![Just(0_u16), 0xfff0..=0xffff_u16, any::<u16>()],
        acts in prop::collection::vec(act(), 0..200),
    ) {
        live(size_log, event_idx, begin, &acts)?;
    }

    /// A chain is walked to its end or refused, whatever its table says, and never beyond the bound.
    #[test]
    fn a_walk_ends(
        links in prop::collection::vec((0_u16..20, 0_u16..8), 16),
        head in 0_u16..20,
        bound in 1_usize..40,
    ) {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        for (n, &(next, flags)) in (0_u64..).zip(&links) {
            let one = Descriptor::new(BUFFER, 16, flags & 3, next);
            memory.write_obj(one, GuestAddress(DESCRIPTORS + 16 * n)).unwrap();
        }
        write(&memory, AVAILABLE + 4, head);
        write(&memory, AVAILABLE + 2, 1);
        let state = QueueState {
            max_size: 16,
            next_avail: 0,
            next_used: 0,
            event_idx_enabled: false,
            size: 16,
            ready: true,
            desc_table: DESCRIPTORS,
            avail_ring: AVAILABLE,
            used_ring: USED,
        };
        let mut ring = Ring::new(state, &memory).unwrap();
        let mut seen = 0;
        let result = match ring.pop(&memory).unwrap() {
            None => return Ok(()),
            Some(mut chain) => walk(&mut chain, bound, |_| { seen += 1; Ok(()) }),
        };
        // The same by hand: at most 16 different descriptors before it ends or loops.
        let (mut at, mut writable, mut steps) = (head, false, 0);
        let whole = loop {
            let Some(&(next, flags)) = links.get(usize::from(at)) else { break false };
            if steps == bound || steps == 16 || (writable && flags & 2 == 0) {
                break false;
            }
            steps += 1;
            writable = flags & 2 != 0;
            if flags & 1 == 0 {
                break true;
            }
            at = next;
        };
        prop_assert_eq!(result.is_ok(), whole);
        prop_assert!(seen <= bound.min(16));
    }
}
