//! The jail around a worker process, entered in two steps.
//!
//! ```text
//!  Jail::new ── enter() ──► Inside ── threads().shut(kind), on each new thread ── seal() ──► Sealed
//!               opens what has a                                                 once all threads are there,
//!               path on its way                                                  and before a guest runs
//! ```
//!
//! | what | keeps a worker that a guest has taken over from |
//! | --- | --- |
//! | dies with its parent | outliving the fleet |
//! | a pid namespace of its own | leaving copies of itself behind, seeing other processes |
//! | as root, a user of its own | other workers, and files of whoever started it |
//! | as far as its fleet says, a cgroup of its own | the host's memory, processor time and process table; see [`cgroup`] |
//! | namespaces of its own | the host's mounts, network, IPC objects, names |
//! | an empty root that cannot be written | every path |
//! | where cores have several hardware threads, [cores of its own](Cores) while it runs | what others leave in a core's caches and buffers, and they from what it leaves |
//! | session of its own | the terminal of whoever started it |
//! | only descriptors 0 to 2 | whatever an embedder forgot to close |
//! | first to be killed for want of memory | having the host kill others for what it has taken |
//! | no core dumps, few open files | leaving guest memory on disk, exhausting the file table |
//! | no new privileges | set-user-id programs |
//! | no capabilities, even of root | whatever root may that its files do not say: other users' processes, physical addresses, devices |
//! | a seccomp filter for each kind of thread | all system calls but those that [`seccomp::table`] has for it |
//!
//! The namespaces are user, mount, pid, network, IPC, UTS and cgroup; see [`Isolation`]. A worker without privileges
//! keeps the user who started it: two such workers are kept apart by their namespaces and filters, not by their user.

pub mod cgroup;
mod cores;
mod descriptors;
mod error;
mod isolation;
pub mod seccomp;
#[cfg(test)]
mod tests;
mod threads;

pub use cores::Cores;
pub use error::JailError;
pub use isolation::Isolation;
pub use threads::{Thread, Threads};

use std::path::PathBuf;

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, chdir, getpid, getppid, setsid};
use rustix::process::setpriority_process;

use isolation::Parent;
use threads::Census;

/// The highest that there is (Linux `Documentation/filesystems/proc.rst`, 3.1). Everybody may raise his own.
const FIRST_TO_BE_KILLED: &str = "1000";

/// What a worker is shut into.
#[derive(Clone, Debug)]
pub struct Jail {
    parent: Pid,
    open_files: u64,
    isolation: Isolation,
    cores: Cores,
    cgroup: Option<PathBuf>,
    nice: Option<i32>,
}

/// A process that has entered its jail but can still open files and start threads.
#[derive(Debug)]
#[must_use = "a jail is not closed until it is sealed"]
pub struct Inside {
    threads: Threads,
    census: Census,
}

impl Jail {
    /// Open files of one machine: some 20 from the fleet, KVM's own, two eventfds for each queue,
    /// and a connection of the vsock for the rest.
    pub const OPEN_FILES: u64 = 1024;

    /// A jail for a child of process `parent`.
    pub fn new(parent: u32) -> Self {
        // A process id always fits; one that does not is nobody's, and entering fails.
        let parent = Pid::from_raw(libc::pid_t::try_from(parent).unwrap_or(-1));
        let (isolation, cores) = (Isolation::None, Cores::Shared);
        Self { parent, open_files: Self::OPEN_FILES, isolation, cores, cgroup: None, nice: None }
    }

    /// Allows another number of open files.
    #[must_use]
    pub fn open_files(self, open_files: u64) -> Self {
        Self { open_files, ..self }
    }

    /// Keeps the process apart from the host.
    #[must_use]
    pub fn isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// Keeps it from sharing a core with others.
    #[must_use]
    pub fn cores(self, cores: Cores) -> Self {
        Self { cores, ..self }
    }

    /// Puts the process into a [cgroup](cgroup::Cgroup), by its folder.
    #[must_use]
    pub fn cgroup(self, cgroup: Option<PathBuf>) -> Self {
        Self { cgroup, ..self }
    }

    /// Has the process be so nice (sched(7)) once it is in its cgroup. It may have been started as a nicer one, to give way
    /// until then.
    #[must_use]
    pub fn nice(self, nice: Option<i32>) -> Self {
        Self { nice, ..self }
    }

