//! Guest memory back to the host while its machine lives.
#![allow(unsafe_code)]

use nix::libc;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::{GuestMemory, PAGE};

/// Gives pages back that a guest says it has no use for. What it finds there next is zeros, or what the snapshot
/// has there that it was thawed from.
#[derive(Debug, Default)]
pub(crate) struct Reclaim {
    /// Memory is this machine's own mapping, not a file that it shares.
    private: bool,
}

impl Reclaim {
    /// Gives back the whole pages of a range of guest memory; nothing of a range that is not all memory.
    pub(crate) fn discard(&mut self, memory: &GuestMemory, from: GuestAddress, len: u32) {
        let Some(end) = from.0.checked_add(u64::from(len)) else { return };
        let Some(from) = from.0.checked_next_multiple_of(PAGE) else { return };
        let end = end - end % PAGE;
        let Some(len) = end.checked_sub(from).filter(|len| *len > 0) else { return };
        let Ok(len) = usize::try_from(len) else { return };
        let slices = GuestMemoryBackend::get_slices(memory, GuestAddress(from), len);
        let Ok(slices) = slices.collect::<Result<Vec<_>, _>>() else { return };
        for slice in slices {
            let at: *mut libc::c_void = slice.ptr_guard_mut().as_ptr().cast();
            // A hole is punched into the file of a booted machine (MADV_REMOVE, madvise(2)); a clone has no
            // such file, and its copies are dropped.
            self.private = self.private || !advise(at, slice.len(), libc::MADV_REMOVE);
            if self.private {
                advise(at, slice.len(), libc::MADV_DONTNEED);
            }
        }
    }
}

/// Whether the kernel took the advice.
fn advise(at: *mut libc::c_void, len: usize, advice: libc::c_int) -> bool {
    // SAFETY: the range was just looked up in guest memory, which is mapped for as long as the device lives, and to
    // which there are no references, only volatile accesses that expect its content to change.
    unsafe { libc::madvise(at, len, advice) == 0 }
}
