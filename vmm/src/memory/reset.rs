//! Guest memory back as the snapshot has it, at the cost of what was written.
//!
//! | page | what happens to it |
//! | --- | --- |
//! | never written | nothing: it still is the file's |
//! | written, and known to be written by every call | its content is read from the file again, so that nobody stops at it |
//! | written otherwise | dropped: the next touch finds the file's |
//!
//! Where the kernel cannot tell which pages were written, all of the second kind are read again and
//! everything else is dropped.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::iter::Peekable;
use std::ops::Range;
use std::os::fd::AsRawFd;

use nix::libc;

use super::private::PageTables;
use super::{Mapped, MemoryError, MemoryPlan, PlanError, Ram, Region, Stretch};

/// A run of addresses that holds a stretch of a file from `offset` on.
#[derive(Clone, Debug)]
struct Kept {
    at: Range<usize>,
    file: u8,
    offset: u64,
}

impl Ram {
    /// Puts every page back as `files` have it under `plan`, which is how they were mapped. Nobody may
    /// run on the memory meanwhile.
    pub(crate) fn reset(
        &self,
        files: &[File],
        plan: &MemoryPlan,
        tables: &PageTables,
    ) -> Result<(), MemoryError> {
        for (region, host) in self.slots() {
            let size = usize::try_from(region.size).map_err(MemoryError::too_large)?;
            let all = host..host + size;
            // One that cannot be asked for is taken for written everywhere.
            let private = tables.private(all.clone()).unwrap_or_else(|_| vec![all]);
            let mut kept = kept(plan, region, host).peekable();
            for run in private {
                restore(run, &mut kept, files)?;
            }
        }
        Ok(())
    }
}

/// What of a region, which begins at `host`, is read again rather than dropped: pages of a file that every call writes.
/// By address.
fn kept(plan: &MemoryPlan, region: Region, host: usize) -> impl Iterator<Item = Kept> {
    let rewritten = plan.touched.iter().filter(|touched| touched.written).map(|touched| touched.at);
    let whole = Stretch { offset: region.file_offset, len: region.size };
    let inside = rewritten.filter_map(move |rewritten| rewritten.common(&whole));
    inside.flat_map(move |rewritten| {
        let first = plan.mapped.partition_point(|mapped| mapped.at.end() <= rewritten.offset);
        let mapped = plan.mapped.get(first..).unwrap_or_default().iter();
        mapped.map_while(move |&Mapped { file, at }| {
            let common = at.common(&rewritten)?;
            // Both lie within the region, whose size was found to be one of addresses.
            let from = host + usize::try_from(common.offset - region.file_offset).ok()?;
            let len = usize::try_from(common.len).ok()?;
            Some(Kept { at: from..from + len, file, offset: common.offset })
        })
    })
}

/// Restores one run of private pages. `kept` are the stretches from here on, by address.
fn restore(
    run: Range<usize>,
    kept: &mut Peekable<impl Iterator<Item = Kept>>,
    files: &[File],
) -> Result<(), MemoryError> {
    let mut from = run.start;
    while from < run.end {
        while kept.next_if(|kept| kept.at.end <= from).is_some() {}
        match kept.peek() {
            Some(next) if next.at.start <= from => {
                let to = run.end.min(next.at.end);
                let file = files.get(usize::from(next.file)).ok_or(PlanError::File(next.file))?;
                read_again(file, from..to, next.offset + (from - next.at.start) as u64)?;
                from = to;
            }
            next => {
                let to = next.map_or(run.end, |next| run.end.min(next.at.start));
                drop_pages(from..to)?;
                from = to;
            }
        }
    }
    Ok(())
}

