//! A queue in the guest's memory (VIRTIO 1.3, §2.7), written by the test before the guest runs, and how a script starts a
//! device with it (§3.1.1, §4.2.3).

use calve_vmm::memory::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

use crate::host::{DISK, register};
use crate::script::Script;

/// Registers of virtio-mmio (§4.2.2).
pub(crate) mod mmio {
    pub(crate) const DRIVER_FEATURES: u64 = 0x20;
    pub(crate) const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub(crate) const QUEUE_SEL: u64 = 0x30;
    pub(crate) const QUEUE_SIZE: u64 = 0x38;
    pub(crate) const QUEUE_READY: u64 = 0x44;
    pub(crate) const QUEUE_NOTIFY: u64 = 0x50;
    pub(crate) const STATUS: u64 = 0x70;
    pub(crate) const QUEUE_DESC: u64 = 0x80;
    pub(crate) const QUEUE_DRIVER: u64 = 0x90;
    pub(crate) const QUEUE_DEVICE: u64 = 0xa0;
}

/// Flags of a descriptor (§2.7.5).
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;
/// `DEVICE_NEEDS_RESET` (§2.1).
pub(crate) const NEEDS_RESET: u32 = 0x40;

/// Where the parts of a queue are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) index: u32,
    pub(crate) size: u32,
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
}

impl Queue {
    /// One of 16 descriptors, in memory from `at` on; it takes 12 KiB.
    pub(crate) fn at(index: u32, at: u64) -> Self {
        let (available, used) = (at + 0x1000, at + 0x2000);
        Self { index, size: 16, descriptors: at, available, used }
    }

    pub(crate) fn describe(
        &self,
        memory: &GuestMemory,
        index: u16,
        (at, len): (u64, u32),
        flags: u16,
        next: u16,
    ) {
        let place = GuestAddress(self.descriptors + 16 * u64::from(index));
        memory.write_obj(at, place).unwrap();
        memory.write_obj(len, place.0.checked_add(8).map(GuestAddress).unwrap()).unwrap();
        memory.write_obj(flags, GuestAddress(place.0 + 12)).unwrap();
        memory.write_obj(next, GuestAddress(place.0 + 14)).unwrap();
    }

    /// Makes chains available, from the first place of the ring on.
    pub(crate) fn offer(&self, memory: &GuestMemory, heads: &[u16]) {
        for (place, head) in (0..).zip(heads) {
            memory.write_obj(*head, GuestAddress(self.available + 4 + 2 * place)).unwrap();
        }
        self.publish(memory, u16::try_from(heads.len()).unwrap());
    }

    /// Says how many chains were made available.
    pub(crate) fn publish(&self, memory: &GuestMemory, index: u16) {
        memory.write_obj(index, GuestAddress(self.available + 2)).unwrap();
    }

    /// How many chains the device has used.
    pub(crate) fn used(&self, memory: &GuestMemory) -> u16 {
        memory.read_obj(GuestAddress(self.used + 2)).unwrap()
    }
}

impl Script {
    /// Sets a register of a device.
    pub(crate) fn set(self, device: u64, offset: u64, value: u32) -> Self {
        self.write(register(device, offset), value)
    }

    /// Resets a device and starts it with these queues.
    pub(crate) fn start(self, device: u64, features: u32, queues: &[Queue]) -> Self {
        let mut script = self;
        for status in [0, 1, 3] {
            script = script.set(device, mmio::STATUS, status);
        }
        // VIRTIO_F_VERSION_1 is bit 32.
        for (half, bits) in [(1, 1), (0, features)] {
            script = script.set(device, mmio::DRIVER_FEATURES_SEL, half).set(
                device,
                mmio::DRIVER_FEATURES,
                bits,
            );
        }
        script = script.set(device, mmio::STATUS, 0xb);
        for queue in queues {
            script = script.set(device, mmio::QUEUE_SEL, queue.index).set(
                device,
                mmio::QUEUE_SIZE,
                queue.size,
            );
            for (offset, at) in [
                (mmio::QUEUE_DESC, queue.descriptors),
                (mmio::QUEUE_DRIVER, queue.available),
                (mmio::QUEUE_DEVICE, queue.used),
            ] {
                let half = |at: u64| u32::try_from(at & u64::from(u32::MAX)).unwrap();
                let (low, high) = (half(at), half(at >> 32));
                script = script.set(device, offset, low).set(device, offset + 4, high);
            }
            script = script.set(device, mmio::QUEUE_READY, 1);
        }
        script.set(device, mmio::STATUS, 0xf)
    }

    pub(crate) fn notify(self, device: u64, queue: u32) -> Self {
        self.set(device, mmio::QUEUE_NOTIFY, queue)
    }
}

/// A request of a disk: header, 512 bytes of data, status.
pub(crate) struct Request {
    pub(crate) queue: Queue,
    at: u64,
}

impl Request {
    /// One whose queue and buffers are in 24 KiB of memory from `at` on.
    pub(crate) fn at(at: u64) -> Self {
        Self { queue: Queue::at(0, at), at }
    }

    /// Address of the data.
    pub(crate) fn data(&self) -> u64 {
        self.at + 0x4000
    }

    /// Address of the status.
    pub(crate) fn status(&self) -> u64 {
        self.at + 0x5000
    }

    /// Writes a request of a kind (§5.2.6) for the first sector.
    pub(crate) fn prepare(&self, memory: &GuestMemory, kind: u32) {
        let header = self.at + 0x3000;
        memory.write_obj(u64::from(kind), GuestAddress(header)).unwrap();
        memory.write_obj(0_u64, GuestAddress(header + 8)).unwrap();
        let direction = if kind == 0 { WRITE } else { 0 };
        self.queue.describe(memory, 0, (header, 16), NEXT, 1);
        self.queue.describe(memory, 1, (self.data(), 512), NEXT | direction, 2);
        self.queue.describe(memory, 2, (self.status(), 1), WRITE, 0);
        self.queue.offer(memory, &[0]);
    }
}

/// Memory of the last request of a guest, which shows that it and its devices are well.
const LAST: u64 = 0x3e_0000;

impl Script {
    /// Reads a sector of the read-only disk as a driver should, and resets the machine.
    pub(crate) fn read_and_reset(self) -> Self {
        let last = Request::at(LAST);
        self.start(DISK, 0, &[last.queue])
            .notify(DISK, 0)
            .wait_until(last.queue.used + 2, 1)
            .reset()
    }
}

/// Writes what [`Script::read_and_reset`] needs.
pub(crate) fn prepare_last(memory: &GuestMemory) {
    Request::at(LAST).prepare(memory, 0);
}

/// The sector that it has read.
pub(crate) fn last_data(memory: &GuestMemory) -> [u8; 512] {
    let mut bytes = [0; 512];
    memory.read_slice(&mut bytes, GuestAddress(Request::at(LAST).data())).unwrap();
    bytes
}
