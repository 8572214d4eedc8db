//! Spare worker threads of the guest's kernel, made once before a snapshot instead of in each of its clones.
//!
//! The kernel makes a worker when the last idle one is given something to do. Right after a thaw more comes together than
//! ever did before: another thread then costs each clone some 40 pages. So as many are kept busy here, by rings that are
//! torn down, each of which waits for its last user in a worker of its own (`io_ring_exit_work` in the kernel's
//! `io_uring/io_uring.c`). These are the workers of no processor in particular; those that belong to one were
//! never seen to be short, once [`quiet`](super::quiet) keeps the kernel from taking a slow one for lost.
//!
//! A clone lets go of all idle workers but two after five minutes (`IDLE_WORKER_TIMEOUT` in `kernel/workqueue.c`).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Workers that are kept busy at once. Clones were seen to need three.
const BUSY: usize = 4;

/// Makes them.
///
/// # Errors
///
/// Where the kernel has no `io_uring`.
pub(super) fn make() -> io::Result<()> {
    let rings = (0..BUSY).map(|_| ring()).collect::<Result<Vec<_>, _>>()?;
    drop(rings);
    Ok(())
}

/// An `io_uring` of the least size (io_uring_setup(2)).
#[allow(unsafe_code)]
fn ring() -> io::Result<OwnedFd> {
    /// `struct io_uring_params` in words of 32 bits; all zero asks for nothing special.
    const PARAMS_WORDS: usize = 30;
    let mut params = [0_u32; PARAMS_WORDS];
    // SAFETY: the kernel reads and writes one `struct io_uring_params`, 120 bytes, all of which are ours.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    match RawFd::try_from(fd) {
        // SAFETY: the system call has just returned this descriptor to us and to nobody else.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