    /// Goes in, in a child process with the same parent where there is [`Isolation`]: this one ends then, and the call
    /// returns in the child alone. Writes the process id of the one that is inside to standard output, as the
    /// parent counts, and leaves standard output. Descriptors 0 and 2 stay open, all others are closed; so nothing may
    /// have been opened before. `open` opens what has a path: by the time this returns, there is none.
    ///
    /// # Errors
    ///
    /// Names the step that the kernel refused. The process must end then.
    pub fn enter<T>(self, open: impl FnOnce() -> T) -> Result<(Inside, T), JailError> {
        let step = |what| move |errno| JailError::Step { what, errno };
        descriptors::close_from(3).map_err(step("close inherited files"))?;
        let parent = Parent::open(self.parent).map_err(|_| JailError::Orphan)?;
        // After: its id may have been another's before.
        if getppid() != self.parent {
            return Err(JailError::Orphan);
        }
        if self.isolation == Isolation::None {
            if let Some(cgroup) = &self.cgroup {
                cgroup::join(cgroup).map_err(|e| JailError::file("enter its cgroup", &e))?;
            }
            isolation::announce(getpid()).map_err(step("say which process it is"))?;
        } else {
            isolation::launch(self.isolation, self.cgroup.as_deref())?;
        }
        if let Some(nice) = self.nice {
            let set = setpriority_process(None, nice);
            set.map_err(|e| step("be as urgent as it was")(Errno::from_raw(e.raw_os_error())))?;
        }
        isolation::leave_stdout()?;
        // Where the host is out of memory: one machine less, and not the fleet with all of them, which is larger. It is for
        // others' sake: where `/proc` cannot be written, a worker is no worse for it.
        let _ = std::fs::write("/proc/self/oom_score_adj", FIRST_TO_BE_KILLED);
        self.cores.take().map_err(step("have cores of its own"))?;
        setsid().map_err(step("start a session"))?;
        umask(Mode::S_IRWXG | Mode::S_IRWXO);
        chdir("/").map_err(step("leave its working directory"))?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(step("forbid core dumps"))?;
        setrlimit(Resource::RLIMIT_NOFILE, self.open_files, self.open_files)
            .map_err(step("limit open files"))?;
        let opened = without_privilege(open).map_err(JailError::Capabilities)?;
        let census = Census::open().map_err(|e| JailError::file("count its threads", &e))?;
        if self.isolation != Isolation::None {
            isolation::isolate(self.isolation)?;
        }
        prctl::set_no_new_privs().map_err(step("give up new privileges"))?;
        drop_capabilities().map_err(JailError::Capabilities)?;
        // Last, since the kernel forgets it where a process changes its user (prctl(2)).
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("tie itself to its parent"))?;
        if !parent.lives().map_err(step("look for its parent"))? {
            return Err(JailError::Orphan);
        }
        Ok((Inside { threads: Threads::default(), census }, opened))
    }
}

/// Runs `open` as somebody to whom the kernel does not show physical addresses: of page tables it remembers who has opened
/// them (Linux `fs/proc/task_mmu.c`, `pagemap_read`).
fn without_privilege<T>(open: impl FnOnce() -> T) -> Result<T, CapsError> {
    let privileged = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN)?;
    if privileged {
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN)?;
    }
    let opened = open();
    if privileged {
        caps::raise(None, CapSet::Effective, Capability::CAP_SYS_ADMIN)?;
    }
    Ok(opened)
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
    /// What each other thread of this process is to shut itself with.
    pub fn threads(&self) -> Threads {
        self.threads.clone()
    }

    /// Closes the door behind this thread, the last: none makes a system call any more that is not in the
    /// [table](seccomp::table) for it, or starts another. The kernel kills the process at the first that does.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the filter, or a thread has not shut itself. The process must end then.
    pub fn seal(self) -> Result<(), JailError> {
        let (shut, all) = (self.threads.shut_so_far(), self.census.take()?);
        let threads = all.saturating_sub(1);
        if threads != shut {
            return Err(JailError::Open { threads, shut });
        }
        drop(self.census);
        seccomp::install(Thread::Main)
    }
}
