//! The worker's own memory: there are as many workers as clones, and most of them wait.
#![allow(unsafe_code)]

#[cfg(target_env = "gnu")]
use nix::libc;

/// Has the C library keep one heap for all threads, which are few and seldom allocate, instead of one for each.
pub(crate) fn save() {
    // SAFETY: sets a number in the allocator, before there is another thread (mallopt(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free memory of the allocator back to the kernel.
pub(crate) fn give_back() {
    // SAFETY: takes a number, and touches only what the allocator has free; any thread may call it at any time
    // (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
