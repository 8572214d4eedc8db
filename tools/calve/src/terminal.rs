//! Raw mode, single keys, the other screen, and the way back from them on every path.
//!
//! A guard restores the terminal when it goes out of scope. Paths that run no destructors (a second signal, a panic)
//! call [`restore`] themselves.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{
    LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr,
    tcsetattr,
};
use nix::unistd::{getpgrp, tcgetpgrp};

/// The settings to go back to.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);
/// Whether the other screen is shown. Changed under the lock of stdout only.
static SCREEN: AtomicBool = AtomicBool::new(false);

/// Shows the other screen, hides the cursor, cuts long lines instead of wrapping them (xterm's private modes).
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
/// Undoes that.
const LEAVE: &[u8] = b"\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Raw mode, until it is dropped.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Puts the terminal at stdin into raw mode: every key goes to the caller. `None` where stdin is no terminal, or one
    /// that is in other hands because this command runs in the background.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let entered = change(|settings| {
            let output = settings.output_flags;
            cfmakeraw(settings);
            // Output stays as it was, so that our own lines on stderr begin in the first column.
            settings.output_flags |= output & (OutputFlags::OPOST | OutputFlags::ONLCR);
        })?;
        Ok(entered.then(|| Self(())))
    }
}

/// Keys one by one, unseen, until it is dropped. Ctrl-C stays a signal.
#[derive(Debug)]
pub(crate) struct Keys(());

impl Keys {
    /// Takes the keys; `None` where [`Raw::enter`] has none.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let entered = change(|settings| {
            settings.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            // A shell would come back to the wrong screen.
            settings.control_chars[SpecialCharacterIndices::VSUSP as usize] = 0;
        })?;
        Ok(entered.then(|| Self(())))
    }

    /// Waits; whether `key` was pressed before the time was over, or no key will ever be.
    pub(crate) fn wait_for(&self, key: u8, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut stdin = io::stdin();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return false,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return true,
                Ok(_) => {}
            }
            let mut keys = [0; 64];
            match stdin.read(&mut keys) {
                Ok(0) | Err(_) => return true,
                Ok(count) if keys[..count].contains(&key) => return true,
                Ok(_) => {}
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        restore();
    }
}

/// The other screen of the terminal at stdout, until it is dropped: what was on the first one is still there then.
#[derive(Debug)]
pub(crate) struct Screen(());

impl Screen {
    /// Shows it.
    pub(crate) fn enter() -> io::Result<Self> {
        let mut stdout = io::stdout().lock();
        SCREEN.store(true, Ordering::SeqCst);
        let screen = Self(());
        stdout.write_all(ENTER)?;
        stdout.flush()?;
        Ok(screen)
    }

    /// Draws lines over those of before. In one piece, and each line over the old one before its rest is erased: a
    /// screen that were cleared first would flicker.
    pub(crate) fn draw(&self, lines: &[String]) -> io::Result<()> {
        // Synchronized output: a terminal that knows it shows all at once.
        let frame = format!("\x1b[?2026h\x1b[H{}\x1b[K\x1b[J\x1b[?2026l", lines.join("\x1b[K\r\n"));
        let mut stdout = io::stdout().lock();
        // A signal may have ended it.
        if !SCREEN.load(Ordering::SeqCst) {
            return Ok(());
        }
        stdout.write_all(frame.as_bytes())?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Changes the settings of the terminal at stdin, and remembers what they were. `false` where there is none of ours.
fn change(how: impl FnOnce(&mut Termios)) -> io::Result<bool> {
    let stdin = io::stdin();
    let Ok(settings) = tcgetattr(stdin.as_fd()) else { return Ok(false) };
    if tcgetpgrp(stdin.as_fd()).ok() != Some(getpgrp()) {
        return Ok(false);
    }
    let mut changed = settings.clone();
    how(&mut changed);
    *saved() = Some(settings);
    tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &changed).inspect_err(|_| *saved() = None)?;
    Ok(true)
}

/// Puts the terminal back as it was; no effect if that has been done.
pub(crate) fn restore() {
    if SCREEN.load(Ordering::SeqCst) {
        let mut stdout = io::stdout().lock();
        // Whoever was in the middle of drawing has finished. A terminal that is gone cannot be written to.
        if SCREEN.swap(false, Ordering::SeqCst) {
            let _ = stdout.write_all(LEAVE).and_then(|()| stdout.flush());
        }
    }
    if let Some(settings) = saved().take() {
        // A terminal that has been hung up cannot be set, and need not be.
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &settings);
    }
}

fn saved() -> std::sync::MutexGuard<'static, Option<Termios>> {
    SAVED.lock().unwrap_or_else(PoisonError::into_inner)
}
