//! A handle on a child process that cannot be mistaken for another's (pidfd_open(2)).
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

/// How a worker's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It exited by itself.
    Exited(i32),
    /// A signal killed it.
    Killed(Signal),
    /// Somebody else in this process has waited for it.
    Unknown,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Killed(Signal::SIGSYS) => {
                f.write_str("killed by its seccomp filter, for a system call it may not make")
            }
            Self::Killed(Signal::SIGKILL) => {
                f.write_str("killed by SIGKILL: by the out-of-memory killer or by hand")
            }
            Self::Killed(signal) => write!(f, "killed by {signal}"),
            Self::Unknown => f.write_str("its exit status was taken by somebody else"),
        }
    }
}

/// A child of this process. Readable once it has ended.
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// A handle on the child `pid`, which nobody has waited for yet.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just made this descriptor (close-on-exec) for us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Another handle on the same process.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Kills the process; no effect on one that has ended.
    pub(crate) fn kill(&self) {
        let (signal, fd) = (libc::SIGKILL, self.0.as_raw_fd());
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: pidfd_send_signal accepts a null siginfo, and the descriptor is open. Its only
        // error here is that the process has ended.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
    }

    /// Waits until the process has ended and takes its exit status.
    pub(crate) fn reap(&self) -> Death {
        loop {
            match waitid(Id::PIDFd(self.0.as_fd()), WaitPidFlag::WEXITED) {
                Ok(WaitStatus::Exited(_, status)) => return Death::Exited(status),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Death::Killed(signal),
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return Death::Unknown,
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
