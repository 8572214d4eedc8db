//! What a shell is given to become a clone: opened, checked and decoded once, shared by all clones.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use calve_snapshots::workset::MAX_RUNS;
use calve_snapshots::{State, Workset};
use calve_vmm::Shape;
use calve_vmm::memory::{MAX_TOUCHED, Stretch, Touched};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::control::DiskSpec;
use crate::layers::Layers;

const PAGE: u64 = 4096;

// Whatever working set can be read is one that a plan may have.
const _: () = assert!(MAX_RUNS <= MAX_TOUCHED);

/// The content of clones. Everything in it is immutable.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) shape: Shape,
    pub(crate) timeout: Duration,
    /// State and memory plan as a worker reads them, sealed: what it loads is what we have checked.
    decoded: File,
    pub(crate) state_len: u32,
    /// Memory, and which pages of it clones touch.
    pub(crate) layers: Layers,
    disks: Vec<File>,
}

/// What a guest sees of its disk with code, whatever the image has, in bytes: four times what AWS Lambda takes. So
/// machines that were frozen without code, or with other code, can be thawed with any.
pub(crate) const CODE_ROOM: u64 = 1 << 30;
/// The serial numbers of a clone's disks, in order, and how much of each the guest sees at least.
const DISK_IDS: [(&str, u64); 2] = [("root", 0), ("code", CODE_ROOM)];

impl Content {
    /// `state`, `layers` and `disks` must have been checked to be of one machine of this shape.
    pub(crate) fn new(
        shape: Shape,
        timeout: Duration,
        state: &State,
        layers: Layers,
        disks: Vec<File>,
    ) -> io::Result<Self> {
        let state = state.encode();
        let state_len = u32::try_from(state.len()).map_err(io::Error::other)?;
        let decoded = decoded(state, &layers)?;
        Ok(Self { shape, timeout, decoded, state_len, layers, disks })
    }

    /// The same with another working set.
    pub(crate) fn with_workset(&self, workset: &Workset) -> io::Result<Self> {
        let Self { shape, timeout, state_len, .. } = *self;
        let mut state = vec![0; usize::try_from(state_len).map_err(io::Error::other)?];
        self.decoded.read_exact_at(&mut state, 0)?;
        let mut layers = self.layers.try_clone()?;
        layers.plan.touched = touched(workset);
        let decoded = decoded(state, &layers)?;
        let disks = self.disks.iter().map(File::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { shape, timeout, decoded, state_len, layers, disks })
    }

    /// What was decoded, and memory: the first descriptors of a `Thaw` command.
    pub(crate) fn files(&self) -> Vec<BorrowedFd<'_>> {
        let memory = self.layers.files.iter().map(AsFd::as_fd);
        [self.decoded.as_fd()].into_iter().chain(memory).collect()
    }

    /// The root image and the code.
    pub(crate) fn disk_files(&self) -> &[File] {
        &self.disks
    }
}

/// Root image and code as a clone's disks.
pub(crate) fn disks(files: &[File]) -> impl Iterator<Item = (DiskSpec, BorrowedFd<'_>)> {
    let spec = |id: &str, room| DiskSpec { writable: false, id: id.into(), room };
    DISK_IDS.into_iter().zip(files).map(move |((id, room), file)| (spec(id, room), file.as_fd()))
}

/// The pages of a working set, as a plan has them.
pub(crate) fn touched(workset: &Workset) -> Vec<Touched> {
    let touched = workset.runs().iter().map(|run| {
        let (offset, len) = (u64::from(run.first) * PAGE, u64::from(run.pages) * PAGE);
        Touched { at: Stretch { offset, len }, written: run.written }
    });
    touched.collect()
}

/// State and memory plan as a worker reads them.
fn decoded(state: Vec<u8>, layers: &Layers) -> io::Result<File> {
    sealed(&postcard::to_extend(&layers.plan, state).map_err(io::Error::other)?)
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
        let mut plan = Layers::whole(file).unwrap().plan;
        plan.touched = touched(&Workset::of_pages([(3, true), (4, true), (9, false)]));
        assert_eq!(plan.check(1, 64 * MIB), Ok(()));
        let mapped: Vec<_> = plan.mapped.iter().map(|m| (m.at.offset, m.at.len)).collect();
        assert_eq!(mapped, [(0, 9 * 4096), (32 * MIB, 4096)]);
        let touched: Vec<_> = plan.touched.iter().map(|t| (t.at.offset, t.at.len)).collect();
        assert_eq!(touched, [(3 * 4096, 2 * 4096), (9 * 4096, 4096)]);
    }
}
