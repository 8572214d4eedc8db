//! The worker's own memory: there are as many workers as clones, and most of them wait.
#![allow(unsafe_code)]

use nix::libc;

/// The x86 base page.
const PAGE: usize = 4096;

/// Has the C library keep one heap for all threads, which are few and seldom allocate, instead of one for each.
pub(crate) fn save() {
    // SAFETY: sets a number in the allocator, before there is another thread (mallopt(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back to the kernel what this process has free: memory of the allocator, and pages of the main thread's stack
/// that its deepest calls have touched. For the main thread, where it is not deep.
pub(crate) fn give_back() {
    forget_stack();
    // SAFETY: takes a number, and touches only what the allocator has free; any thread may call it at any time
    // (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Drops the pages of the stack below this frame.
#[inline(never)]
fn forget_stack() {
    /// What this frame, the call below and a signal's frame may take.
    const NEAR: usize = 8 << 10;
    /// Far less than the gap that the kernel keeps below a main thread's stack (`stack_guard_gap`, 1 MiB): nothing
    /// else lies here.
    const DEPTH: usize = 256 << 10;
    let here = 0_u8;
    let top = ((&raw const here) as usize).saturating_sub(NEAR) & !(PAGE - 1);
    let bottom = top.saturating_sub(DEPTH);
    // SAFETY: the range is stack below every live frame of the calling thread, or mapped by nobody: what is dropped is
    // never read again, and reads as zeros if a deeper call comes. Where the stack ends, the kernel
    // says so after it has done what there is (madvise(2), ENOMEM).
    unsafe { libc::madvise(bottom as *mut libc::c_void, top - bottom, libc::MADV_DONTNEED) };
}