/// Fills pages, which must be of guest memory and private, with what the file has at `offset`.
fn read_again(file: &File, pages: Range<usize>, mut offset: u64) -> Result<(), MemoryError> {
    let mut from = pages.start;
    while from < pages.end {
        let at = libc::off_t::try_from(offset).map_err(MemoryError::too_large)?;
        // SAFETY: the range lies in guest memory, which `Ram` keeps mapped and to which there are no
        // references, only volatile accesses; nobody runs on it meanwhile.
        let read = unsafe {
            libc::pread(file.as_raw_fd(), from as *mut libc::c_void, pages.end - from, at)
        };
        match usize::try_from(read) {
            // The length was compared with memory's when it was mapped.
            Ok(0) => return Err(MemoryError::Map(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => {
                from += read;
                offset += read as u64;
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(MemoryError::Map(error));
                }
            }
        }
    }
    Ok(())
}

/// Drops private copies: the mapping shows its file again, or zeros where there is none.
fn drop_pages(pages: Range<usize>) -> Result<(), MemoryError> {
    // SAFETY: the range lies in guest memory, which `Ram` keeps mapped and to which there are no
    // references, only volatile accesses, which expect its content to change.
    let done = unsafe {
        libc::madvise(pages.start as *mut libc::c_void, pages.len(), libc::MADV_DONTNEED)
    };
    if done == 0 { Ok(()) } else { Err(MemoryError::Map(io::Error::last_os_error())) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use vm_memory::{Bytes, GuestAddress};

    use super::super::{Touched, regions};
    use super::*;
    use crate::shape::Shape;

    const P: u64 = 4096;

    /// 8 MiB: pages of the file hold their number, the second half is a hole that is not mapped, and pages
    /// 4 to 21 are of another file.
    fn memory() -> (Ram, [File; 2], MemoryPlan) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 << 20).unwrap();
        for page in 0..1024_u64 {
            file.write_all_at(&[u8::try_from(page % 251).unwrap(); 4096], page * P).unwrap();
        }
        let touched = |page: u64, pages: u64, written| Touched {
            at: Stretch { offset: page * P, len: pages * P },
            written,
        };
        let upper = tempfile::tempfile().unwrap();
        upper.set_len(8 << 20).unwrap();
        upper.write_all_at(&[99; 9 * 4096], 8 * P).unwrap();
        let mapped = |file, page: u64, pages: u64| Mapped {
            file,
            at: Stretch { offset: page * P, len: pages * P },
        };
        let plan = MemoryPlan {
            mapped: vec![mapped(0, 0, 4), mapped(1, 4, 18), mapped(0, 22, 1002)],
            touched: vec![touched(3, 2, true), touched(9, 4, false), touched(20, 6, true)],
        };
        let mut ram = Ram::reserve(&Shape::new(8, 1, 0).unwrap()).unwrap();
        let files = [file, upper];
        ram.map(&files, &plan).unwrap();
        (ram, files, plan)
    }

    fn contents(ram: &Ram) -> Vec<u8> {
        let mut bytes = vec![0; 8 << 20];
        ram.guest().read_slice(&mut bytes, GuestAddress(0)).unwrap();
        bytes
    }

    fn is_restored(tables: &PageTables) {
        let (ram, files, plan) = memory();
        let before = contents(&ram);
        for round in 0..3 {
            for page in (round..2048).step_by(3).chain(20..26) {
                ram.guest().write_slice(&[0xee; 100], GuestAddress(page * P + 50)).unwrap();
            }
            ram.reset(&files, &plan, tables).unwrap();
            assert!(contents(&ram) == before, "round {round}");
        }
    }

    #[test]
    fn every_page_comes_back() {
        is_restored(&PageTables::open());
        // A kernel that cannot tell what was written.
        is_restored(&PageTables::closed());
    }

    #[test]
    fn only_pages_that_were_written_are_private() {
        let (ram, ..) = memory();
        contents(&ram);
        for page in [1_u64, 2, 700, 1500] {
            ram.guest().write_slice(&[1], GuestAddress(page * P)).unwrap();
        }
        let host = ram.slots().next().unwrap().1;
        let size = usize::try_from(regions(&Shape::new(8, 1, 0).unwrap())[0].size).unwrap();
        let found = match PageTables::open().private(host..host + size) {
            Ok(found) => found,
            // Linux before 6.7.
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => return,
            Err(error) => panic!("{error}"),
        };
        let pages: Vec<_> =
            found.iter().map(|run| ((run.start - host) / 4096, run.len() / 4096)).collect();
        assert_eq!(pages, [(1, 2), (700, 1), (1500, 1)]);
    }
}
