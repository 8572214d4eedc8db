//! A cgroup of its own for each worker: what it may take of the host's memory, processors, processes and disks, whatever has
//! become of its guest. Version 2 alone (Linux `Documentation/admin-guide/cgroup-v2.rst`).
//!
//! ```text
//!  /sys/fs/cgroup ─ … ─ Cgroups (a folder, its controllers on) ─┬─ Cgroup PID-1   one worker, and what it copies itself to
//!                                                               └─ Cgroup PID-2   (PID: of the fleet's process)
//! ```
//!
//! The fleet makes the group and sets its limits; the worker is born in it (clone3(2), `CLONE_INTO_CGROUP`), so that all that
//! it ever takes is counted, and nothing has to be moved. A group goes with its handle. Those of a fleet that was killed are
//! not locked any more, and nobody should be in them: the next fleet under the same folder removes them. What others have made
//! there is nobody's business here.

mod delegated;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use thiserror::Error;

/// Controllers that there must be.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
/// Asked for where disks are limited.
const IO: &str = "io";

/// Workers have no cgroup, or not as it was asked for.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// Not a cgroup file system of version 2.
    #[error(
        "{0} is in no cgroup file system of version 2: boot with systemd.unified_cgroup_hierarchy=1, or do without limits \
         with CALVE_CGROUP=none"
    )]
    NotV2(PathBuf),
    /// A controller cannot be had.
    #[error(
        "the cgroup {path} cannot have the controllers {}: enable them above it (cgroup.subtree_control), in folders \
         without processes of their own",
        missing.join(", ")
    )]
    Controllers {
        /// The folder of all workers' groups.
        path: PathBuf,
        /// Names of the controllers.
        missing: Vec<&'static str>,
    },
    /// A folder or file of a group refuses.
    #[error(
        "cannot {what} {path}: be root, or name a folder that was delegated to this user with CALVE_CGROUP"
    )]
    Step {
        /// What was to be done, a verb.
        what: &'static str,
        /// To which folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn step(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    move |source| CgroupError::Step { what, path: path.to_owned(), source }
}

/// What one worker may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes, the guest's and the kernel's on behalf of the worker included (`memory.max`). Never swap.
    pub memory: u64,
    /// Processor time, in hundredths of one processor (`cpu.max`).
    pub cpu_percent: u32,
    /// Share of the processors where there is not enough for all, 1 to 10,000 (`cpu.weight`; 100 where nothing is said).
    pub cpu_weight: u32,
    /// Processes and threads (`pids.max`).
    pub processes: u32,
    /// Bounds on disks, a line of `io.max` each, as in `8:0 rbps=1048576`.
    pub io: Vec<String>,
}

/// What has happened to a group because of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happenings {
    /// Times that it wanted more memory than it may have (`memory.events`, `oom`).
    pub ooms: u64,
    /// Processes that were killed for want of memory, its own or that of a group above or of the host (`oom_kill`).
    pub oom_kills: u64,
    /// How long its threads were kept from running (`cpu.stat`, `throttled_usec`).
    pub throttled: Duration,
}

/// The folder of the groups.
#[derive(Debug)]
pub struct Cgroups {
    path: PathBuf,
}

impl Cgroups {
    /// The folder that is used where nothing else is said; made if it is not there.
    pub const DEFAULT: &str = "/sys/fs/cgroup/calve";

