//! Signals as events, and the reaping of children.
//!
//! SIGCHLD and SIGTERM are blocked and come through a signalfd(2). `SA_NOCLDSTOP` keeps the stops and continues that a
//! freeze and a thaw cause from waking the agent.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use calve_proto::Exit;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// The signals the agent lives by.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals for this thread and opens their descriptor. Children start with an empty mask: the standard
    /// library's `Command` resets it.
    pub(crate) fn new() -> io::Result<Self> {
        quiet_stops()?;
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        set.add(Signal::SIGTERM);
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Takes all pending signals; returns whether one of them asked the agent to end.
    pub(crate) fn drain(&self) -> io::Result<bool> {
        let mut end = false;
        while let Some(info) = self.fd.read_signal()? {
            end |= info.ssi_signo == Signal::SIGTERM as u32;
        }
        Ok(end)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Asks for SIGCHLD only when a child ends.
#[allow(unsafe_code)]
fn quiet_stops() -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::SA_NOCLDSTOP, SigSet::empty());
    // SAFETY: no function of ours is installed as a handler, so none can run in signal context; the default action of
    // SIGCHLD is to do nothing.
    unsafe { sigaction(Signal::SIGCHLD, &action) }?;
    Ok(())
}

/// Reaps one ended child, or returns `None` if none has ended. As PID 1 the agent also inherits every orphan.
pub(crate) fn reap() -> Option<(Pid, Exit)> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => {
                // The kernel keeps the low byte of an exit status only (exit(3)).
                return Some((pid, Exit::Status(u8::try_from(status & 0xff).unwrap_or(u8::MAX))));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Some((pid, Exit::Signal(u8::try_from(signal as i32).unwrap_or(u8::MAX))));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Waits until the child `pid`, which was sent SIGSTOP, has stopped or ended; returns whether it has stopped. An ended
/// child is left to [`reap`].
pub(crate) fn wait_for_stop(pid: Pid) -> io::Result<bool> {
    loop {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(pid), flags) {
            Err(Errno::EINTR) => {}
            Ok(status) => return Ok(matches!(status, WaitStatus::Stopped(..))),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Waits until the child `pid`, which was sent SIGKILL, has ended, and takes it.
pub(crate) fn wait_for_end(pid: Pid) {
    while let Err(Errno::EINTR) = waitpid(pid, None) {}
}

#[cfg(test)]
mod tests;
