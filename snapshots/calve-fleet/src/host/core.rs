//! Asking the kernel for core scheduling.
#![allow(unsafe_code)]

use nix::libc;

/// Whether the kernel has core scheduling. Asking for one's own cookie fails with EINVAL on a
/// kernel without it, and with ENODEV where no core has two threads (Linux
/// `Documentation/admin-guide/hw-vuln/core-scheduling.rst`).
pub(super) fn available() -> bool {
    const THIS_THREAD: libc::pid_t = 0;
    const ONE_THREAD: libc::c_ulong = libc::PR_SCHED_CORE_SCOPE_THREAD as libc::c_ulong;
    let mut cookie: u64 = 0;
    // SAFETY: PR_SCHED_CORE_GET writes one u64 to its last argument, which is one.
    let result = unsafe {
        libc::prctl(
            libc::PR_SCHED_CORE,
            libc::PR_SCHED_CORE_GET,
            THIS_THREAD,
            ONE_THREAD,
            &raw mut cookie,
        )
    };
    result == 0
}
