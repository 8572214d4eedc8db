//! The interrupt of one device: the status bits of VIRTIO 1.3, §4.2.2 and a line.
//!
//! Raising sets a bit and makes an edge; the vCPU thread reads and acknowledges bits, which are
//! atomic, so that no lock of ours lies between a device and its interrupt. A bit that is set again before
//! the guest acknowledged it still makes an edge, because a driver may acknowledge after it has
//! looked at the rings.

use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

use crate::irq::IrqLine;

/// Bits that exist; a saved state with others is refused.
pub(super) const STATUS_BITS: u32 = VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG;

/// Interrupt status register and line.
#[derive(Debug)]
pub(super) struct Interrupt {
    status: AtomicU32,
    line: Box<dyn IrqLine>,
}

impl Interrupt {
    pub(super) fn new(line: Box<dyn IrqLine>) -> Self {
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
            self.line.raise();
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
        self.line.raise();
    }
}
