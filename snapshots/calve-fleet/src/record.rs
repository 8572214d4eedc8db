//! Which pages of memory a clone has touched: read from the process that it ran in.
//!
//! The kernel says of each page of a process whether it is present, and whether it still belongs to a
//! file (Linux `Documentation/admin-guide/mm/pagemap.rst`). A clone's memory is a private mapping of
//! the snapshot's file: a present page was touched, and one that is no longer the file's was written.
//! The worker has cut the mapping into pages before it ran, so that the kernel has made none present
//! that only lies beside one.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt};

use calve_snapshots::MemoryLayout;
use nix::sys::stat::{major, minor};

const PAGE: u64 = 4096;
/// Bytes of an entry of pagemap.
const ENTRY: u64 = 8;
/// Pagemap: the page is present.
const PRESENT: u64 = 1 << 63;
/// Pagemap: it is swapped out, so it was there and is the process's own.
const SWAPPED: u64 = 1 << 62;
/// Pagemap: it is a file's, or shared.
const OF_FILE: u64 = 1 << 61;
/// Entries that are read at once.
const BATCH: usize = 8192;

/// Reads which pages of the memory that lies in `files`, whose regions `layout` gives, the process `pid` has
/// touched: their numbers, ascending, and whether they were written.
pub(crate) fn touched(
    pid: u32,
    files: &[File],
    layout: &MemoryLayout,
) -> io::Result<Vec<(u32, bool)>> {
    let bases = bases(pid, files, layout)?;
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut pages = Vec::new();
    for (region, base) in layout.regions().iter().zip(bases) {
        // A region of which nothing is mapped holds no data; what was touched of it is unknown.
        let Some(base) = base else { continue };
        let count = usize::try_from(region.size / PAGE).map_err(io::Error::other)?;
        let mut entries = vec![0; BATCH * 8];
        for first in (0..count).step_by(BATCH) {
            let batch = &mut entries[..(count - first).min(BATCH) * 8];
            pagemap.read_exact_at(batch, (base / PAGE + first as u64) * ENTRY)?;
            let (batch, _) = batch.as_chunks();
            let numbers = region.file_offset / PAGE + first as u64..;
            for (number, entry) in numbers.zip(batch) {
                if let Some(written) = touch(u64::from_ne_bytes(*entry)) {
                    pages.push((u32::try_from(number).map_err(io::Error::other)?, written));
                }
            }
        }
    }
    Ok(pages)
}

/// Whether a page was touched, and if so whether it was written.
fn touch(entry: u64) -> Option<bool> {
    let there = entry & (PRESENT | SWAPPED) != 0;
    there.then_some(entry & OF_FILE == 0 || entry & SWAPPED != 0)
}

/// The address at which each region begins in the process.
fn bases(pid: u32, files: &[File], layout: &MemoryLayout) -> io::Result<Vec<Option<u64>>> {
    let files = files.iter().map(place).collect::<io::Result<Vec<_>>>()?;
    let mut bases = vec![None; layout.regions().len()];
    for line in BufReader::new(File::open(format!("/proc/{pid}/maps"))?).lines() {
        let line = line?;
        let Some((start, offset)) = mapping(&line, &files) else { continue };
        let region = layout.regions().iter().position(|region| {
            (region.file_offset..region.file_offset + region.size).contains(&offset)
        });
        let Some(number) = region else { continue };
        let inside = offset - layout.regions()[number].file_offset;
        bases[number] = bases[number].or_else(|| start.checked_sub(inside));
    }
    Ok(bases)
}

/// Device and inode of a file, as maps has them.
fn place(file: &File) -> io::Result<(String, String)> {
    let metadata = file.metadata()?;
    let device = format!("{:02x}:{:02x}", major(metadata.dev()), minor(metadata.dev()));
    Ok((device, metadata.ino().to_string()))
}

/// Start and file offset of a line of maps (proc(5)), if it maps one of these files.
fn mapping(line: &str, files: &[(String, String)]) -> Option<(u64, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, _permissions, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let (device, inode) = (fields.next()?, fields.next()?);
    if !files.iter().any(|file| file.0 == device && file.1 == inode) {
        return None;
    }
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some((hex(range.split_once('-')?.0)?, hex(offset)?))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

    use super::*;

    #[test]
    fn lines_of_other_files_do_not_count() {
        let line = "7f00-7f10 rw-p 00003000 fe:0a 77   /dev/shm/memory.0";
        let file = |device: &str, inode: &str| (device.to_owned(), inode.to_owned());
        let wanted = Some((0x7f00, 0x3000));
        assert_eq!(mapping(line, &[file("fe:0a", "77")]), wanted);
        assert_eq!(mapping(line, &[file("fe:0b", "77"), file("fe:0a", "77")]), wanted);
        assert_eq!(mapping(line, &[file("fe:0b", "77"), file("fe:0a", "78")]), None);
        assert_eq!(mapping("7f00-7f10 rw-p 0 00:00 0", &[file("fe:0a", "77")]), None);
        assert_eq!(mapping("", &[file("", "")]), None);
    }

    #[test]
    #[allow(unsafe_code)]
    fn reads_and_writes_of_this_process_are_told_apart() {
        const PAGES: usize = 64;
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.write_all_at(&vec![1; PAGES * 4096], 0).unwrap();
        let layout = MemoryLayout::new([(0, (PAGES * 4096) as u64)]).unwrap();
        let len = (PAGES * 4096).try_into().unwrap();
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh private mapping at an address of the kernel's choice.
        let at = unsafe { mmap(None, len, prot, MapFlags::MAP_PRIVATE, file.as_fd(), 0) }.unwrap();
        let page = |n: usize| {
            // SAFETY: page `n` is one of the mapping's.
            unsafe { at.cast::<u8>().add(n * 4096) }
        };
        for n in (0..PAGES).step_by(2) {
            // SAFETY: advice about one page of the mapping.
            let done = unsafe { nix::libc::madvise(page(n).as_ptr().cast(), 4096, 10) };
            assert_eq!(done, 0, "MADV_DONTFORK");
        }
        for n in [3, 20] {
            // SAFETY: the page is mapped, readable and nobody else's.
            assert_eq!(unsafe { page(n).read_volatile() }, 1);
        }
        for n in [4, 40] {
            // SAFETY: the page is mapped, writable and nobody else's.
            unsafe { page(n).write_volatile(2) };
        }
        let pages = touched(std::process::id(), std::slice::from_ref(&file), &layout).unwrap();
        assert_eq!(pages, [(3, false), (4, true), (20, false), (40, true)]);
        // SAFETY: the mapping is not used any more.
        unsafe { munmap(at, len.get()) }.unwrap();
    }
}
