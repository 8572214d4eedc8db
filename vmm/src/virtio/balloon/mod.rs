//! Virtio memory balloon (VIRTIO 1.3, §5.5), for free page reporting alone: the guest's kernel tells of memory that
//! it has no use for, and the host has it back until the guest touches it again.
//!
//! The balloon itself is never blown up: the device asks for no pages, and takes what the two queues for that bring
//! without looking at it. The queues are numbered as Linux and QEMU do it: those of features that are not
//! offered are left out, so reporting is the third.
//!
//! Bounds: a turn takes [`TURN_CHAINS`] reports of [`DESCRIPTORS`] ranges each. What a guest reports is its own loss.

use std::sync::Arc;

use vmm_sys_util::epoll::EventSet;

use super::backend::Backend;
use super::chain::walk;
use super::device::{Broken, Device, Effects, Kind, MAX_QUEUES, Offer, Rings};
use super::error::{Error, StateError};
use super::state::PartState;
use crate::memory::{GuestMemory, Reclaim};

#[cfg(test)]
mod tests;

/// Feature bit of free page reporting (§5.5.3).
const F_REPORTING: u64 = 5;
/// Size of each queue in descriptors. A report of Linux has up to 32 ranges (`PAGE_REPORTING_CAPACITY` in
/// `include/linux/page_reporting.h`).
pub(super) const QUEUE_MAX: u16 = 64;
/// The queue that free pages are reported in.
const REPORTING: usize = 2;
/// Most ranges of one report.
const DESCRIPTORS: usize = QUEUE_MAX as usize;
/// Chains taken from each queue in one turn.
const TURN_CHAINS: usize = 16;
/// `num_pages` and `actual` (§5.5.4), both for ever zero: a balloon without air.
const CONFIG: [u8; 8] = [0; 8];

/// A balloon.
pub(super) struct Balloon {
    memory: Arc<GuestMemory>,
    rings: Rings,
    reclaim: Reclaim,
}

impl Balloon {
    pub(super) fn new(memory: Arc<GuestMemory>) -> Self {
        Self { memory, rings: [const { None }; MAX_QUEUES], reclaim: Reclaim::default() }
    }
}

impl Device for Balloon {
    fn attach(&mut self, _backend: Backend) -> Result<(), Error> {
        // Another machine's memory, or this one's in another state.
        self.reclaim = Reclaim::default();
        Ok(())
    }

    fn offer(&self) -> Offer<'_> {
        Offer { features: 1 << F_REPORTING, config: &CONFIG }
    }

    fn start(&mut self, rings: Rings, _features: u64) {
        self.rings = rings;
    }

    fn notice(&mut self, _token: u32, _what: EventSet) {}

    fn work(&mut self) -> Result<Effects, Broken> {
        let mut effects = Effects::default();
        for (index, ring) in self.rings.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            let mut chains = 0;
            effects.more |= loop {
                if chains == TURN_CHAINS {
                    break true;
                }
                let Some(mut chain) = ring.pop(&self.memory)? else {
                    if ring.arm(&self.memory)? {
                        continue;
                    }
                    break false;
                };
                let head = chain.head_index();
                walk(&mut chain, DESCRIPTORS, |range| {
                    if index == REPORTING && range.is_write_only() {
                        self.reclaim.discard(&self.memory, range.addr(), range.len());
                    }
                    Ok(())
                })?;
                ring.push_used(&self.memory, head, 0)?;
                chains += 1;
            };
            effects.interrupt |= ring.wants_interrupt(&self.memory)?;
        }
        Ok(effects)
    }

    fn stop(&mut self) -> Rings {
        std::mem::take(&mut self.rings)
    }

    fn reset(&mut self) {
        self.rings = [const { None }; MAX_QUEUES];
    }

    fn save(&self) -> PartState {
        PartState::Balloon
    }

    fn check(&self, part: &PartState) -> Result<(), StateError> {
        match part.kind() {
            Kind::Balloon => Ok(()),
            got => Err(StateError::Kind { wanted: Kind::Balloon, got }),
        }
    }

    /// A balloon has nothing of its own to take over.
    fn load(&mut self, _part: PartState) {}
}
