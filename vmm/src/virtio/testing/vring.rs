//! The driver's half of a split virtqueue (VIRTIO 1.3, §2.7).

use std::sync::atomic::{Ordering, fence};

use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestMemory;

/// A buffer of a chain: address, length, device-writable.
pub(crate) type Buffer = (u64, u32, bool);

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// A queue as its driver sees it.
#[derive(Clone)]
pub(crate) struct DriverRing {
    pub(crate) memory: GuestMemory,
    pub(crate) size: u16,
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    event_idx: bool,
    free: Vec<u16>,
    chains: Vec<Vec<u16>>,
    next_available: u16,
    last_used: u16,
    /// Where `next_available` stood when the device was last told.
    told: u16,
}

impl DriverRing {
    /// Lays a ring out at `base`; returns it and the first address behind it.
    pub(crate) fn new(memory: &GuestMemory, base: u64, size: u16, event_idx: bool) -> (Self, u64) {
        let entries = u64::from(size);
        let available = base + 16 * entries;
        let used = (available + 6 + 2 * entries).next_multiple_of(4);
        let end = (used + 6 + 8 * entries).next_multiple_of(4096);
        memory.write_slice(&vec![0; (end - base) as usize], GuestAddress(base)).unwrap();
        let ring = Self {
            memory: memory.clone(),
            size,
            descriptors: base,
            available,
            used,
            event_idx,
            free: (0..size).rev().collect(),
            chains: vec![Vec::new(); size.into()],
            next_available: 0,
            last_used: 0,
            told: 0,
        };
        (ring, end)
    }

    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Makes a chain available; returns its head.
    pub(crate) fn add(&mut self, buffers: &[Buffer]) -> u16 {
        let indices: Vec<_> = buffers.iter().map(|_| self.free.pop().unwrap()).collect();
        for (position, (&(address, len, writable), &index)) in
            buffers.iter().zip(&indices).enumerate()
        {
            let next = indices.get(position + 1).copied();
            let flags = if writable { WRITE } else { 0 } | if next.is_some() { NEXT } else { 0 };
            self.describe(index, Descriptor::new(address, len, flags, next.unwrap_or(0)));
        }
        let head = indices[0];
        self.chains[usize::from(head)] = indices;
        self.publish(head);
        head
    }

    /// Writes one descriptor, right or wrong.
    pub(crate) fn describe(&self, index: u16, descriptor: Descriptor) {
        let at = self.descriptors + 16 * u64::from(index);
        self.memory.write_obj(descriptor, GuestAddress(at)).unwrap();
    }

    /// Makes a head available, right or wrong.
    pub(crate) fn publish(&mut self, head: u16) {
        let at = self.available + 4 + 2 * u64::from(self.next_available % self.size);
        self.memory.write_obj(head, GuestAddress(at)).unwrap();
        self.next_available = self.next_available.wrapping_add(1);
        self.set_available_index(self.next_available);
    }

    pub(crate) fn set_available_index(&self, index: u16) {
        self.memory.store(index, GuestAddress(self.available + 2), Ordering::SeqCst).unwrap();
    }

    /// Whether the device wants a kick for what was added since the last call.
    pub(crate) fn wants_kick(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let (old, new) = (self.told, self.next_available);
        self.told = new;
        if !self.event_idx {
            return self.load(self.used) & 1 == 0;
        }
        let event = self.load(self.used + 4 + 8 * u64::from(self.size));
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }

    /// The next used chain: its head and the bytes written. Where there is none, an interrupt is
    /// asked for and the ring looked at once more.
    pub(crate) fn take_used(&mut self) -> Option<(u16, u32)> {
        if self.last_used == self.load(self.used + 2) {
            if self.event_idx {
                let at = self.available + 4 + 2 * u64::from(self.size);
                self.memory.store(self.last_used, GuestAddress(at), Ordering::SeqCst).unwrap();
            }
            fence(Ordering::SeqCst);
            if self.last_used == self.load(self.used + 2) {
                return None;
            }
        }
        let at = self.used + 4 + 8 * u64::from(self.last_used % self.size);
        let [head, len]: [u32; 2] = self.memory.read_obj(GuestAddress(at)).unwrap();
        self.last_used = self.last_used.wrapping_add(1);
        let head = u16::try_from(head).unwrap();
        self.free.append(&mut self.chains[usize::from(head)]);
        Some((head, len))
    }

    fn load(&self, address: u64) -> u16 {
        self.memory.load(GuestAddress(address), Ordering::SeqCst).unwrap()
    }
}
