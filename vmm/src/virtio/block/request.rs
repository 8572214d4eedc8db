//! One block request (VIRTIO 1.3, §5.2.6): header, data, status byte.
//!
//! The specification lets a driver cut these into descriptors as it likes: the header is the first
//! 16 readable bytes, the status the last writable one, and the data what lies between. A chain in
//! which they cannot be found breaks the queue; every other mistake is answered in the status.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress};

use super::super::chain::walk;
use super::super::device::Broken;
use super::super::scatter::Scatter;
use super::{Access, Medium, SECTOR, SEG_MAX, SIZE_MAX};
use crate::memory::GuestMemory;

/// Bytes of `struct virtio_blk_req` before the data.
const HEADER: usize = 16;
/// Most descriptors of one request: the data segments, header and status.
const DESCRIPTORS: usize = SEG_MAX as usize + 2;
/// Most data bytes of one request.
const DATA_MAX: usize = SEG_MAX as usize * SIZE_MAX as usize;

/// Why a request failed, as its status tells the driver.
enum Failure {
    Io,
    Unsupported,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// Serves requests one after another, reusing its buffers.
pub(super) struct Requests {
    /// Header and data from the driver.
    readable: Scatter,
    /// Data to the driver.
    writable: Scatter,
    /// Data bytes of the last request.
    bytes: usize,
}

impl Requests {
    pub(super) fn new(memory: &Arc<GuestMemory>) -> Self {
        let scatter = || Scatter::new(Arc::clone(memory), DESCRIPTORS);
        Self { readable: scatter(), writable: scatter(), bytes: 0 }
    }

    /// Data bytes of the last request served.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Serves one request; returns the number of bytes written to the guest, status included.
    pub(super) fn serve(
        &mut self,
        chain: &mut DescriptorChain<&GuestMemory>,
        memory: &GuestMemory,
        medium: &Medium,
    ) -> Result<u32, Broken> {
        let status_at = self.gather(chain)?;
        let mut header = [0; HEADER];
        if self.readable.read(&mut header) < HEADER {
            return Err(Broken);
        }
        let (kind, sector) = (u32_at(&header, 0), u64_at(&header, 8));
        self.bytes = self.readable.len() + self.writable.len();
        let (status, written) = match self.execute(kind, sector, medium) {
            Ok(written) => (VIRTIO_BLK_S_OK, written),
            Err(Failure::Io) => (VIRTIO_BLK_S_IOERR, 0),
            Err(Failure::Unsupported) => (VIRTIO_BLK_S_UNSUPP, 0),
        };
        #[allow(clippy::cast_possible_truncation)] // the status values are below 3
        memory.write_obj(status as u8, status_at).map_err(|_| Broken)?;
        // `DATA_MAX` bounds it far below 2³².
        u32::try_from(written + 1).map_err(|_| Broken)
    }

    /// Sorts the chain's buffers; returns where the status byte goes.
    fn gather(
        &mut self,
        chain: &mut DescriptorChain<&GuestMemory>,
    ) -> Result<GuestAddress, Broken> {
        self.readable.clear();
        self.writable.clear();
        let mut status = None;
        walk(chain, DESCRIPTORS, |descriptor| {
            let (address, len) = (descriptor.addr(), descriptor.len());
            if !descriptor.is_write_only() {
                return self.readable.push(address, len as usize).map_err(|_| Broken);
            }
            if let Some(last) = len.checked_sub(1) {
                status = address.0.checked_add(u64::from(last)).map(GuestAddress);
            }
            self.writable.push(address, len as usize).map_err(|_| Broken)
        })?;
        let status = status.ok_or(Broken)?;
        self.writable.truncate(self.writable.len() - 1);
        Ok(status)
    }

    /// Does the work; returns the number of data bytes written to the guest.
    fn execute(&mut self, kind: u32, sector: u64, medium: &Medium) -> Result<usize, Failure> {
        let (readable, writable) = (self.readable.len(), self.writable.len());
        match kind {
            VIRTIO_BLK_T_IN if readable == 0 => {
                let offset = medium.offset(sector, writable)?;
                let held = medium.held.saturating_sub(offset);
                if held >= writable as u64 {
                    self.writable.fill_from(&medium.file, offset)?;
                } else {
                    // Bounded by `DATA_MAX`, and rare: who reads beyond the end of a file system?
                    let mut bytes = vec![0; writable];
                    let held = usize::try_from(held).map_or(writable, |held| held.min(writable));
                    medium.file.read_exact_at(&mut bytes[..held], offset)?;
                    self.writable.write(&bytes);
                }
                Ok(writable)
            }
            VIRTIO_BLK_T_OUT if writable == 0 && medium.access == Access::ReadWrite => {
                let offset = medium.offset(sector, readable)?;
                self.readable.drain_to(&medium.file, offset)?;
                if medium.write_through {
                    medium.file.sync_data()?;
                }
                Ok(0)
            }
            VIRTIO_BLK_T_FLUSH if medium.access == Access::ReadWrite => {
                medium.file.sync_data()?;
                Ok(0)
            }
            VIRTIO_BLK_T_GET_ID => Ok(self.writable.write(&medium.id)),
            VIRTIO_BLK_T_IN | VIRTIO_BLK_T_OUT => Err(Failure::Io),
            _ => Err(Failure::Unsupported),
        }
    }
}

impl Medium {
    /// Byte offset of a request, where all of it lies on the disk.
    fn offset(&self, sector: u64, bytes: usize) -> Result<u64, Failure> {
        let len = bytes as u64;
        let end = len.div_ceil(SECTOR).checked_add(sector);
        let fits = end.is_some_and(|end| end <= self.sectors);
        if !fits || !len.is_multiple_of(SECTOR) || bytes > DATA_MAX {
            return Err(Failure::Io);
        }
        sector.checked_mul(SECTOR).ok_or(Failure::Io)
    }
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
