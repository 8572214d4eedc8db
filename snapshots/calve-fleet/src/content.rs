//! What a shell is given to become a clone: opened, checked and decoded once, shared by all clones.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use calve_snapshots::{FileMemory, MemoryLayout, State, Workset};
use calve_vmm::Shape;
use calve_vmm::memory::{MAX_MAPPED, MemoryPlan, Stretch, Touched};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::control::DiskSpec;

/// Holes of the memory file from this many bytes on are left out of what clones map.
const LEAST_HOLE: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// The content of clones. Everything in it is immutable.
#[derive(Debug)]
pub(crate) struct Content {
    /// No two in this process have the same.
    pub(crate) number: u64,
    pub(crate) shape: Shape,
    pub(crate) timeout: Duration,
    /// State and memory plan as a worker reads them, sealed: what it loads is what we have checked.
    decoded: File,
    pub(crate) state_len: u32,
    pub(crate) memory: File,
    disks: Vec<File>,
}

/// The serial numbers of a clone's disks, in order.
const DISK_IDS: [&str; 2] = ["root", "code"];

impl Content {
    /// `state`, `memory` and `disks` must have been checked to be of one machine of this shape.
    pub(crate) fn new(
        shape: Shape,
        timeout: Duration,
        state: &State,
        memory: (File, &MemoryLayout),
        workset: &Workset,
        disks: Vec<File>,
    ) -> io::Result<Self> {
        let (memory, layout) = memory;
        let mut bytes = state.encode();
        let state_len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let plan = plan(&FileMemory::new(&memory, layout)?, workset)?;
        bytes = postcard::to_extend(&plan, bytes).map_err(io::Error::other)?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { number, shape, timeout, decoded: sealed(&bytes)?, state_len, memory, disks })
    }

    /// What was decoded, and memory: the first descriptors of a `Thaw` command.
    pub(crate) fn files(&self) -> [BorrowedFd<'_>; 2] {
        [self.decoded.as_fd(), self.memory.as_fd()]
    }

    /// The root image and the code.
    pub(crate) fn disks(&self) -> impl Iterator<Item = (DiskSpec, BorrowedFd<'_>)> {
        let spec = |id: &str| DiskSpec { writable: false, id: id.into() };
        DISK_IDS.into_iter().zip(&self.disks).map(move |(id, file)| (spec(id), file.as_fd()))
    }
}

fn plan(memory: &FileMemory<'_>, workset: &Workset) -> io::Result<MemoryPlan> {
    let mapped = memory.stretches(LEAST_HOLE, MAX_MAPPED)?.into_iter();
    // File systems keep data in blocks of their own size.
    let mapped = mapped.map(|(offset, len)| {
        let end = (offset + len).next_multiple_of(PAGE);
        let offset = offset - offset % PAGE;
        Stretch { offset, len: end - offset }
    });
    let touched = workset.runs().iter().map(|run| {
        let (offset, len) = (u64::from(run.first) * PAGE, u64::from(run.pages) * PAGE);
        Touched { at: Stretch { offset, len }, written: run.written }
    });
    Ok(MemoryPlan { mapped: mapped.collect(), touched: touched.collect() })
}

/// Bytes in a file that nobody can change any more.
fn sealed(bytes: &[u8]) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("calve-state", flags)?);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_sealed_file_keeps_its_bytes() {
        let mut file = sealed(b"state").unwrap();
        file.rewind().unwrap();
        assert!(file.write_all(b"other").is_err());
        assert!(file.set_len(0).is_err());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "state");
    }

    #[test]
    fn large_holes_are_not_mapped_and_touched_pages_are_prepared() {
        const MIB: u64 = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 * MIB).unwrap();
        for at in [0, 8 * 4096, 32 * MIB] {
            file.write_all_at(&[1; 4096], at).unwrap();
        }
        let layout = MemoryLayout::new([(0, 64 * MIB)]).unwrap();
        let workset = Workset::of_pages([(3, true), (4, true), (9, false)]);
        let plan = plan(&FileMemory::new(&file, &layout).unwrap(), &workset).unwrap();
        assert_eq!(plan.check(64 * MIB), Ok(()));
        let mapped: Vec<_> = plan.mapped.iter().map(|s| (s.offset, s.len)).collect();
        assert_eq!(mapped, [(0, 9 * 4096), (32 * MIB, 4096)]);
        let touched: Vec<_> = plan.touched.iter().map(|t| (t.at.offset, t.at.len)).collect();
        assert_eq!(touched, [(3 * 4096, 2 * 4096), (9 * 4096, 4096)]);
    }
}
