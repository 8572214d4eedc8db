//! Memory in layers: files as long as memory, and of which of them each stretch is.
//!
//! ```text
//!  file 2    ..██....█████.......       what a function has written since
//!  file 1    .....███.......███..       its runtime's
//!  file 0    ███████████████...█       was booted
//!  mapped    00220111222220.111.1       each stretch once, from the uppermost file that has it
//! ```
//!
//! Every run of a layer costs each thaw a mapping, so close runs are joined: what lies between them is
//! copied up. A chain that has become too long, or too finely cut, is flattened into one file.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use calve_snapshots::{Extent, LayerFile, MemoryLayout, MemorySource};
use calve_vmm::memory::{MAX_FILES, MAX_MAPPED, Mapped, MemoryPlan, Stretch, join, stretches};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Holes of a memory file from this many bytes on are left out of what clones map.
const LEAST_HOLE: u64 = 1 << 20;
/// Stretches of a complete file that are mapped.
const MOST_OF_ONE: usize = 64;
/// Runs of one layer. Each is a mapping of every clone, and cuts one below it in two.
pub(crate) const MOST_RUNS: usize = 96;
/// Bytes copied at once.
const PIECE: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// The same, as lengths in memory are counted.
const PAGE_LEN: usize = 4096;

/// Layers, lowest first. Nobody may write to their files.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) files: Vec<File>,
    /// Which stretch is of which file, and which pages clones touch.
    pub(crate) plan: MemoryPlan,
}

impl Layers {
    /// One complete file.
    pub(crate) fn whole(file: File) -> io::Result<Self> {
        let mapped = stretches(&file, LEAST_HOLE, MOST_OF_ONE)?;
        let mapped = mapped.into_iter().map(|at| Mapped { file: 0, at }).collect();
        let plan = MemoryPlan { mapped, touched: Vec::new() };
        Ok(Self { files: vec![file], plan })
    }

    /// Layers of a snapshot, lowest first: each with what of memory it has, but for the lowest.
    pub(crate) fn of(files: impl IntoIterator<Item = LayerFile>) -> io::Result<Self> {
        let mut files = files.into_iter();
        let lowest = files.next().ok_or(io::ErrorKind::NotFound)?.0;
        files.try_fold(Self::whole(lowest)?, |below, (file, extents)| {
            let runs = extents.unwrap_or_default().into_iter();
            let run = |e: Extent| Stretch { offset: e.offset(), len: e.length() };
            below.over(file, &runs.map(run).collect::<Vec<_>>())
        })
    }

