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
