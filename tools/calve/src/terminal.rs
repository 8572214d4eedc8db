//! Raw mode, and the way back from it on every path.
//!
//! A guard restores the terminal when it goes out of scope. Paths that run no destructors (a second signal, a panic)
//! call [`restore`] themselves.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};

/// The settings to go back to.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode, until it is dropped.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Puts the terminal at stdin into raw mode: every key goes to the caller. `None` where stdin is no terminal, or one
    /// that is in other hands because this command runs in the background.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        let Ok(settings) = tcgetattr(stdin.as_fd()) else { return Ok(None) };
        if tcgetpgrp(stdin.as_fd()).ok() != Some(getpgrp()) {
            return Ok(None);
        }
        let mut raw = settings.clone();
        cfmakeraw(&mut raw);
        // Output stays as it was, so that our own lines on stderr begin in the first column.
        raw.output_flags |= settings.output_flags & (OutputFlags::OPOST | OutputFlags::ONLCR);
        *saved() = Some(settings);
        tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw).inspect_err(|_| *saved() = None)?;
        Ok(Some(Self(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was; no effect if that has been done.
pub(crate) fn restore() {
    if let Some(settings) = saved().take() {
        // A terminal that has been hung up cannot be set, and need not be.
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &settings);
    }
}

fn saved() -> std::sync::MutexGuard<'static, Option<Termios>> {
    SAVED.lock().unwrap_or_else(PoisonError::into_inner)
}
