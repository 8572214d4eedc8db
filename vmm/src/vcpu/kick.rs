//! Getting a vCPU out of the guest from another thread.
//!
//! `kvm_run.immediate_exit` makes the next `KVM_RUN` return at once, a signal ends one that is
//! under way (Linux `Documentation/virt/kvm/api.rst`, §5, `immediate_exit`). Setting the byte
//! first and sending the signal second leaves no gap between the two. The byte lies in a page
//! that the vCPU's own thread uses, so this is a second mapping of that page.
#![allow(unsafe_code)]

use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{getpid, gettid};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

/// The second mapping of one vCPU's `kvm_run`, and the thread that runs it.
#[derive(Debug)]
pub(crate) struct Kick {
    page: NonNull<libc::c_void>,
    size: NonZeroUsize,
    /// Kernel id of the vCPU's thread; 0 until it has started.
    thread: AtomicI32,
}

// SAFETY: the only access through the mapping is one atomic byte.
unsafe impl Send for Kick {}
// SAFETY: as above: the byte is accessed atomically from any thread.
unsafe impl Sync for Kick {}

impl Kick {
    /// Maps `size` bytes (`KVM_GET_VCPU_MMAP_SIZE`) of a vCPU.
    pub(crate) fn new(vcpu: &VcpuFd, size: usize) -> nix::Result<Self> {
        let size = NonZeroUsize::new(size)
            .filter(|s| s.get() >= size_of::<kvm_run>())
            .ok_or(nix::Error::EINVAL)?;
        // SAFETY: the descriptor is open while `vcpu` is borrowed, which outlives the call.
        let fd = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases no Rust object; the
        // kernel and the vCPU's thread write to the page, so nothing but atomics may touch it.
        let page = unsafe { mmap(None, size, prot, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { page, size, thread: AtomicI32::new(0) })
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        let offset = offset_of!(kvm_run, immediate_exit);
        // SAFETY: `offset` is inside the mapping, whose size `new` checked.
        let byte = unsafe { self.page.cast::<u8>().add(offset) };
        // SAFETY: a byte is always aligned, lives as long as `self`, and the kernel and the
        // vCPU's thread only ever read it.
        unsafe { AtomicU8::from_ptr(byte.as_ptr()) }
    }

    /// Makes the calling thread the one to interrupt.
    pub(crate) fn adopt(&self) {
        // Threads inherit their creator's signal mask, which an embedder may have filled.
        let _ = unblock_signal(kick_signal());
        self.thread.store(gettid().as_raw(), Ordering::SeqCst);
    }

    /// Ends the `KVM_RUN` that is under way and every one from now on, until [`Kick::clear`].
    pub(crate) fn kick(&self) {
        self.immediate_exit().store(1, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            // SAFETY: takes three integers. A thread that has ended is ESRCH, and one that has
            // inherited its number in this process is only interrupted by a handler that does
            // nothing.
            unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw(), thread, kick_signal()) };
        }
    }

    /// Lets the vCPU run again; only while its thread is parked.
    pub(crate) fn clear(&self) {
        self.immediate_exit().store(0, Ordering::SeqCst);
    }

    /// Whether the vCPU is asked to stay out of the guest.
    pub(crate) fn is_set(&self) -> bool {
        self.immediate_exit().load(Ordering::SeqCst) != 0
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        // SAFETY: the range is the one `new` mapped and no reference to it can outlive `self`.
        let _ = unsafe { munmap(self.page, self.size.get()) };
    }
}

/// The signal that interrupts `KVM_RUN`: the first real-time one, which a process that embeds
/// machines must leave to them.
fn kick_signal() -> libc::c_int {
    SIGRTMIN()
}

extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Installs the handler of [`kick_signal`] for the process, once. It does nothing: being
/// interrupted is the whole point.
pub(crate) fn install_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails for invalid signal numbers only.
        let _ = register_signal_handler(kick_signal(), nothing);
    });
}
