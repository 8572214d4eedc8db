//! Namespaces, a user of its own and an empty root: what a worker sees of the host, which is nothing.
//!
//! ```text
//!  fleet ─ posix_spawn ─► launcher ─ clone3(CLONE_PARENT) ─► worker, process 1 of a pid namespace, in its cgroup
//!                            │                                │ opens /dev/kvm and its own page tables
//!                            └─ writes its pid, exits         └─ own user, namespaces, empty root
//! ```
//!
//! A process cannot move itself to a new pid namespace, only its children, so a worker starts as a launcher: it
//! has one thread and small page tables whatever the embedder's size, and needs no code between fork and exec. The
//! child is made a child of the launcher's parent (clone(2), `CLONE_PARENT`), so that the fleet waits for it, holds its
//! pidfd and takes it along as before. The kernel ends a pid namespace with its process 1: whatever a taken-over
//! worker has copied itself to dies with it.
#![allow(unsafe_code)]

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{
    Gid, Pid, Uid, chdir, dup2_stdout, getegid, geteuid, pivot_root, setgroups, setresgid,
    setresuid,
};

use crate::{JailError, cgroup};

/// How far a worker is kept apart from the host, besides its system-call filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Not at all: it has the user, the file system view and the network of whoever started it.
    None,
    /// Namespaces and an empty root, as the user who started it.
    Own,
    /// Namespaces and an empty root, as user and group `first` plus the worker's process id modulo `count`. No
    /// two live workers have the same one if `count` is at least the host's `pid_max`. Needs root.
    Uids {
        /// The first user id of the range.
        first: u32,
        /// Number of user ids.
        count: u32,
    },
}

impl Isolation {
    /// Of every worker of a host one user: from an id that systemd's table of ranges leaves unused (`UIDS-GIDS.md`: 1879048192
    /// to 2147483647), as many as there can be processes (`PID_MAX_LIMIT` of Linux `include/linux/threads.h`).
    pub const UIDS: Self = Self::Uids { first: 1_900_000_000, count: 4 << 20 };

    /// The most that this process may ask for: a user for each worker as root, its own otherwise.
    pub fn most() -> Self {
        if geteuid().is_root() { Self::UIDS } else { Self::Own }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Own => f.write_str("own"),
            Self::Uids { first, count } => write!(f, "uids:{first}:{count}"),
        }
    }
}

impl FromStr for Isolation {
    type Err = JailError;

    fn from_str(text: &str) -> Result<Self, JailError> {
        let unknown = || JailError::Isolation(text.to_owned());
        match text {
            "none" => return Ok(Self::None),
            "own" => return Ok(Self::Own),
            _ => {}
        }
        let range = text.strip_prefix("uids:").and_then(|range| range.split_once(':'));
        let (first, count) = range.ok_or_else(unknown)?;
        let first: u32 = first.parse().map_err(|_| unknown())?;
        let count: u32 = count.parse().map_err(|_| unknown())?;
        // Neither root nor (uid_t) -1, which means no change (setresuid(2)).
        let is_range = first > 0 && count > 0 && first.checked_add(count).is_some();
        if is_range { Ok(Self::Uids { first, count }) } else { Err(unknown()) }
    }
}

/// A handle on the process that this one is to end with. Readable once it has ended.
pub(crate) struct Parent(OwnedFd);

impl Parent {
    pub(crate) fn open(pid: Pid) -> nix::Result<Self> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
        let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
        // SAFETY: the call has just made this descriptor for us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Whether it lives. A process id would not tell: from inside a pid namespace every parent is 0.
    pub(crate) fn lives(&self) -> nix::Result<bool> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::ZERO)? == 0)
    }
}

/// Becomes process 1 of a pid namespace, as a child of this process's parent, in this cgroup if there is one. Returns in
/// that child alone.
pub(crate) fn launch(isolation: Isolation, cgroup: Option<&Path>) -> Result<(), JailError> {
    let (uid, gid) = (geteuid(), getegid());
    let mut flags = libc::CLONE_PARENT | libc::CLONE_NEWPID;
    if isolation == Isolation::Own {
        // All other namespaces need capabilities, which only the owner of a user namespace has.
        flags |= libc::CLONE_NEWUSER;
    }
    let cgroup = cgroup.map(cgroup::folder).transpose();
    let cgroup = cgroup.map_err(|e| JailError::file("open its cgroup", &e))?;
    match clone_process(flags, cgroup.as_ref()).map_err(JailError::Namespace)? {
        0 if isolation == Isolation::Own => map(uid, gid),
        0 => Ok(()),
        child => {
            let told = announce(child);
            // SAFETY: ends this process at once; what it holds, its child holds, too.
            unsafe { libc::_exit(libc::c_int::from(told.is_err())) }
        }
    }
}

