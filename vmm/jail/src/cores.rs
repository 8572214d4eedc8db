//! Cores of one's own: what runs on one hardware thread of a core can watch what runs on the other, so no worker runs
//! there beside another.
#![allow(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc;

use crate::JailError;

/// Whom a worker shares a core with, where a core has several hardware threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cores {
    /// Itself: the other thread of a core runs this worker, too, or nobody (core scheduling; Linux
    /// `Documentation/admin-guide/hw-vuln/core-scheduling.rst`). Where the kernel has no such thing, others after all:
    /// `calve doctor` says so.
    #[default]
    Apart,
    /// Anybody.
    Shared,
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apart => "apart",
            Self::Shared => "shared",
        })
    }
}

impl FromStr for Cores {
    type Err = JailError;

    fn from_str(text: &str) -> Result<Self, JailError> {
        match text {
            "apart" => Ok(Self::Apart),
            "shared" => Ok(Self::Shared),
            _ => Err(JailError::Cores(text.to_owned())),
        }
    }
}

impl Cores {
    /// Takes hold of them for this process, which has one thread yet, and for all that come of it.
    pub(crate) fn take(self) -> nix::Result<()> {
        const THIS_PROCESS: libc::pid_t = 0;
        const ALL_THREADS: libc::c_ulong = libc::PR_SCHED_CORE_SCOPE_THREAD_GROUP as libc::c_ulong;
        if self == Self::Shared {
            return Ok(());
        }
        let nothing: libc::c_ulong = 0;
        // SAFETY: takes integers and touches no memory of ours.
        let done = unsafe {
            libc::prctl(
                libc::PR_SCHED_CORE,
                libc::PR_SCHED_CORE_CREATE,
                THIS_PROCESS,
                ALL_THREADS,
                nothing,
            )
        };
        match Errno::result(done) {
            // No core has two threads; no core scheduling in this kernel.
            Ok(_) | Err(Errno::ENODEV | Errno::EINVAL) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
