//! The jail around a worker process, entered in two steps.
//!
//! ```text
//!  Jail::new ── enter() ──► Inside ── seal() ──► Sealed
//!               before /dev/kvm is     once everything that takes an open file or a
//!               opened                 new thread is done, and before a guest runs
//! ```
//!
//! | what | keeps a worker that a guest has taken over from |
//! | --- | --- |
//! | dies with its parent | outliving the fleet |
//! | session of its own | the terminal of whoever started it |
//! | only descriptors 0 to 2 | whatever an embedder forgot to close |
//! | no core dumps, few open files | leaving guest memory on disk, exhausting the file table |
//! | no new privileges | set-user-id programs |
//! | no capabilities, even of root | whatever root may that its files do not say: other users' processes, physical addresses, devices |
//! | a seccomp filter on every thread | all system calls but those in [`seccomp::table`] |
//!
//! # What is not here yet
//!
//! Namespaces, an empty root directory, a user of its own and a cgroup. Until they come, a worker
//! has the user, the file system view and the network of whoever started it, and what keeps a
//! taken-over worker from using them is the seccomp filter alone: it can open no path and make no
//! socket but a pair. They will be fields of [`Jail`] and steps of [`Jail::enter`]; the filter
//! will become one for each kind of thread behind the same [`Inside::seal`].

mod descriptors;
mod error;
pub mod seccomp;
#[cfg(test)]
mod tests;

pub use error::JailError;

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, chdir, getppid, setsid};

/// What a worker is shut into.
#[derive(Clone, Copy, Debug)]
pub struct Jail {
    parent: Pid,
    open_files: u64,
}

/// A process that has entered its jail but can still open files and start threads.
#[derive(Debug)]
#[must_use = "a jail is not closed until it is sealed"]
pub struct Inside(());

impl Jail {
    /// Open files of one machine: some 20 from the fleet, KVM's own, two eventfds for each queue,
    /// and a connection of the vsock for the rest.
    pub const OPEN_FILES: u64 = 1024;

    /// A jail for a child of process `parent`.
    pub fn new(parent: u32) -> Self {
        // A process id always fits; one that does not is nobody's, and entering fails.
        let parent = Pid::from_raw(libc::pid_t::try_from(parent).unwrap_or(-1));
        Self { parent, open_files: Self::OPEN_FILES }
    }

    /// Allows another number of open files.
    #[must_use]
    pub fn open_files(self, open_files: u64) -> Self {
        Self { open_files, ..self }
    }

    /// Goes in. Descriptors 0, 1 and 2 stay open, all others are closed; so nothing may have been
    /// opened before.
    ///
    /// # Errors
    ///
    /// Names the step that the kernel refused. The process must end then.
    pub fn enter(self) -> Result<Inside, JailError> {
        let step = |what| move |errno| JailError::Step { what, errno };
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("tie itself to its parent"))?;
        // The parent may have died before the line above; its child was given to another then.
        if getppid() != self.parent {
            return Err(JailError::Orphan);
        }
        descriptors::close_from(3).map_err(step("close inherited files"))?;
        setsid().map_err(step("start a session"))?;
        umask(Mode::S_IRWXG | Mode::S_IRWXO);
        chdir("/").map_err(step("leave its working directory"))?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(step("forbid core dumps"))?;
        setrlimit(Resource::RLIMIT_NOFILE, self.open_files, self.open_files)
            .map_err(step("limit open files"))?;
        prctl::set_no_new_privs().map_err(step("give up new privileges"))?;
        drop_capabilities().map_err(JailError::Capabilities)?;
        Ok(Inside(()))
    }
}

/// Gives up every capability, and where it may, the right to get one back. This process has one thread
/// yet, and capabilities are a thread's.
fn drop_capabilities() -> Result<(), CapsError> {
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)?;
    }
    Ok(())
}

impl Inside {
    /// Closes the door: from now on no thread of the process, present or future, makes a system
    /// call that is not in the [table](seccomp::table). The kernel kills the process at the first
    /// that does.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the filter. The process must end then.
    pub fn seal(self) -> Result<(), JailError> {
        seccomp::install()
    }
}
