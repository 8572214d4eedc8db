//! Guest memory: an address range reserved at birth, given content later.
//!
//! A shell's memslots point at a reserved range, so that thawing is one `mmap` over it and no
//! memslot changes (a new memslot costs milliseconds: KVM waits for every reader of the old set).
//! KVM follows the mapping through its MMU notifier.
//!
//! ```text
//! Reserved ── fill() ──► a sealed memfd, shared: a booting machine, saved from the memfd
//!     │                     └── branch() ──► the same memfd, private: others are clones of it, too
//!     └────── map() ───► a snapshot's memory files, private: copy-on-write
//! ```
#![allow(unsafe_code)]

mod branch;
mod plan;
mod prefault;
mod private;
mod reclaim;
mod reset;
mod stretches;

pub use branch::{Branch, Copying, Written};
pub use plan::{
    MAX_FILES, MAX_MAPPED, MAX_TOUCHED, Mapped, MemoryPlan, PlanError, Stretch, Touched,
};
pub(crate) use prefault::Prefault;
pub(crate) use private::PageTables;
pub(crate) use reclaim::Reclaim;
pub use stretches::{join, stretches};

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use thiserror::Error;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{GuestAddress, GuestRegionMmap};

use crate::layout::{HOLE_END, HOLE_START};
use crate::shape::Shape;

/// Guest memory as devices see it: regions by guest physical address, cheap to clone.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;

