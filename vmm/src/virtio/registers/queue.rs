//! What the driver wrote about one queue (VIRTIO 1.3, §4.2.2: the registers behind QueueSel).

use virtio_queue::QueueState;

use super::super::state::{QueueV1, event_idx};

/// What the driver wrote about one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct QueueRegisters {
    /// Zero stands for a size that does not fit.
    pub(in super::super) size: u16,
    pub(in super::super) ready: bool,
    pub(in super::super) descriptors: u64,
    pub(in super::super) driver: u64,
    pub(in super::super) device: u64,
}

impl QueueRegisters {
    pub(super) const fn new(max: u16) -> Self {
        Self { size: max, ready: false, descriptors: 0, driver: 0, device: 0 }
    }

    /// The queue as the driver handed it over: positions at zero.
    pub(in super::super) fn queue_state(&self, max_size: u16, features: u64) -> QueueState {
        QueueState {
            max_size,
            next_avail: 0,
            next_used: 0,
            event_idx_enabled: event_idx(features),
            size: self.size,
            ready: self.ready,
            desc_table: self.descriptors,
            avail_ring: self.driver,
            used_ring: self.device,
        }
    }
}

impl From<&QueueV1> for QueueRegisters {
    fn from(saved: &QueueV1) -> Self {
        let &QueueV1 { size, ready, descriptors, driver, device, .. } = saved;
        Self { size, ready, descriptors, driver, device }
    }
}
