//! Where RAM is read from: a paused machine, or a memory file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::MemoryLayout;

/// RAM that holds still while it is read. Offsets are RAM offsets, as in the memory file.
pub trait MemorySource {
    /// The regions, whose sizes bound every offset.
    fn layout(&self) -> &MemoryLayout;

    /// Fills `buf` from `offset`. The range lies within the layout but may span regions.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// The first offset at or after `offset` that may hold anything but zeros; `None` if there is
    /// none. Lets a source skip what was never touched; the default reads everything.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }
}

/// RAM in a file or memfd whose offsets are RAM offsets. Holes are skipped, not read.
#[derive(Debug)]
pub struct FileMemory<'a> {
    file: &'a File,
    layout: &'a MemoryLayout,
}

impl<'a> FileMemory<'a> {
    /// Refuses a file that is not exactly as long as the layout says.
    pub fn new(file: &'a File, layout: &'a MemoryLayout) -> io::Result<Self> {
        let (found, wanted) = (file.metadata()?.len(), layout.size());
        if found != wanted {
            let why = format!("memory file has {found} bytes, its layout {wanted}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Self { file, layout })
    }
}

impl FileMemory<'_> {
    /// The stretches of the file that hold data, as offset and bytes, ascending: at most `most`, so
    /// with as many of the larger holes left out as that allows. Holes below `least` bytes are not
    /// worth a mapping.
    pub fn stretches(&self, least: u64, most: usize) -> io::Result<Vec<(u64, u64)>> {
        let mut all = Vec::<(u64, u64)>::new();
        let mut from = 0;
        while let Some(data) = self.next_data(from)? {
            let end = self.end_of_data(data)?;
            match all.last_mut() {
                Some((offset, len)) if data - (*offset + *len) < least => *len = end - *offset,
                _ => all.push((data, end - data)),
            }
            from = end;
        }
        if all.len() <= most {
            return Ok(all);
        }
        // The gaps that stay are the largest; what is between two others is one stretch.
        let gap = |n: &usize| all[*n].0 - (all[n - 1].0 + all[n - 1].1);
        let mut gaps: Vec<usize> = (1..all.len()).collect();
        gaps.sort_unstable_by_key(|n| std::cmp::Reverse(gap(n)));
        gaps.truncate(most.saturating_sub(1));
        gaps.sort_unstable();
        let starts = std::iter::once(0).chain(gaps.iter().copied());
        let ends = gaps.iter().copied().chain([all.len()]);
        let joined = starts.zip(ends).map(|(from, to)| {
            let (first, last) = (all[from], all[to - 1]);
            (first.0, last.0 + last.1 - first.0)
        });
        Ok(joined.collect())
    }

    fn end_of_data(&self, offset: u64) -> io::Result<u64> {
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        let end = lseek(self.file, offset, Whence::SeekHole)?;
        u64::try_from(end).map_err(io::Error::other)
    }
}

impl MemorySource for FileMemory<'_> {
    fn layout(&self) -> &MemoryLayout {
        self.layout
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        match lseek(self.file, offset, Whence::SeekData) {
            Ok(data) => u64::try_from(data).map(Some).map_err(io::Error::other),
            // No data from here to the end (lseek(2)).
            Err(Errno::ENXIO) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}
