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
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn results_come_in_order_whatever_finishes_first() {
        // Each even number waits until its successor is done.
        let turns: Vec<Barrier> = (0..50).map(|_| Barrier::new(2)).collect();
        let done = Mutex::new(Vec::new());
        let mut seen = Vec::new();
        let end = run::<_, ()>(
            100,
            2,
            |n| {
                if n % 2 == 1 {
                    done.lock().unwrap().push(n);
                }
                turns[usize::try_from(n / 2).unwrap()].wait();
                if n % 2 == 0 {
                    done.lock().unwrap().push(n);
                }
                n * n
            },
            |n, result| {
                seen.push((n, result));
                ControlFlow::Continue(())
            },
        );
        assert_eq!(end, None);
        assert_eq!(seen, (0..100).map(|n| (n, n * n)).collect::<Vec<_>>());
        let done = done.into_inner().unwrap();
        assert_eq!(done[..2], [1, 0], "the second was done first");
    }

    #[test]
    fn a_break_stops_new_work() {
        let begun = AtomicU64::new(0);
        let end = run(
            1_000_000,
            4,
            |_| begun.fetch_add(1, Ordering::Relaxed),
            |n, _| if n == 10 { ControlFlow::Break("enough") } else { ControlFlow::Continue(()) },
        );
        assert_eq!(end, Some("enough"));
        // 0 to 10 were handed out, and at most the window was under way.
        assert!(begun.load(Ordering::Relaxed) <= 11 + 4 * WINDOW);
    }

    #[test]
    fn work_never_runs_far_ahead_of_the_output() {
        let (begun, emitted) = (AtomicU64::new(0), AtomicU64::new(0));
        run::<_, ()>(
            200,
            3,
            |n| {
                begun.fetch_max(n, Ordering::SeqCst);
                assert!(n <= emitted.load(Ordering::SeqCst) + 3 * WINDOW);
            },
            |_, ()| {
                emitted.fetch_add(1, Ordering::SeqCst);
                ControlFlow::Continue(())
            },
        );
        assert_eq!(begun.load(Ordering::SeqCst), 199);
    }

    #[test]
    fn no_work_is_done_at_once() {
        assert_eq!(run::<_, ()>(0, 4, |_| (), |_, ()| ControlFlow::Continue(())), None);
    }
}
