//! One split virtqueue (VIRTIO 1.3, §2.7) as the devices use it.
//!
//! A thin layer over `virtio_queue::Queue` that keeps two facts the devices would otherwise repeat:
//! whether the driver has been asked to kick (`armed`), so that nothing is written to the ring when
//! nothing changed — on a thawed clone such a write copies a page — and whether buffers were used
//! since the driver was last told (`used`).

#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueState, QueueT};

use super::device::Broken;
use crate::memory::GuestMemory;

/// A queue that the driver has set up.
#[derive(Debug)]
pub(super) struct Ring {
    queue: Queue,
    armed: bool,
    used: bool,
}

impl Ring {
    /// A queue that a driver has just set up, which kicks for its first buffer: its flags and
    /// `avail_event` are zero. `None` where the size is impossible, or a ring is misaligned or
    /// outside of guest memory.
    pub(super) fn new(state: QueueState, memory: &GuestMemory) -> Option<Self> {
        Self::at(state, true, memory)
    }

    /// A queue in the middle of its life.
    pub(super) fn at(state: QueueState, armed: bool, memory: &GuestMemory) -> Option<Self> {
        let queue = Queue::try_from(state).ok()?;
        queue.is_valid(memory).then_some(Self { queue, armed, used: false })
    }

    pub(super) const fn is_armed(&self) -> bool {
        self.armed
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The next chain the driver made available, or `None` where there is none.
    pub(super) fn pop<'m>(
        &mut self,
        memory: &'m GuestMemory,
    ) -> Result<Option<DescriptorChain<&'m GuestMemory>>, Broken> {
        let chain = self.queue.iter(memory).map_err(|_| Broken)?.next();
        if chain.is_some() && self.armed {
            self.queue.disable_notification(memory).map_err(|_| Broken)?;
            self.armed = false;
        }
        Ok(chain)
    }

    /// Puts the last `count` chains back that [`Ring::pop`] returned; none of them was used.
    pub(super) fn unpop(&mut self, count: usize) {
        for _ in 0..count {
            self.queue.go_to_previous_position();
        }
    }

    /// Returns a chain to the driver with `written` bytes in it.
    pub(super) fn push_used(
        &mut self,
        memory: &GuestMemory,
        head: u16,
        written: u32,
    ) -> Result<(), Broken> {
        self.used = true;
        self.queue.add_used(memory, head, written).map_err(|_| Broken)
    }

    /// Asks for a kick at the next buffer. True where buffers came in the meantime: look again.
    pub(super) fn arm(&mut self, memory: &GuestMemory) -> Result<bool, Broken> {
        if self.armed {
            return self.has_available(memory);
        }
        self.armed = true;
        self.queue.enable_notification(memory).map_err(|_| Broken)
    }

    /// Whether the driver wants to hear of the buffers used since the last call.
    pub(super) fn wants_interrupt(&mut self, memory: &GuestMemory) -> Result<bool, Broken> {
        if !std::mem::take(&mut self.used) {
            return Ok(false);
        }
        self.queue.needs_notification(memory).map_err(|_| Broken)
    }

    fn has_available(&self, memory: &GuestMemory) -> Result<bool, Broken> {
        let available = self.queue.avail_idx(memory, Ordering::Acquire).map_err(|_| Broken)?;
        Ok(available.0 != self.queue.next_avail())
    }
}
