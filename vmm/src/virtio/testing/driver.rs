//! The driver's half of the MMIO transport: the probe of Linux's `virtio_mmio`, kicks, interrupts.

use std::sync::Arc;
use std::time::Instant;

use virtio_bindings::virtio_mmio as mmio;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::rig::{DEADLINE, Rig, readable};
use super::vring::{Buffer, DriverRing};
use crate::virtio::Transport;

/// Where rings are laid out; buffers start at `BUFFERS`.
const RINGS: u64 = 0x1_0000;
pub(crate) const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
pub(crate) const VERSION_1: u64 = 1 << 32;

/// A driver bound to one device.
pub(crate) struct Driver {
    transport: Arc<Transport>,
    slot: usize,
    pub(crate) rings: Vec<DriverRing>,
    /// Features the device offers.
    pub(crate) offered: u64,
}

impl Driver {
    /// Probes the device in `slot` of a running rig, accepting all of the offer but `refuse`.
    pub(crate) fn probe(rig: &Rig, slot: usize, refuse: u64) -> Self {
        let mut driver =
            Self { transport: rig.transport(slot), slot, rings: Vec::new(), offered: 0 };
        assert_eq!(driver.read(mmio::VIRTIO_MMIO_MAGIC_VALUE), 0x7472_6976);
        assert_eq!(driver.read(mmio::VIRTIO_MMIO_VERSION), 2);
        assert_eq!(driver.read(mmio::VIRTIO_MMIO_DEVICE_ID), driver.transport.kind().id());
        driver.set_up(rig, refuse);
        driver
    }

    /// Resets the device and sets it up; the part of a probe that may be repeated.
    pub(crate) fn set_up(&mut self, rig: &Rig, refuse: u64) {
        self.reset();
        self.write(mmio::VIRTIO_MMIO_STATUS, 1);
        self.write(mmio::VIRTIO_MMIO_STATUS, 3);
        self.offered = self.features();
        let accepted = self.offered & !refuse;
        self.write(mmio::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        self.write(mmio::VIRTIO_MMIO_DRIVER_FEATURES, (accepted >> 32) as u32);
        self.write(mmio::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
        self.write(mmio::VIRTIO_MMIO_DRIVER_FEATURES, accepted as u32);
        self.write(mmio::VIRTIO_MMIO_STATUS, 0xb);
        assert_eq!(self.read(mmio::VIRTIO_MMIO_STATUS), 0xb, "features refused");
        self.rings.clear();
        let mut base = RINGS + 0x1_0000 * self.slot as u64;
        for index in 0..self.transport.kind().queues() {
            self.write(mmio::VIRTIO_MMIO_QUEUE_SEL, index as u32);
            assert_eq!(self.read(mmio::VIRTIO_MMIO_QUEUE_READY), 0);
            let size = self.read(mmio::VIRTIO_MMIO_QUEUE_NUM_MAX) as u16;
            let (ring, end) = DriverRing::new(&rig.memory, base, size, accepted & EVENT_IDX != 0);
            base = end;
            self.describe(&ring);
            self.rings.push(ring);
        }
        self.write(mmio::VIRTIO_MMIO_STATUS, 0xf);
    }

    /// Hands the selected queue over.
    fn describe(&self, ring: &DriverRing) {
        self.write(mmio::VIRTIO_MMIO_QUEUE_NUM, ring.size.into());
        for (register, address) in [
            (mmio::VIRTIO_MMIO_QUEUE_DESC_LOW, ring.descriptors),
            (mmio::VIRTIO_MMIO_QUEUE_AVAIL_LOW, ring.available),
            (mmio::VIRTIO_MMIO_QUEUE_USED_LOW, ring.used),
        ] {
            self.write(register, address as u32);
            self.write(register + 4, (address >> 32) as u32);
        }
        self.write(mmio::VIRTIO_MMIO_QUEUE_READY, 1);
    }

    pub(crate) fn features(&self) -> u64 {
        self.write(mmio::VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
        let high = u64::from(self.read(mmio::VIRTIO_MMIO_DEVICE_FEATURES));
        self.write(mmio::VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
        high << 32 | u64::from(self.read(mmio::VIRTIO_MMIO_DEVICE_FEATURES))
    }

    pub(crate) fn reset(&self) {
        self.write(mmio::VIRTIO_MMIO_STATUS, 0);
        assert_eq!(self.read(mmio::VIRTIO_MMIO_STATUS), 0);
    }

    /// The same driver in another machine that its memory and device state were loaded into.
    pub(crate) fn move_to(&mut self, rig: &Rig) {
        self.transport = rig.transport(self.slot);
    }

    pub(crate) fn status(&self) -> u32 {
        self.read(mmio::VIRTIO_MMIO_STATUS)
    }

    pub(crate) fn config<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.transport.read(u64::from(mmio::VIRTIO_MMIO_CONFIG) + offset, &mut bytes);
        bytes
    }

    pub(crate) fn read(&self, register: u32) -> u32 {
        let mut word = [0; 4];
        self.transport.read(register.into(), &mut word);
        u32::from_le_bytes(word)
    }

    pub(crate) fn write(&self, register: u32, value: u32) {
        self.transport.write(register.into(), &value.to_le_bytes());
    }

    /// Adds a chain and kicks where the device asks for it.
    pub(crate) fn submit(&mut self, rig: &Rig, queue: usize, buffers: &[Buffer]) -> u16 {
        let head = self.rings[queue].add(buffers);
        self.kick(rig, queue);
        head
    }

    /// Kicks the way an ioeventfd does, where the device asks for it.
    pub(crate) fn kick(&mut self, rig: &Rig, queue: usize) {
        if self.rings[queue].wants_kick() {
            rig.wires[self.slot].kicks[queue].write(1).unwrap();
        }
    }

    /// Handles an interrupt that comes before `until`: reads and acknowledges its status.
    pub(crate) fn interrupt(&self, rig: &Rig, until: Instant) -> Option<u32> {
        let irq = &rig.wires[self.slot].irq;
        if !readable(irq, until) {
            return None;
        }
        irq.read().unwrap();
        let status = self.read(mmio::VIRTIO_MMIO_INTERRUPT_STATUS);
        self.write(mmio::VIRTIO_MMIO_INTERRUPT_ACK, status);
        Some(status)
    }

    /// The next used chain of a queue, found after interrupts only.
    pub(crate) fn used(&mut self, rig: &Rig, queue: usize) -> (u16, u32) {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(used) = self.rings[queue].take_used() {
                return used;
            }
            assert!(self.interrupt(rig, until).is_some(), "no interrupt for queue {queue}");
        }
    }
}