    /// Takes a folder, made if only the last part of its path is missing, and turns its controllers on, `io` if it is wanted.
    ///
    /// # Errors
    ///
    /// Where there is no cgroup v2, or it may not be used by this process.
    pub fn open(path: impl Into<PathBuf>, io: bool) -> Result<Self, CgroupError> {
        let path = path.into();
        let above = path.parent().unwrap_or(&path);
        if path.is_absolute() && !above.exists() {
            return Err(step("find", above)(io::ErrorKind::NotFound.into()));
        }
        if !is_v2(above) {
            return Err(CgroupError::NotV2(path));
        }
        make_folder(&path)?;
        let wanted: Vec<_> = NEEDED.into_iter().chain(io.then_some(IO)).collect();
        // From the root down; what is on already, or not ours to turn on, shows in what the folder has then.
        let mut ancestors: Vec<_> = path.ancestors().take_while(|it| is_v2(it)).collect();
        ancestors.reverse();
        for (folder, controller) in
            ancestors.iter().flat_map(|folder| wanted.iter().map(move |it| (folder, it)))
        {
            let _ = write(&folder.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
        let on = read(&path.join("cgroup.subtree_control"));
        let on: Vec<_> = on.split_whitespace().collect();
        let missing: Vec<_> = wanted.into_iter().filter(|it| !on.contains(it)).collect();
        if !missing.is_empty() {
            return Err(CgroupError::Controllers { path, missing });
        }
        let cgroups = Self { path };
        cgroups.sweep();
        Ok(cgroups)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a group for one worker.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses the folder or a limit.
    pub fn make(&self, limits: &Limits) -> Result<Cgroup, CgroupError> {
        let cgroup = self.make_empty()?;
        // From here on dropped with all that it has.
        cgroup.limit_memory(limits.memory)?;
        // Where swap is not counted there is no such file, and nothing to forbid.
        match cgroup.set("memory.swap.max", "0") {
            Err(CgroupError::Step { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        cgroup.set("memory.oom.group", "1")?;
        /// Microseconds; the kernel's default.
        const PERIOD: u64 = 100_000;
        let quota = PERIOD * u64::from(limits.cpu_percent) / 100;
        cgroup.set("cpu.max", &format!("{quota} {PERIOD}"))?;
        cgroup.weigh(limits.cpu_weight)?;
        cgroup.set("pids.max", &limits.processes.to_string())?;
        for line in &limits.io {
            cgroup.set("io.max", line)?;
        }
        Ok(cgroup)
    }

    /// A folder that nobody else has, and that no sweep takes for a dead fleet's.
    fn make_empty(&self) -> Result<Cgroup, CgroupError> {
        /// Of this process, whatever number of fleets it has.
        static MADE: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let path = self.path.join(format!("{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                // Left by a process that had this id, or by one that has it in another pid namespace.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(step("make", &path))?,
            }
            // A sweep that has come in between has removed it, and takes its time with that.
            match lock(&path, FlockArg::LockShared) {
                Ok(lock) if path.exists() => return Ok(Cgroup { path, _lock: lock }),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(step("lock", &path)(e)),
            }
        }
    }

    /// Removes groups of fleets that have ended without removing them: nobody holds their locks. Whoever is still in one should
    /// have ended with its fleet, and ends now.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            // Its own files are there, too, and perhaps groups of others, who lock none.
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && entry.file_name().to_str().is_some_and(is_workers)
                && let Ok(_lock) = lock(&entry.path(), FlockArg::LockExclusiveNonblock)
            {
                remove(&entry.path());
            }
        }
    }
}

/// Whether [`Cgroups::make`] gives groups such a name: two numbers.
fn is_workers(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-').is_some_and(|(process, group)| number(process) && number(group))
}

/// Locks a folder until the lock is dropped or this process ends.
fn lock(path: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    Flock::lock(folder, how).map_err(|(_, errno)| errno.into())
}

/// A worker's group. Dropping it kills whatever is still in it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// Tells the sweeps of others that its fleet lives.
    _lock: Flock<File>,
}

impl Cgroup {
    /// Its folder: what the worker is told to be born in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets another limit on memory, in bytes.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), CgroupError> {
        self.set("memory.max", &bytes.to_string())
    }

    /// Sets another share of the processors, 1 to 10,000 as in [`Limits::cpu_weight`].
    ///
    /// # Errors
    ///
    /// Where the kernel refuses.
    pub fn weigh(&self, cpu_weight: u32) -> Result<(), CgroupError> {
        self.set("cpu.weight", &cpu_weight.to_string())
    }

    /// Bytes that it has in files in memory, whoever uses them (`memory.stat`, `shmem`); 0 where that is not counted.
    pub fn shared_memory(&self) -> u64 {
        field(&read(&self.path.join("memory.stat")), "shmem").unwrap_or(0)
    }

    /// What its limits have done to it.
    pub fn happenings(&self) -> Happenings {
        let figure = |file, name| field(&read(&self.path.join(file)), name).unwrap_or(0);
        Happenings {
            ooms: figure("memory.events", "oom"),
            oom_kills: figure("memory.events", "oom_kill"),
            throttled: Duration::from_micros(figure("cpu.stat", "throttled_usec")),
        }
    }

    fn set(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.path.join(file);
        write(&path, value).map_err(step("set", &path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a group, and kills who is in it: nobody in all but strange cases, since a worker takes its copies along.
fn remove(path: &Path) {
    if fs::remove_dir(path).is_err() && write(&path.join("cgroup.kill"), "1").is_ok() {
        wait_until_empty(path);
        // Where that took too long it is left to the next fleet.
        let _ = fs::remove_dir(path);
    }
}

/// Waits, for a second at most, until all that were killed are gone: `cgroup.events` tells of changes as POLLPRI.
fn wait_until_empty(path: &Path) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let since = Instant::now();
    let path = path.join("cgroup.events");
    let Ok(events) = File::open(&path) else { return };
    while field(&read(&path), "populated") != Some(0) && since.elapsed() < PATIENCE {
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        let _ = poll(&mut fds, PollTimeout::from(100_u8));
    }
}

/// Moves this process into a group.
pub(crate) fn join(path: &Path) -> io::Result<()> {
    write(&path.join("cgroup.procs"), "0")
}

/// A handle on a group's folder, for clone3(2).
pub(crate) fn folder(path: &Path) -> io::Result<File> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn is_v2(path: &Path) -> bool {
    statfs(path).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

fn make_folder(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(step("make", path)(e)),
        _ => Ok(()),
    }
}

/// Never makes a file: the kernel has, or there is none.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW;
    OpenOptions::new().write(true).custom_flags(flags).open(path)?.write_all(value.as_bytes())
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number behind a name, in a file with a pair a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
