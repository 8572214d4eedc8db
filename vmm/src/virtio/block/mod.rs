//! Virtio block device (VIRTIO 1.3, §5.2): one queue, one disk, requests done in order.
//!
//! Requests run synchronously on the device thread: the images are in the host's page cache or
//! will be after one read, and the copy between page cache and guest memory is the work. `preadv`
//! and `pwritev` move the data between the file and the guest's own buffers.
//!
//! Bounds: a request is at most [`SEG_MAX`] segments of [`SIZE_MAX`] bytes, which the driver is
//! told; a turn ends after [`TURN_BYTES`] so that a busy disk does not starve the vsock.

mod config;
mod request;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_ID_BYTES,
};
use vmm_sys_util::epoll::EventSet;

use super::backend::{Access, Backend, Disk};
use super::device::{Broken, Device, Effects, Kind, MAX_QUEUES, Offer, Rings};
use super::error::{Error, StateError};
use super::state::PartState;
use crate::memory::GuestMemory;
use config::Config;
use request::Requests;

/// Size of the queue in descriptors: two requests of the largest kind, or forty of one page.
pub(super) const QUEUE_MAX: u16 = 128;
/// Unit of addresses and sizes on a disk, in bytes (§5.2.4).
const SECTOR: u64 = 512;
/// Most data segments of one request.
const SEG_MAX: u32 = 62;
/// Most bytes of one segment; also what Linux takes where a device says nothing.
const SIZE_MAX: u32 = 64 * 1024;
/// Bytes moved in one turn, where every request counts as [`REQUEST_COST`] at least.
const TURN_BYTES: usize = 8 * 1024 * 1024;
const REQUEST_COST: usize = 64 * 1024;

/// A block device.
pub(super) struct Block {
    memory: Arc<GuestMemory>,
    medium: Option<Medium>,
    config: Config,
    rings: Rings,
    requests: Requests,
}

/// An attached disk.
pub(super) struct Medium {
    file: File,
    /// Bytes of the file; the rest of the disk is zeros.
    held: u64,
    sectors: u64,
    access: Access,
    id: [u8; VIRTIO_BLK_ID_BYTES as usize],
    /// The driver does not flush, so every write must be durable when it completes (§5.2.6.2).
    write_through: bool,
}

impl Block {
    pub(super) fn new(memory: Arc<GuestMemory>) -> Self {
        let requests = Requests::new(&memory);
        let rings = [const { None }; MAX_QUEUES];
        Self { memory, medium: None, config: Config::new(0), rings, requests }
    }
}

impl Medium {
    fn open(Disk { mut file, access, id, room }: Disk) -> Result<Self, Error> {
        // Seeking finds the size of block devices, too.
        let bytes = match file.seek(SeekFrom::End(0)) {
            Ok(bytes) => bytes,
            Err(source) => return Err(Error::DiskSize { id, source }),
        };
        if !bytes.is_multiple_of(SECTOR) {
            return Err(Error::DiskTail { id, bytes });
        }
        let size = if access == Access::ReadOnly { bytes.max(room) } else { bytes };
        let mut serial = [0; VIRTIO_BLK_ID_BYTES as usize];
        let len = id.len().min(serial.len());
        serial[..len].copy_from_slice(&id.as_bytes()[..len]);
        let sectors = size / SECTOR;
        Ok(Self { file, held: bytes, sectors, access, id: serial, write_through: true })
    }
}

impl Device for Block {
    fn attach(&mut self, backend: Backend) -> Result<(), Error> {
        self.medium = None;
        if let Backend::Block(disk) = backend {
            let medium = Medium::open(disk)?;
            self.config = Config::new(medium.sectors);
            self.medium = Some(medium);
        }
        Ok(())
    }

    fn offer(&self) -> Offer<'_> {
        let always =
            1 << VIRTIO_BLK_F_SIZE_MAX | 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE;
        let features = match self.medium.as_ref().map(|medium| medium.access) {
            Some(Access::ReadWrite) => always | 1 << VIRTIO_BLK_F_FLUSH,
            Some(Access::ReadOnly) | None => always | 1 << VIRTIO_BLK_F_RO,
        };
        Offer { features, config: self.config.bytes() }
    }

    fn start(&mut self, rings: Rings, features: u64) {
        self.rings = rings;
        if let Some(medium) = &mut self.medium {
            medium.write_through = features & 1 << VIRTIO_BLK_F_FLUSH == 0;
        }
    }

    /// A disk has no descriptor that it waits for.
    fn notice(&mut self, _token: u32, _what: EventSet) {}

    fn work(&mut self) -> Result<Effects, Broken> {
        let (Some(medium), [Some(ring), ..]) = (&self.medium, &mut self.rings) else {
            return Ok(Effects::default());
        };
        let mut moved = 0;
        let more = loop {
            let Some(mut chain) = ring.pop(&self.memory)? else {
                if ring.arm(&self.memory)? {
                    continue;
                }
                break false;
            };
            let head = chain.head_index();
            let written = self.requests.serve(&mut chain, &self.memory, medium)?;
            ring.push_used(&self.memory, head, written)?;
            moved += self.requests.bytes().max(REQUEST_COST);
            if moved >= TURN_BYTES {
                break true;
            }
        };
        Ok(Effects { interrupt: ring.wants_interrupt(&self.memory)?, more })
    }

    fn stop(&mut self) -> Rings {
        std::mem::take(&mut self.rings)
    }

    fn reset(&mut self) {
        self.rings = [const { None }; MAX_QUEUES];
    }

    fn save(&self) -> PartState {
        PartState::Block { sectors: self.medium.as_ref().map_or(0, |medium| medium.sectors) }
    }

    fn check(&self, part: &PartState) -> Result<(), StateError> {
        let attached = self.medium.as_ref().map_or(0, |medium| medium.sectors);
        match *part {
            PartState::Block { sectors: saved } if saved != attached => {
                Err(StateError::Capacity { saved, attached })
            }
            PartState::Block { .. } => Ok(()),
            PartState::Vsock { .. } | PartState::Balloon => {
                Err(StateError::Kind { wanted: Kind::Block, got: part.kind() })
            }
        }
    }

    /// A disk has nothing of its own to take over.
    fn load(&mut self, _part: PartState) {}
}
