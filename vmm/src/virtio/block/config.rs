//! Config space of a block device (VIRTIO 1.3, §5.2.4).

use std::mem::offset_of;
use virtio_bindings::virtio_blk::virtio_blk_config;

use super::{SECTOR, SEG_MAX, SIZE_MAX};

/// Ends behind `blk_size`, the last field of a feature we offer.
const LEN: usize = offset_of!(virtio_blk_config, blk_size) + size_of::<u32>();

/// The bytes of the config space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config([u8; LEN]);

impl Config {
    /// For a disk of that many sectors.
    pub(super) fn new(sectors: u64) -> Self {
        let mut bytes = [0; LEN];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(offset_of!(virtio_blk_config, capacity), &sectors.to_le_bytes());
        put(offset_of!(virtio_blk_config, size_max), &SIZE_MAX.to_le_bytes());
        put(offset_of!(virtio_blk_config, seg_max), &SEG_MAX.to_le_bytes());
        #[allow(clippy::cast_possible_truncation)] // 512
        put(offset_of!(virtio_blk_config, blk_size), &(SECTOR as u32).to_le_bytes());
        Self(bytes)
    }

    pub(super) const fn bytes(&self) -> &[u8] {
        &self.0
    }
}
