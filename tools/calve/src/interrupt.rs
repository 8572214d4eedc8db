//! SIGINT, SIGTERM and SIGHUP: unwind, so that every destructor runs, and exit with 130.
//!
//! The first signal sets a flag and runs the hook of the work in progress, which makes its blocked calls return.
//! Whoever then fails does so because of the signal, so `main` reports the signal instead. The second signal does not
//! wait any longer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::failure::{Failure, Status};
use crate::{stdio, terminal};

type Hook = Box<dyn FnOnce() + Send>;

/// Whether a signal has come.
static CAME: AtomicBool = AtomicBool::new(false);
/// What the next signal does.
static HOOK: Mutex<Option<Hook>> = Mutex::new(None);

/// Takes over the three signals.
pub(crate) fn install() -> Result<(), Failure> {
    // The handler runs on a thread of ctrlc's own, so it may do anything.
    let installed = ctrlc::set_handler(|| {
        if CAME.swap(true, Ordering::SeqCst) {
            leave();
        }
        let hook = hook().take();
        hook.into_iter().for_each(|hook| hook());
    });
    installed.map_err(|e| Failure::of(Status::Host, &e).about("cannot handle signals"))
}

/// Whether a signal has come.
pub(crate) fn came() -> bool {
    CAME.load(Ordering::SeqCst)
}

/// Fails if a signal has come.
pub(crate) fn check() -> Result<(), Failure> {
    if came() { Err(Failure::interrupted()) } else { Ok(()) }
}

/// Runs `work` when a signal comes, or at once if one has come already; until the guard is dropped.
pub(crate) fn on_signal(work: impl FnOnce() + Send + 'static) -> Guard {
    *hook() = Some(Box::new(work));
    // A signal between the flag and the hook has found no hook: whoever takes it, runs it.
    if came() {
        let hook = hook().take();
        hook.into_iter().for_each(|hook| hook());
    }
    Guard(())
}

/// Makes a signal end the process at once until the guard is dropped: for moments when nothing has to be undone but a
/// system call may block for ever, such as reading an event from a terminal.
pub(crate) fn leave_at_once() -> Guard {
    on_signal(|| leave())
}

/// Takes the hook away when dropped.
#[must_use = "the hook goes with it"]
pub(crate) struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        hook().take();
    }
}

fn hook() -> MutexGuard<'static, Option<Hook>> {
    HOOK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process without unwinding.
fn leave() -> ! {
    terminal::restore();
    stdio::say("interrupted");
    std::process::exit(i32::from(Status::Interrupted as u8))
}