/// Linux `include/uapi/linux/sched.h`; libc's constant of this name is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// fork(2) with more to say: returns twice, 0 in the child. With `CLONE_PARENT` the child's end is told as this process's
/// would be.
fn clone_process(flags: libc::c_int, cgroup: Option<&File>) -> nix::Result<i64> {
    // SAFETY: a structure of integers, for all of which zero says nothing.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::try_from(flags).map_err(|_| Errno::EINVAL)?;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::EINVAL)?;
    }
    // SAFETY: fork(2) without its handlers, in a process of one thread: the child is a full copy in which nobody
    // held a lock. The structure is ours, and as long as we say.
    Errno::result(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) })
}

/// Tells whoever reads standard output which process is the worker.
pub(crate) fn announce(pid: impl fmt::Display) -> nix::Result<()> {
    nix::unistd::write(std::io::stdout(), format!("{pid}\n").as_bytes()).map(drop)
}

/// Nobody reads standard output any more.
pub(crate) fn leave_stdout() -> Result<(), JailError> {
    let null = fs::File::options().write(true).open("/dev/null");
    let null = null.map_err(|e| JailError::file("open /dev/null", &e))?;
    dup2_stdout(null).map_err(step("leave its standard output"))
}

/// Takes a user and namespaces of its own, and leaves every path behind.
pub(crate) fn isolate(isolation: Isolation) -> Result<(), JailError> {
    if let Isolation::Uids { first, count } = isolation {
        become_user(first, count)?;
    }
    let rest = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(rest).map_err(step("make namespaces"))?;
    leave_paths()
}

fn become_user(first: u32, count: u32) -> Result<(), JailError> {
    // As the host counts: the link was made for the mount's pid namespace.
    let me = fs::read_link("/proc/self").map_err(|e| JailError::file("read /proc/self", &e))?;
    let me: Option<u32> = me.to_str().and_then(|pid| pid.parse().ok());
    let me = me.ok_or(JailError::Step { what: "know its process id", errno: Errno::ESRCH })?;
    let id = me.checked_rem(count).and_then(|n| first.checked_add(n));
    let id = id.ok_or_else(|| JailError::Isolation(format!("uids:{first}:{count}")))?;
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[]).map_err(step("leave its groups"))?;
    setresgid(gid, gid, gid).map_err(step("become a group of its own"))?;
    setresuid(uid, uid, uid).map_err(step("become a user of its own"))?;
    // Changing users has made its files in /proc root's, and it has to write its id maps.
    prctl::set_dumpable(true).map_err(step("own its files in /proc"))?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(JailError::Namespace)?;
    map(uid, gid)?;
    // Nobody else has this user, and nobody needs to look into it but root.
    prctl::set_dumpable(false).map_err(step("disown its files in /proc"))
}

/// Says that in this new user namespace there is one user and one group, which are those of outside.
fn map(uid: Uid, gid: Gid) -> Result<(), JailError> {
    let write = |path, text: &str| {
        fs::write(path, text).map_err(|e| JailError::file("write its id maps", &e))
    };
    // Without this no group may be mapped by a process without privileges (user_namespaces(7)).
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/gid_map", &format!("{gid} {gid} 1"))?;
    write("/proc/self/uid_map", &format!("{uid} {uid} 1"))
}

/// Puts an empty directory that cannot be written in the place of all file systems. It is mounted over /dev for
/// want of a place that is sure to exist; only this process sees it there.
fn leave_paths() -> Result<(), JailError> {
    const ROOT: &str = "/dev";
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(step("keep its mounts to itself"))?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("none"), ROOT, Some("tmpfs"), flags, Some("mode=555,nr_inodes=1,nr_blocks=1"))
        .map_err(step("mount an empty directory"))?;
    chdir(ROOT).map_err(step("enter its empty directory"))?;
    // One on top of the other, and then the lower one away: no second directory is needed (pivot_root(2)).
    pivot_root(".", ".").map_err(step("change its root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(step("let go of the host's files"))?;
    chdir("/").map_err(step("enter its root"))
}

fn step(what: &'static str) -> impl Fn(Errno) -> JailError {
    move |errno| JailError::Step { what, errno }
}
