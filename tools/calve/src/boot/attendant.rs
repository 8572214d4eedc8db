//! A thread between the terminal and a machine.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use calve_fleet::Canceller;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::keyboard::{Key, Keyboard};
use crate::failure::Failure;

/// Keys handed over in one go, in bytes: what a pipe takes whole (`PIPE_BUF`, pipe(7)).
const KEYS: usize = 4096;

/// Why the attendant ended the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Keyboard,
    ReaderGone,
}

/// The thread's owner. The thread ends with the process, or when it has ended the machine.
pub(super) struct Attendant {
    /// The worker's end of the pipe.
    keys: OwnedFd,
    reason: Arc<Mutex<Option<Reason>>>,
}

impl Attendant {
    /// Starts the thread. With `escapes`, Ctrl-A x ends the machine, which it does by `cancel`.
    pub(super) fn start(escapes: bool, cancel: Canceller) -> io::Result<Self> {
        let (keys, pipe) = pipe2(OFlag::O_CLOEXEC)?;
        let reason = Arc::new(Mutex::new(None));
        let verdict = Arc::clone(&reason);
        thread::Builder::new().name("calve-attendant".into()).spawn(move || {
            if let Some(reason) = attend(Keyboard::new(escapes), pipe) {
                *verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                cancel.cancel();
            }
        })?;
        Ok(Self { keys, reason })
    }

    /// Where the guest's keys come from.
    pub(super) fn keys(&self) -> io::Result<OwnedFd> {
        self.keys.try_clone()
    }

    /// What the command comes to, if it was the attendant who ended the machine.
    pub(super) fn verdict(&self) -> Option<Result<(), Failure>> {
        let reason = *self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.map(|reason| match reason {
            Reason::Keyboard => Ok(()),
            Reason::ReaderGone => Err(Failure::ReaderGone),
        })
    }
}

/// Hands keys over until the machine is to end. `None` when there is nothing left to watch.
fn attend(mut keyboard: Keyboard, pipe: OwnedFd) -> Option<Reason> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let mut pipe = Some(pipe);
    let mut waiting: Vec<u8> = Vec::new();
    loop {
        // Errors are always reported: the reader of stdout going away is one.
        let mut fds = vec![PollFd::new(stdout.as_fd(), PollFlags::empty())];
        match &pipe {
            Some(_) if waiting.is_empty() => {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            Some(pipe) => fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)),
            None => {}
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
        }
        if fds[0].any().unwrap_or(false) {
            return Some(Reason::ReaderGone);
        }
        if fds.len() < 2 || !fds[1].any().unwrap_or(false) {
            continue;
        }
        if !waiting.is_empty() {
            let written =
                pipe.as_ref().map_or(Err(Errno::EPIPE), |p| nix::unistd::write(p, &waiting));
            match written {
                Ok(written) => drop(waiting.drain(..written)),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // The worker is gone, and with it the machine.
                Err(_) => return None,
            }
            continue;
        }
        let mut bytes = [0; KEYS];
        match nix::unistd::read(stdin.as_fd(), &mut bytes) {
            // Nobody types any more; the machine goes on.
            Ok(0) | Err(Errno::EIO | Errno::EBADF) => pipe = None,
            Ok(read) => match keyboard.take(&bytes[..read], &mut waiting) {
                Key::End => return Some(Reason::Keyboard),
                Key::Typed => {}
            },
            Err(_) => {}
        }
    }
}