/// Why guest memory cannot be had.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The kernel refuses the address range.
    #[error("cannot reserve {mib} MiB of address space")]
    Reserve {
        /// Size asked for, MiB.
        mib: u64,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The mapping was made but vm-memory refuses it.
    #[error("guest memory regions do not fit together")]
    Regions(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The backing file cannot be created.
    #[error("cannot create {mib} MiB of guest memory")]
    Create {
        /// Size asked for, MiB.
        mib: u64,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A memory file has another size than the machine.
    #[error("the memory file has {found} bytes, the machine {wanted}")]
    Size {
        /// Bytes in the file.
        found: u64,
        /// Bytes of RAM.
        wanted: u64,
    },
    /// The plan by which it is to be mapped does not fit it.
    #[error("the memory file cannot be mapped as planned")]
    Plan(#[from] PlanError),
    /// The file cannot be mapped over the reserved range.
    #[error("cannot map the memory file")]
    Map(#[source] io::Error),
    /// What the guest has written cannot be copied.
    #[error("cannot copy what the guest has written")]
    Branch(#[source] io::Error),
}

impl MemoryError {
    /// A number that this process cannot address.
    fn too_large<E>(_: E) -> Self {
        Self::Map(io::ErrorKind::OutOfMemory.into())
    }
}

/// The x86 base page.
const PAGE: u64 = 4096;
/// Most mappings that memory is cut into: well below the kernel's `vm.max_map_count` of 65,530.
const MAX_PIECES: u64 = 50_000;

/// One stretch of RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Guest physical address of the first byte.
    pub gpa: u64,
    /// Bytes.
    pub size: u64,
    /// Offset of the first byte in a memory file, where the regions lie end to end.
    pub file_offset: u64,
}

/// The stretches of RAM that a shape has: one, or two around the hole below 4 GiB.
pub fn regions(shape: &Shape) -> Vec<Region> {
    let size = shape.memory_bytes();
    let low = size.min(HOLE_START);
    let mut regions = vec![Region { gpa: 0, size: low, file_offset: 0 }];
    if size > low {
        regions.push(Region { gpa: HOLE_END, size: size - low, file_offset: low });
    }
    regions
}

/// The RAM of one machine.
#[derive(Debug)]
pub(crate) struct Ram {
    regions: Vec<Region>,
    /// Host address of each region, in order.
    host: Vec<usize>,
    guest: GuestMemory,
    /// What a booted machine's RAM lies in.
    memfd: Option<File>,
    /// A snapshot was mapped under it.
    thawed: bool,
    /// Its mappings are cut for a record, and not inherited by a copy of this process.
    cut: bool,
}

impl Ram {
    /// Reserves the address range for a shape. No memory is committed; reading it yields zeros.
    pub(crate) fn reserve(shape: &Shape) -> Result<Self, MemoryError> {
        let regions = regions(shape);
        let mut host = Vec::with_capacity(regions.len());
        let mut mapped = Vec::with_capacity(regions.len());
        for region in &regions {
            let size = usize::try_from(region.size).map_err(|_| MemoryError::Reserve {
                mib: region.size >> 20,
                source: io::ErrorKind::OutOfMemory.into(),
            })?;
            // vm-memory unmaps a region that it mapped itself: let it, so that ownership of the
            // range is in one place. Later mappings replace content inside the range only.
            let mmap = MmapRegionBuilder::new(size)
                .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
                .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
                .build()
                .map_err(|e| MemoryError::Reserve {
                    mib: region.size >> 20,
                    source: io::Error::other(e),
                })?;
            host.push(mmap.as_ptr() as usize);
            let mmap = GuestRegionMmap::new(mmap, GuestAddress(region.gpa))
                .ok_or_else(|| MemoryError::Regions("address overflow".into()))?;
            mapped.push(mmap);
        }
        let guest =
            GuestMemory::from_regions(mapped).map_err(|e| MemoryError::Regions(Box::new(e)))?;
        Ok(Self { regions, host, guest, memfd: None, thawed: false, cut: false })
    }

    /// The view that devices and the boot loader use.
    pub(crate) fn guest(&self) -> &GuestMemory {
        &self.guest
    }

    /// Guest physical address, bytes and host address of each region.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (Region, usize)> + '_ {
        self.regions.iter().copied().zip(self.host.iter().copied())
    }

    /// The file behind a booted machine's RAM.
    pub(crate) fn memfd(&self) -> Option<&File> {
        self.memfd.as_ref()
    }

    /// Whether it was thawed, and not booted.
    pub(crate) fn is_thawed(&self) -> bool {
        self.thawed
    }

    fn total(&self) -> u64 {
        self.regions.iter().map(|r| r.size).sum()
    }

    /// Gives the range fresh zeroed memory in a memfd, which a snapshot can later be read from.
    pub(crate) fn fill(&mut self) -> Result<(), MemoryError> {
        let total = self.total();
        let file = create(total)?;
        self.place(&file, Stretch { offset: 0, len: total }, libc::MAP_SHARED)?;
        self.memfd = Some(file);
        Ok(())
    }

    /// Puts a snapshot's memory under the machine, copy-on-write, as planned. Returns what is left
    /// to do before the machine runs.
    pub(crate) fn map(
        &mut self,
        files: &[File],
        plan: &MemoryPlan,
    ) -> Result<Prefault, MemoryError> {
        let wanted = self.total();
        for file in files {
            let found = file.metadata().map_err(MemoryError::Map)?.len();
            if found != wanted {
                return Err(MemoryError::Size { found, wanted });
            }
        }
        plan.check(files.len(), wanted)?;
        for &Mapped { file, at } in &plan.mapped {
            let file = files.get(usize::from(file)).ok_or(PlanError::File(file))?;
            self.place(file, at, libc::MAP_PRIVATE | libc::MAP_NORESERVE)?;
        }
        self.thawed = true;
        Ok(Prefault::new(self, plan))
    }

    /// Lets the kernel use huge pages for whatever is mapped now (madvise(2), `MADV_HUGEPAGE`). A kernel that has none
    /// refuses, and nothing depends on it.
    pub(crate) fn advise_huge_pages(&self) {
        for (region, host) in self.slots() {
            let Ok(size) = usize::try_from(region.size) else { continue };
            // SAFETY: the range is ours, as in `place`, and its content stays as it is.
            unsafe { libc::madvise(host as *mut libc::c_void, size, libc::MADV_HUGEPAGE) };
        }
    }

    /// Cuts what `plan` maps into mappings of one page, so that a touch of one makes none of its
    /// neighbours present: on a read fault the kernel enters up to 16 pages that are at hand
    /// (`fault_around_bytes`), but never beyond a mapping. For recording which pages are touched.
    pub(crate) fn cut(&mut self, plan: &MemoryPlan) -> Result<(), MemoryError> {
        self.cut = true;
        let pages: u64 = plan.mapped.iter().map(|mapped| mapped.at.len / PAGE).sum();
        // Of memory too large for that many mappings, larger pieces.
        let piece = pages.div_ceil(MAX_PIECES).max(1) * PAGE;
        for Mapped { at: stretch, .. } in &plan.mapped {
            let mut offset = stretch.offset;
            while offset < stretch.end() {
                let at = Stretch { offset, len: piece.min(stretch.end() - offset) };
                for (address, _, len) in self.places(at) {
                    // SAFETY: the range is ours, as in `place`. Whether a copy of this process inherits
                    // it, which `branch` therefore refuses to make, is all that changes; but it keeps
                    // neighbours apart.
                    let done = unsafe {
                        libc::madvise(address as *mut libc::c_void, len, libc::MADV_DONTFORK)
                    };
                    if done != 0 {
                        return Err(MemoryError::Map(io::Error::last_os_error()));
                    }
                }
                // Every other one: that is enough to keep them all apart.
                offset = at.end().saturating_add(piece);
            }
        }
        Ok(())
    }

    /// Where a stretch of the memory file lies: host address, guest physical address and bytes, for
    /// each region that it is in.
    fn places(&self, stretch: Stretch) -> impl Iterator<Item = (usize, u64, usize)> + '_ {
        self.slots().filter_map(move |(region, host)| {
            let from = stretch.offset.max(region.file_offset);
            let to = stretch.end().min(region.file_offset + region.size);
            let len = usize::try_from(to.checked_sub(from)?).ok().filter(|len| *len > 0)?;
            let inside = from - region.file_offset;
            let host = host.checked_add(usize::try_from(inside).ok()?)?;
            Some((host, region.gpa + inside, len))
        })
    }

    fn place(&self, file: &File, what: Stretch, flags: libc::c_int) -> Result<(), MemoryError> {
        self.put(file.as_fd().as_raw_fd(), what, flags)
    }

    /// Makes a stretch zeros again, as it was reserved.
    fn clear(&self, what: Stretch) -> Result<(), MemoryError> {
        self.put(-1, what, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
    }

    fn put(&self, fd: RawFd, what: Stretch, flags: libc::c_int) -> Result<(), MemoryError> {
        let mut offset = what.offset;
        for (host, _, size) in self.places(what) {
            let at = libc::off_t::try_from(offset).map_err(MemoryError::too_large)?;
            // SAFETY: `places` yields only parts of the ranges that `reserve` mapped and that
            // `self.guest` keeps alive, so MAP_FIXED replaces nothing but our own reservation.
            // The new mapping has the same protection, and all access to it goes through
            // vm-memory's volatile accessors, which expect the content to change at any time.
            let mapped = unsafe {
                libc::mmap(
                    host as *mut libc::c_void,
                    size,
                    libc::PROT_READ | libc::PROT_WRITE,
                    flags | libc::MAP_FIXED,
                    fd,
                    at,
                )
            };
            if mapped == libc::MAP_FAILED {
                return Err(MemoryError::Map(io::Error::last_os_error()));
            }
            offset += size as u64;
        }
        Ok(())
    }
}

/// A file for so many bytes of guest memory.
fn create(bytes: u64) -> Result<File, MemoryError> {
    let failed = |source| MemoryError::Create { mib: bytes >> 20, source };
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create("calve-ram", flags).map_err(|e| failed(e.into()))?;
    let file = File::from(fd);
    file.set_len(bytes).map_err(failed)?;
    // The file leaves the process: nobody may cut it short under a mapping, which would be a bus error. Who
    // takes it over may seal it further.
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(|e| failed(e.into()))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
