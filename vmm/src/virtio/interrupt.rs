//! The interrupt of one device: the status bits of VIRTIO 1.3, §4.2.2 and an irqfd.
//!
//! Raising sets a bit and writes the eventfd; the vCPU thread reads and acknowledges bits. Both are
//! atomics, so that no lock lies between a device and its interrupt. The line is edge-triggered:
//! a bit that is set again before the guest acknowledged it still writes the eventfd, because a
//! driver may acknowledge after it has looked at the rings.

use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::EventFd;

/// Bits that exist; a saved state with others is refused.
pub(super) const STATUS_BITS: u32 = VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG;

/// Interrupt status register and line.
#[derive(Debug)]
pub(super) struct Interrupt {
    status: AtomicU32,
    line: EventFd,
}

impl Interrupt {
    pub(super) fn new(line: EventFd) -> Self {
        Self { status: AtomicU32::new(0), line }
    }

    /// A buffer was used.
    pub(super) fn used_buffer(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// The configuration changed, or the device needs a reset.
    pub(super) fn config_changed(&self) {
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    /// Fires the line again where bits are set, after a pause may have swallowed the edge.
    pub(super) fn replay(&self) {
        if self.status() != 0 {
            self.fire();
        }
    }

    pub(super) fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    pub(super) fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::SeqCst);
    }

    pub(super) fn set_status(&self, bits: u32) {
        self.status.store(bits & STATUS_BITS, Ordering::SeqCst);
    }

    fn raise(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::SeqCst);
        self.fire();
    }

    fn fire(&self) {
        // It fails only when the counter is full, that is, when the line is already asserted.
        let _ = self.line.write(1);
    }
}
