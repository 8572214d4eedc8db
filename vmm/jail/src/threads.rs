//! The threads of a worker, each of which shuts itself in.
//!
//! A filter for all threads at once would have to allow what any of them needs. So each installs its own when it is
//! born, and the last makes sure that none was forgotten.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{JailError, seccomp};

/// A kind of thread of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Thread {
    /// Takes the fleet's orders: loads, pauses, saves, forks, resets and drops the machine.
    Main,
    /// Runs a vCPU.
    Vcpu,
    /// Runs the disks, the vsock and the balloon.
    Devices,
}

impl Thread {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Main, Self::Vcpu, Self::Devices];
}

/// What threads shut themselves with. Its copies are one.
#[derive(Clone, Debug, Default)]
pub struct Threads(Arc<AtomicUsize>);

impl Threads {
    /// Shuts the calling thread in: from now on it makes no call that is not in the [table](seccomp::table) for its kind.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the filter. The process must end then.
    pub fn shut(&self, kind: Thread) -> Result<(), JailError> {
        seccomp::install(kind)?;
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    pub(crate) fn shut_so_far(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Counts the threads of this process, from where no path leads to /proc any more.
#[derive(Debug)]
pub(crate) struct Census(File);

impl Census {
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/stat").map(Self)
    }

    /// Field 20, `num_threads` (proc_pid_stat(5)); the second is a name in parentheses, with anything in it.
    pub(crate) fn take(&self) -> Result<usize, JailError> {
        let failed = |e: &io::Error| JailError::file("count its threads", e);
        let mut bytes = [0; 4096];
        let length = self.0.read_at(&mut bytes, 0).map_err(|e| failed(&e))?;
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        let count = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(17));
        let count = count.and_then(|count| count.parse().ok());
        count.ok_or_else(|| failed(&io::ErrorKind::InvalidData.into()))
    }
}
