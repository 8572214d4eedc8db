//! Makes the guest's memory small and compressible before a snapshot.
//!
//! A snapshot leaves out pages of zeroes. Free pages hold whatever was in them last, so after the page cache is dropped
//! they are filled with zeroes: the agent takes free memory in pieces (the kernel hands pages out zeroed) and gives all
//! of it back at once. Nothing writes to a free page afterwards.
//!
//! Memory that was never used is zero already, and touching it would make the host provide it: gigabytes, in a large
//! machine. So only as much is filled as can have been used: the page cache that was dropped, what the runtime once had
//! and gave back, and a margin. The kernel's allocator prefers small free blocks over large ones and freed ones over
//! untouched ones, so these are the pages it hands out first. Where the estimate is too low the snapshot is larger than it
//! could be, and still right.
//!
//! Memory is not compacted: that moves pages into memory that was never used, and leaves their old content behind.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::unistd::Pid;

use crate::place::PlaceError;

/// Memory taken in one step, in bytes. A step is the granularity at which free memory is looked at again.
const STEP: NonZeroUsize = NonZeroUsize::new(1 << 20).expect("is not zero");

/// Free memory left alone, in bytes: below it the kernel would start to reclaim, or to kill the runtime.
const RESERVE: u64 = 6 << 20;

/// Memory filled in any case, in bytes: what the kernel and short-lived processes have used and freed.
const MARGIN: u64 = 16 << 20;

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

/// Drops caches and fills free memory that was in use before with zeroes. Returns the number of filled bytes.
pub(super) fn reclaim(leader: Option<Pid>) -> Result<u64, PlaceError> {
    nix::unistd::sync();
    let before = free_memory()?;
    // Page cache, then dentries and inodes (Documentation/admin-guide/sysctl/vm.rst).
    fs::write("/proc/sys/vm/drop_caches", "3").map_err(PlaceError::doing("drop the page cache"))?;
    let dropped = free_memory()?.saturating_sub(before);
    let returned = leader.and_then(returned_memory).unwrap_or(0);
    let margin = MARGIN + (dropped + returned) / 4;
    let mut pieces = Vec::new();
    while (pieces.len() as u64 * STEP.get() as u64) < dropped + returned + margin
        && free_memory()? > RESERVE + STEP.get() as u64
    {
        match Piece::take() {
            Ok(piece) => pieces.push(piece),
            Err(_) => break,
        }
    }
    Ok(pieces.len() as u64 * STEP.get() as u64)
}

/// Memory that the process once had and has no more, in bytes: its peak resident size over its present one.
fn returned_memory(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(field(&status, "VmHWM:")?.saturating_sub(field(&status, "VmRSS:")?))
}

/// `MemFree` of /proc/meminfo, in bytes.
fn free_memory() -> Result<u64, PlaceError> {
    let text =
        fs::read_to_string("/proc/meminfo").map_err(PlaceError::doing("read /proc/meminfo"))?;
    Ok(field(&text, "MemFree:").unwrap_or(0))
}

/// A value in kB, as proc(5) writes it, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_read_in_bytes() {
        assert_eq!(field("MemTotal:  9 kB\nMemFree:          123 kB\n", "MemFree:"), Some(125_952));
        assert_eq!(field("MemFree: many kB\n", "MemFree:"), None);
        assert_eq!(field("", "MemFree:"), None);
        assert!(free_memory().unwrap() > 0);
        assert!(returned_memory(Pid::this()).is_some());
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
