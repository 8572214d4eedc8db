//! Makes the guest's memory small and compressible before a snapshot.
//!
//! A snapshot leaves out pages of zeroes. Free pages hold whatever was in them last, so after the page cache is dropped
//! they are filled with zeroes: the agent takes the free memory in pieces (the kernel hands pages out zeroed) and gives
//! all of it back at once. Nothing writes to a free page afterwards.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::place::PlaceError;

/// Memory taken in one step, in bytes. A step is the granularity at which free memory is looked at again.
const STEP: NonZeroUsize = NonZeroUsize::new(1 << 20).expect("is not zero");

/// Free memory left alone, in bytes: below it the kernel would start to reclaim, or to kill the runtime.
const RESERVE: u64 = 6 << 20;

/// A piece of taken memory; given back when dropped.
struct Piece(NonNull<libc::c_void>);

impl Piece {
    /// Takes [`STEP`] bytes, every page present and zero.
    fn take() -> io::Result<Self> {
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE | MapFlags::MAP_NORESERVE;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
        Ok(Self(unsafe { mmap_anonymous(None, STEP, prot, flags) }?))
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: the mapping of this address and length is ours alone, nothing refers into it, and it is unmapped once.
        let _ = unsafe { munmap(self.0, STEP.get()) };
    }
}

/// Drops caches, compacts memory, fills free memory with zeroes. Returns the number of zeroed bytes.
pub(super) fn reclaim() -> Result<u64, PlaceError> {
    nix::unistd::sync();
    // Page cache, then dentries and inodes (Documentation/admin-guide/sysctl/vm.rst).
    fs::write("/proc/sys/vm/drop_caches", "3").map_err(PlaceError::doing("drop the page cache"))?;
    // Together with the pages in use, the zero runs of the snapshot get longer. Absent without CONFIG_COMPACTION.
    let _ = fs::write("/proc/sys/vm/compact_memory", "1");
    let mut pieces = Vec::new();
    while free_memory()? > RESERVE + STEP.get() as u64 {
        match Piece::take() {
            Ok(piece) => pieces.push(piece),
            Err(_) => break,
        }
    }
    Ok(pieces.len() as u64 * STEP.get() as u64)
}

/// `MemFree` of /proc/meminfo, in bytes.
fn free_memory() -> Result<u64, PlaceError> {
    let text =
        fs::read_to_string("/proc/meminfo").map_err(PlaceError::doing("read /proc/meminfo"))?;
    Ok(parse_free(&text).unwrap_or(0))
}

fn parse_free(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemFree:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_read_in_bytes() {
        assert_eq!(parse_free("MemTotal:  9 kB\nMemFree:          123 kB\n"), Some(125_952));
        assert_eq!(parse_free("MemFree: many kB\n"), None);
        assert_eq!(parse_free(""), None);
        assert!(free_memory().unwrap() > 0);
    }

    #[test]
    fn a_piece_can_be_taken_and_given_back() {
        let piece = Piece::take().unwrap();
        // SAFETY: the mapping is readable, STEP bytes long, and lives until `piece` is dropped.
        let bytes =
            unsafe { std::slice::from_raw_parts(piece.0.as_ptr().cast::<u8>(), STEP.get()) };
        assert!(bytes.iter().all(|&b| b == 0));
    }
}
