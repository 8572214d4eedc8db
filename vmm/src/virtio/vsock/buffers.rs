//! Receive buffers of the guest, gathered for one read over many of them.
//!
//! Headers and payload are two byte strings over the same buffers: the payload is filled by one
//! `recvmsg`, and only then is it known how many headers there are to write.

use std::sync::Arc;

use vm_memory::GuestAddress;

use super::super::chain::walk;
use super::super::device::Broken;
use super::super::ring::Ring;
use super::super::scatter::Scatter;
use super::header::{HEADER, Header};
use crate::memory::GuestMemory;

/// Receive buffers gathered for a read: few where little comes, doubled while reads fill them.
/// 32 buffers of Linux (just below 4 KiB each) hold more than `TURN_BYTES`.
pub(super) const BURST: std::ops::RangeInclusive<usize> = 2..=32;
/// Most descriptors of one receive buffer; Linux uses one or two.
const DESCRIPTORS: usize = 8;

/// Receive buffers of the guest, taken from the ring for one read or one packet.
pub(super) struct Buffers {
    /// [`HEADER`] bytes of each, one after the other.
    headers: Scatter,
    /// The rest of each.
    payload: Scatter,
    /// Head and payload room of each.
    heads: Vec<(u16, usize)>,
}

impl Buffers {
    pub(super) fn new(memory: &Arc<GuestMemory>) -> Self {
        let scatter = || Scatter::new(Arc::clone(memory), BURST.end() * 2);
        Self { headers: scatter(), payload: scatter(), heads: Vec::with_capacity(*BURST.end()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Where payload goes.
    pub(super) const fn payload(&self) -> &Scatter {
        &self.payload
    }

    /// Takes up to `count` buffers, or fewer where they have room for `bytes`.
    pub(super) fn take(
        &mut self,
        ring: &mut Ring,
        memory: &GuestMemory,
        count: usize,
        bytes: usize,
    ) -> Result<(), Broken> {
        self.headers.clear();
        self.payload.clear();
        self.heads.clear();
        while self.heads.len() < count && (self.heads.is_empty() || self.payload.len() < bytes) {
            let Some(mut chain) = ring.pop(memory)? else { break };
            let head = chain.head_index();
            let before = self.payload.len();
            let mut wanted = HEADER;
            walk(&mut chain, DESCRIPTORS, |descriptor| {
                if !descriptor.is_write_only() {
                    return Err(Broken);
                }
                let (address, len) = (descriptor.addr(), descriptor.len() as usize);
                let header = wanted.min(len);
                wanted -= header;
                self.headers.push(address, header).map_err(|_| Broken)?;
                let rest = address.0.checked_add(header as u64).ok_or(Broken)?;
                self.payload.push(GuestAddress(rest), len - header).map_err(|_| Broken)
            })?;
            let room = self.payload.len() - before;
            if wanted > 0 || (bytes > 0 && room == 0) {
                return Err(Broken);
            }
            self.heads.push((head, room));
        }
        self.payload.truncate(bytes);
        Ok(())
    }

    /// Returns the buffers: `bytes` of payload under copies of `header`, the others as they were.
    pub(super) fn give(
        &mut self,
        ring: &mut Ring,
        memory: &GuestMemory,
        header: Header,
        bytes: u32,
    ) -> Result<usize, Broken> {
        let mut rest = bytes;
        let mut used = 0;
        for &(head, room) in &self.heads {
            let len = u32::try_from(room).unwrap_or(u32::MAX).min(rest);
            self.headers.write(&Header { len, ..header }.to_bytes());
            #[allow(clippy::cast_possible_truncation)] // 44
            ring.push_used(memory, head, HEADER as u32 + len)?;
            used += 1;
            rest -= len;
            if rest == 0 {
                break;
            }
        }
        ring.unpop(self.heads.len() - used);
        Ok(used)
    }

    /// Puts all buffers back.
    pub(super) fn put_back(&self, ring: &mut Ring) {
        ring.unpop(self.heads.len());
    }
}
