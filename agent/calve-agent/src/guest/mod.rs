//! The agent as PID 1 of a guest.
//!
//! Boot: [`mounts`] lays a writable tmpfs over the read-only root, [`network`] brings the loopback up, then the vsock
//! listener opens and [`vsock`] tells the host that it has. Everything else happens on request.

mod entropy;
mod mounts;
mod network;
mod reclaim;
mod spare;
mod vsock;

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use calve_proto::wire::ThawFacts;
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::{Pid, sethostname};

use crate::place::{Place, PlaceError};

/// Folder of the agent's own files, on a tmpfs.
const RUN_DIR: &str = "/run/calve";

/// Folder of the function's code, as on AWS Lambda.
const TASK_ROOT: &str = "/var/task";

/// Folder of its layers, as on AWS Lambda.
const LAYERS_ROOT: &str = "/opt";

/// Wall clock of a frozen machine: 2000-01-01T00:00:00Z, in seconds. Any later date than the freeze's by more than an
/// hour does (see [`Place::backdate_clock`]); this one is recognised at a glance where it shows.
const FROZEN_CLOCK: i64 = 946_684_800;

/// The guest around PID 1.
#[derive(Debug)]
pub(crate) struct Guest {
    listener: OwnedFd,
    /// Kept open: a thaw writes to them and opens nothing.
    random: File,
    machine_id: File,
}

impl Guest {
    /// Sets the machine up, listens, and tells the host.
    pub(crate) fn boot() -> Result<Self, PlaceError> {
        mounts::mount_all()?;
        // A kernel without any network still runs functions in our own shims.
        if let Err(e) = network::bring_up_loopback() {
            complain("loopback stays down", &e);
        }
        quiet();
        std::fs::create_dir_all(RUN_DIR).map_err(PlaceError::doing("create /run/calve"))?;
        let machine_id = File::create(Path::new(RUN_DIR).join("machine-id"))
            .map_err(PlaceError::doing("create /run/calve/machine-id"))?;
        let random = File::options()
            .write(true)
            .open("/dev/urandom")
            .map_err(PlaceError::doing("open /dev/urandom"))?;
        let listener = vsock::listen().map_err(PlaceError::doing("listen on vsock port 1024"))?;
        // The host may not care; it finds us listening then.
        if let Err(e) = vsock::say_up() {
            complain("host does not hear that the guest is up", &e);
        }
        Ok(Self { listener, random, machine_id })
    }
}

/// Has the kernel do less on its own: whatever wakes up in a clone that waits writes to pages, each of which the clone
/// then has for itself. A kernel without one of these does it as it pleases.
fn quiet() {
    let set = |setting: &str, value: &str| {
        let _ = std::fs::write(setting, value);
    };
    // Folding statistics together, every second by default: an hour.
    set("/proc/sys/vm/stat_interval", "3600");
    // Taking a piece of work for long because this machine was not given a processor, or had to wait for its memory: the
    // kernel would start another thread beside it (`wq_worker_tick` in `kernel/workqueue.c`). 0: never.
    set("/sys/module/workqueue/parameters/cpu_intensive_thresh_us", "0");
    // Looking for dirty pages to write back: there are none where the only file systems are read-only or in memory.
    if !has_writable_disk() {
        set("/proc/sys/vm/dirty_writeback_centisecs", "0");
    }
}

/// Whether the machine has a disk that it may write to, or none can tell.
fn has_writable_disk() -> bool {
    let Ok(disks) = std::fs::read_dir("/sys/block") else { return true };
    let read_only = |disk: std::fs::DirEntry| std::fs::read_to_string(disk.path().join("ro"));
    disks.flatten().any(|disk| !read_only(disk).is_ok_and(|ro| ro.trim() == "1"))
}

/// One line on the console, which is all there is before the control stream.
pub(crate) fn complain(what: &str, error: &dyn std::error::Error) {
    let mut line = format!("calve-agent: {what}: {error}");
    let mut source = error.source();
    while let Some(e) = source {
        line += &format!(": {e}");
        source = e.source();
    }
    let _ = writeln!(io::stderr(), "{line}");
}

impl Place for Guest {
    fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn accept(&mut self) -> io::Result<Option<OwnedFd>> {
        vsock::accept(&self.listener)
    }

    fn task_root(&self) -> &Path {
        Path::new(TASK_ROOT)
    }

    fn layers_root(&self) -> &Path {
        Path::new(LAYERS_ROOT)
    }

    fn mount_code(&mut self) -> Result<(), PlaceError> {
        mounts::mount_code()
    }

    fn run_dir(&self) -> &Path {
        Path::new(RUN_DIR)
    }

    fn search_path(&self) -> String {
        "/var/lang/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin".into()
    }

    fn api_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9001))
    }

    fn signal_function(&self, _leader: Pid, signal: Signal) {
        // Every process but PID 1 belongs to the function, whatever sessions it has opened (kill(2): -1 spares init and
        // the caller, which are one here). ESRCH: there is none.
        let _ = kill(Pid::from_raw(-1), signal);
    }

    fn backdate_clock(&mut self) -> Result<(), PlaceError> {
        clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(FROZEN_CLOCK, 0))
            .map_err(PlaceError::doing("set the clock back"))
    }

    fn reclaim(&mut self, leader: Option<Pid>) -> Result<u64, PlaceError> {
        // Without them a snapshot is as right, and its clones are larger.
        if let Err(e) = spare::make() {
            complain("no spare workers in the kernel", &e);
        }
        reclaim::reclaim(leader)
    }

    fn apply(&mut self, facts: &ThawFacts) -> Result<(), PlaceError> {
        entropy::reseed(&self.random, &facts.seed)
            .map_err(PlaceError::doing("reseed the kernel's random numbers"))?;
        clock_settime(ClockId::CLOCK_REALTIME, wall_clock(facts.wall_clock_ns))
            .map_err(PlaceError::doing("set the wall clock"))?;
        if !facts.hostname.is_empty() {
            sethostname(&facts.hostname).map_err(PlaceError::doing("set the host name"))?;
        }
        let id = facts.machine_id.as_bytes();
        self.machine_id
            .set_len(id.len() as u64)
            .and_then(|()| self.machine_id.write_all_at(id, 0))
            .map_err(PlaceError::doing("write the machine id"))
    }
}

/// Nanoseconds since the epoch as a `timespec`.
fn wall_clock(ns: u64) -> TimeSpec {
    // u64 nanoseconds end in the year 2554; both parts fit.
    let seconds = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    let rest = i64::try_from(ns % 1_000_000_000).unwrap_or(0);
    TimeSpec::new(seconds, rest)
}