    /// The same layers.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let files = self.files.iter().map(File::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { files, plan: self.plan.clone() })
    }

    /// What of `runs` of `upper` is not as in these layers: a page that was written need not be another.
    pub(crate) fn differing(&self, upper: &File, runs: &[Stretch]) -> io::Result<Vec<Stretch>> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut found = Vec::<Stretch>::new();
        for run in runs {
            let mut from = run.offset;
            while from < run.end() {
                let len = usize::try_from(PIECE.min(run.end() - from)).map_err(io::Error::other)?;
                ours.resize(len, 0);
                theirs.resize(len, 0);
                self.read_at(from, &mut ours)?;
                upper.read_exact_at(&mut theirs, from)?;
                let pages = ours.chunks(PAGE_LEN).zip(theirs.chunks(PAGE_LEN));
                for ((a, b), at) in pages.zip((from..).step_by(PAGE_LEN)) {
                    match found.last_mut() {
                        _ if a == b => {}
                        Some(last) if last.end() == at => last.len += PAGE,
                        _ => found.push(Stretch { offset: at, len: PAGE }),
                    }
                }
                from += len as u64;
            }
        }
        Ok(found)
    }

    /// These layers, and over them `runs`, ascending and apart, of another file.
    pub(crate) fn over(&self, file: File, runs: &[Stretch]) -> io::Result<Self> {
        let number = u8::try_from(self.files.len()).map_err(io::Error::other)?;
        let plan = self.plan.overlay(number, runs);
        let mut files = self.files.iter().map(File::try_clone).collect::<io::Result<Vec<_>>>()?;
        files.push(file);
        let all = Self { files, plan };
        if all.files.len() > MAX_FILES || all.plan.mapped.len() > MAX_MAPPED {
            return all.flatten();
        }
        Ok(all)
    }

    /// Makes few of many runs of `upper`, by copying what lies between them up from these layers.
    pub(crate) fn bridge(&self, upper: &File, runs: Vec<Stretch>) -> io::Result<Vec<Stretch>> {
        let joined = join(runs.clone(), MOST_RUNS);
        if joined.len() == runs.len() {
            return Ok(runs);
        }
        let mut runs = runs.iter().peekable();
        for all in &joined {
            let mut from = all.offset;
            while let Some(run) = runs.next_if(|run| run.end() <= all.end()) {
                self.copy_up(upper, Stretch { offset: from, len: run.offset - from })?;
                from = run.end();
            }
        }
        Ok(joined)
    }

    /// All of it in one file of our own.
    fn flatten(&self) -> io::Result<Self> {
        let length = self.files.first().map_or(Ok(0), |file| file.metadata().map(|m| m.len()))?;
        let flat = anonymous("calve-flat", length)?;
        for mapped in &self.plan.mapped {
            self.copy_up(&flat, mapped.at)?;
        }
        let mut flat = Self::whole(read_only(&flat)?)?;
        flat.plan.touched.clone_from(&self.plan.touched);
        Ok(flat)
    }

    /// Copies a stretch of these layers to its place in `upper`, where it leaves pages of zeros out.
    fn copy_up(&self, upper: &File, what: Stretch) -> io::Result<()> {
        let mut piece = Vec::new();
        let mut from = what.offset;
        while from < what.end() {
            let len = PIECE.min(what.end() - from);
            piece.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
            self.read_at(from, &mut piece)?;
            for (page, at) in piece.chunks(PAGE_LEN).zip((from..).step_by(PAGE_LEN)) {
                if page.iter().any(|byte| *byte != 0) {
                    upper.write_all_at(page, at)?;
                }
            }
            from += len;
        }
        Ok(())
    }

    /// Reads memory as a clone would see it.
    pub(crate) fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        into.fill(0);
        let wanted = Stretch { offset, len: into.len() as u64 };
        let first = self.plan.mapped.partition_point(|mapped| mapped.at.end() <= offset);
        for mapped in &self.plan.mapped[first..] {
            let Some(common) = mapped.at.common(&wanted) else { break };
            let from = usize::try_from(common.offset - offset).map_err(io::Error::other)?;
            let to = from + usize::try_from(common.len).map_err(io::Error::other)?;
            self.files[usize::from(mapped.file)]
                .read_exact_at(&mut into[from..to], common.offset)?;
        }
        Ok(())
    }
}

/// Layers as the memory of a machine, to be written as one file.
pub(crate) struct Flat<'a> {
    pub(crate) layers: &'a Layers,
    pub(crate) layout: &'a MemoryLayout,
}

impl MemorySource for Flat<'_> {
    fn layout(&self) -> &MemoryLayout {
        self.layout
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.layers.read_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let mapped = &self.layers.plan.mapped;
        let next = mapped.get(mapped.partition_point(|mapped| mapped.at.end() <= offset));
        Ok(next.map(|mapped| mapped.at.offset.max(offset)))
    }
}

/// What one layer has, as the memory of a machine in which all else is zeros.
pub(crate) struct Upper<'a> {
    pub(crate) layers: &'a Layers,
    /// Ascending and apart.
    pub(crate) runs: &'a [Stretch],
    pub(crate) layout: &'a MemoryLayout,
}

impl MemorySource for Upper<'_> {
    fn layout(&self) -> &MemoryLayout {
        self.layout
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(0);
        let wanted = Stretch { offset, len: buf.len() as u64 };
        let first = self.runs.partition_point(|run| run.end() <= offset);
        for run in &self.runs[first..] {
            let Some(common) = run.common(&wanted) else { break };
            let from = usize::try_from(common.offset - offset).map_err(io::Error::other)?;
            let to = from + usize::try_from(common.len).map_err(io::Error::other)?;
            self.layers.read_at(common.offset, &mut buf[from..to])?;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let next = self.runs.get(self.runs.partition_point(|run| run.end() <= offset));
        Ok(next.map(|run| run.offset.max(offset)))
    }
}

