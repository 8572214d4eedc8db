//! Which pages of guest memory this process has copies of its own of: asked of the kernel.
//!
//! `PAGEMAP_SCAN` (Linux `Documentation/admin-guide/mm/pagemap.rst`, from 6.7 on) walks the page tables
//! once and answers in runs, so it costs what is present, not what is mapped.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;

use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;

/// `struct pm_scan_arg` of Linux `include/uapi/linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

ioctl_iowr_nr!(PAGEMAP_SCAN, b'f' as u32, 16, ScanArgument);

/// The page belongs to a file, or is shared.
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// The page is the kernel's one page of zeros.
const PAGE_IS_PFNZERO: u64 = 1 << 5;
/// Runs that one call returns.
const BATCH: usize = 256;

/// This process's page tables, opened before there is no path to open any more.
#[derive(Debug)]
pub(crate) struct PageTables(Option<File>);

impl PageTables {
    /// Opens them. Where there is no procfs they are of no use, and that is no error.
    pub(crate) fn open() -> Self {
        Self(File::open("/proc/self/pagemap").ok())
    }

    /// Another handle on the same page tables.
    pub(crate) fn another(&self) -> Self {
        Self(self.0.as_ref().and_then(|file| file.try_clone().ok()))
    }

    /// Page tables that tell nothing.
    #[cfg(test)]
    pub(super) fn closed() -> Self {
        Self(None)
    }

    /// The runs of addresses in `range` whose pages are this process's own. An error where the
    /// kernel cannot tell.
    pub(crate) fn private(&self, range: Range<usize>) -> io::Result<Vec<Range<usize>>> {
        let file = self.0.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let mut found = Vec::new();
        let mut batch = [PageRegion::default(); BATCH];
        let mut from = range.start as u64;
        while from < range.end as u64 {
            let mut scan = ScanArgument {
                size: size_of::<ScanArgument>() as u64,
                start: from,
                end: range.end as u64,
                vec: batch.as_mut_ptr() as u64,
                vec_len: BATCH as u64,
                category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
                category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
                category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                return_mask: PAGE_IS_PRESENT,
                ..ScanArgument::default()
            };
            // SAFETY: the kernel reads and writes `scan`, of its own layout, and writes at most
            // `vec_len` regions to `batch`, which outlives the call and is borrowed by nothing else.
            let count = unsafe { ioctl_with_mut_ref(file, PAGEMAP_SCAN(), &mut scan) };
            let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
            for region in batch.get(..count).unwrap_or_default() {
                let address = |at: u64| usize::try_from(at).map_err(io::Error::other);
                found.push(address(region.start)?..address(region.end)?);
            }
            if scan.walk_end <= from {
                return Err(io::Error::other("a scan of page tables without progress"));
            }
            from = scan.walk_end;
        }
        Ok(found)
    }
}
