//! Does numbered work on several threads and hands out what comes of it in order.
//!
//! ```text
//!  worker ─┐                          ┌─ 0, 1, 2, … ─► emit (the caller's thread)
//!  worker ─┼─► done, in any order ────┤
//!  worker ─┘                          └─ kept until their turn, at most WINDOW per worker
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

/// Results kept per worker while an earlier one is missing. A result has up to 6 MiB.
const WINDOW: u64 = 2;

/// Which number is next, and how far ahead of the output it may be.
struct Tickets {
    state: Mutex<State>,
    moved: Condvar,
    count: u64,
    window: u64,
}

struct State {
    next: u64,
    emitted: u64,
    stopped: bool,
}

/// Calls `work` for 0 to `count - 1` on `workers` threads, and `emit` with each result in order on this one. After a
/// `Break` no new work begins; what is under way is waited for and dropped.
pub(super) fn run<T: Send, B>(
    count: u64,
    workers: u64,
    work: impl Fn(u64) -> T + Sync,
    mut emit: impl FnMut(u64, T) -> ControlFlow<B>,
) -> Option<B> {
    let workers = workers.min(count);
    let state = Mutex::new(State { next: 0, emitted: 0, stopped: false });
    let tickets = Tickets { state, moved: Condvar::new(), count, window: workers * WINDOW };
    thread::scope(|scope| {
        let (sender, results) = mpsc::channel();
        for _ in 0..workers {
            let (sender, tickets, work) = (sender.clone(), &tickets, &work);
            scope.spawn(move || {
                while let Some(number) = tickets.take() {
                    if sender.send((number, work(number))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        for (number, result) in results {
            early.insert(number, result);
            while let Some(entry) = early.first_entry().filter(|e| *e.key() == tickets.emitted()) {
                let (number, result) = entry.remove_entry();
                if let ControlFlow::Break(reason) = emit(number, result) {
                    tickets.stop();
                    return Some(reason);
                }
                tickets.advance();
            }
        }
        None
    })
}

impl Tickets {
    /// The next number, once it is close enough to the output; `None` when there is no more to do.
    fn take(&self) -> Option<u64> {
        let open = |state: &mut State| {
            !state.stopped && state.next < self.count && state.next >= state.emitted + self.window
        };
        let state = self.moved.wait_while(self.state(), open);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.stopped || state.next >= self.count {
            return None;
        }
        state.next += 1;
        Some(state.next - 1)
    }

    fn emitted(&self) -> u64 {
        self.state().emitted
    }

    fn advance(&self) {
        self.state().emitted += 1;
        self.moved.notify_all();
    }

    fn stop(&self) {
        self.state().stopped = true;
        self.moved.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