/// An empty file of our own of so many bytes, which nobody can cut short.
pub(crate) fn anonymous(name: &str, bytes: u64) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(name, flags)?);
    file.set_len(bytes)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(LENGTH))?;
    Ok(file)
}

/// The same file, to which nobody writes any more, through a handle that is for reading: clones' workers are handed
/// what they map, and must not change it under each other. The kernel refuses this while somebody, such as a parent that was
/// taken over, can still write to it by a shared mapping (fcntl(2), `F_SEAL_WRITE`); private ones may stay.
pub(crate) fn read_only(file: &File) -> io::Result<File> {
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL))?;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The seals by which the length of a file is for ever.
const LENGTH: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

/// Whether nobody can change the length of a file.
pub(crate) fn is_of_one_length(file: &File) -> bool {
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).unwrap_or(0);
    SealFlag::from_bits_truncate(seals).contains(LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn run(first: u64, pages: u64) -> Stretch {
        Stretch { offset: first * PAGE, len: pages * PAGE }
    }

    /// A file of 8 MiB in which `runs` are full of `byte`.
    fn file(byte: u8, runs: &[Stretch]) -> File {
        let file = anonymous("test", 8 * MIB).unwrap();
        for run in runs {
            let bytes = vec![byte; usize::try_from(run.len).unwrap()];
            file.write_all_at(&bytes, run.offset).unwrap();
        }
        file
    }

    fn pages(layers: &Layers, numbers: &[u64]) -> Vec<u8> {
        let at = |n: &u64| {
            let mut byte = [0];
            layers.read_at(n * PAGE, &mut byte).unwrap();
            byte[0]
        };
        numbers.iter().map(at).collect()
    }

    #[test]
    fn the_uppermost_layer_that_has_a_page_is_the_one_that_is_read() {
        let lowest = Layers::whole(file(1, &[run(0, 600), run(1500, 10)])).unwrap();
        assert_eq!(lowest.plan.mapped.len(), 2);
        let upper = [run(10, 5), run(1000, 2)];
        // The second run has a page of zeros.
        let both = lowest.over(file(2, &[run(10, 5), run(1000, 1)]), &upper).unwrap();
        assert_eq!(pages(&both, &[9, 10, 14, 15, 700, 1000, 1001, 1500]), [1, 2, 2, 1, 0, 2, 0, 1]);
        // Across what is mapped and what is not.
        let mut all = vec![9; 8 << 20];
        both.read_at(0, &mut all).unwrap();
        assert_eq!(all.iter().filter(|byte| **byte == 2).count(), 6 * 4096);
        assert_eq!(all.iter().filter(|byte| **byte == 1).count(), 605 * 4096);
    }

    #[test]
    #[allow(unsafe_code)]
    fn memory_that_somebody_still_writes_to_is_not_taken() {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
        let memory = file(1, &[run(0, 4)]);
        let length = usize::try_from(8 * MIB).unwrap().try_into().unwrap();
        let map = |flags| {
            let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            // SAFETY: at an address of the kernel's choice; nobody touches it.
            unsafe { mmap(None, length, both, flags, &memory, 0) }.unwrap()
        };
        let (private, shared) = (map(MapFlags::MAP_PRIVATE), map(MapFlags::MAP_SHARED));
        let refused = read_only(&memory).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        // SAFETY: mapped above, and nobody has touched it.
        unsafe { munmap(shared, length.get()) }.unwrap();
        read_only(&memory).unwrap();
        assert!(memory.write_all_at(&[2], 0).is_err());
        // SAFETY: as above.
        unsafe { munmap(private, length.get()) }.unwrap();
    }

    #[test]
    fn close_runs_are_bridged_with_what_lies_below() {
        let lowest = Layers::whole(file(1, &[run(0, 1024)])).unwrap();
        let runs: Vec<_> = (0..500).map(|n| run(2 * n, 1)).collect();
        let upper = file(2, &runs);
        let bridged = lowest.bridge(&upper, runs.clone()).unwrap();
        assert_eq!(bridged.len(), MOST_RUNS);
        let both = lowest.over(upper, &bridged).unwrap();
        let all: Vec<_> = (0..1024).collect();
        let wanted = |n: u64| if n < 1000 && n.is_multiple_of(2) { 2 } else { 1 };
        assert!(pages(&both, &all).into_iter().eq(all.iter().map(|n| wanted(*n))));
        let few = vec![run(3, 1), run(9, 1)];
        assert_eq!(lowest.bridge(&file(2, &few), few.clone()).unwrap(), few);
    }

    #[test]
    fn a_chain_that_is_too_long_or_too_finely_cut_becomes_one_file() {
        let mut layers = Layers::whole(file(1, &[run(0, 64)])).unwrap();
        let mut lengths = Vec::new();
        for n in 1..40 {
            let byte = u8::try_from(n).unwrap();
            layers = layers.over(file(byte, &[run(n, 1)]), &[run(n, 1)]).unwrap();
            lengths.push(layers.files.len());
        }
        assert!(lengths.iter().all(|n| *n <= MAX_FILES), "{lengths:?}");
        assert!(lengths.contains(&1), "{lengths:?}");
        let all: Vec<_> = (0..64).collect();
        let wanted = |n: &u64| if (1..40).contains(n) { u8::try_from(*n).unwrap() } else { 1 };
        assert_eq!(pages(&layers, &all), all.iter().map(wanted).collect::<Vec<_>>());

        let whole = Layers::whole(file(1, &[run(0, 2048)])).unwrap();
        let runs: Vec<_> = (0..300).map(|n| run(3 * n, 1)).collect();
        let cut = whole.over(file(2, &runs), &runs).unwrap();
        assert_eq!((cut.files.len(), cut.plan.mapped.len()), (1, 1));
        assert_eq!(pages(&cut, &[0, 1, 897, 898]), [2, 1, 2, 1]);
    }

    #[test]
    fn a_layer_has_what_differs_and_nothing_else() {
        let below = Layers::whole(file(1, &[run(0, 64)])).unwrap();
        // Written: pages 8 to 15, of which 10 and 11 are as they were, and page 300, which is zeros as before.
        let upper = file(2, &[run(8, 8)]);
        upper.write_all_at(&[1; 8192], 10 * PAGE).unwrap();
        let runs = below.differing(&upper, &[run(8, 8), run(300, 1)]).unwrap();
        assert_eq!(runs, [run(8, 2), run(12, 4)]);
        let layers = below.over(upper, &runs).unwrap();
        let layout = MemoryLayout::new([(0, 8 * MIB)]).unwrap();
        let own = Upper { layers: &layers, runs: &runs, layout: &layout };
        let mut all = vec![9; 8 << 20];
        own.read_at(0, &mut all).unwrap();
        assert_eq!(all.iter().filter(|byte| **byte == 2).count(), 6 * 4096);
        assert_eq!(all.iter().filter(|byte| **byte != 0).count(), 6 * 4096);
        assert_eq!(own.next_data(10 * PAGE).unwrap(), Some(12 * PAGE));
        assert_eq!(own.next_data(16 * PAGE).unwrap(), None);
    }

    #[test]
    fn a_layered_memory_is_read_as_one() {
        let lowest = Layers::whole(file(1, &[run(600, 3)])).unwrap();
        let layers = lowest.over(file(2, &[run(1200, 1)]), &[run(1200, 1)]).unwrap();
        let layout = MemoryLayout::new([(0, 8 * MIB)]).unwrap();
        let flat = Flat { layers: &layers, layout: &layout };
        assert_eq!(flat.next_data(0).unwrap(), Some(600 * PAGE));
        assert_eq!(flat.next_data(601 * PAGE).unwrap(), Some(601 * PAGE));
        assert_eq!(flat.next_data(603 * PAGE).unwrap(), Some(1200 * PAGE));
        assert_eq!(flat.next_data(1201 * PAGE).unwrap(), None);
        assert!(is_of_one_length(&layers.files[0]));
        let handle = read_only(&layers.files[0]).unwrap();
        assert!(handle.write_all_at(&[1], 0).is_err());
        assert_eq!(handle.metadata().unwrap().len(), 8 * MIB);
        assert!(!is_of_one_length(&tempfile::tempfile().unwrap()));
    }
}
