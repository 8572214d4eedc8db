//! The refill thread: sleeps until shells are short, then gives birth to one at a time.
//!
//! One at a time, because a birth is mostly work of the processor: two at once would take as long as
//! two after each other. And giving way to whatever else runs ([`Haste::None`]): a shell is missing because a request has
//! just taken it.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use calve_vmm::Shape;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Budget, Ready, Shared, State};
use crate::worker::{Gone, Haste};

/// Pause after a birth that failed, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest such pause: the reason may have gone away.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the thread does next.
enum Next {
    Birth(Shape),
    /// Sleep until something happens, at most until then; and the processes to watch.
    Sleep(Option<Instant>, Vec<Gone>),
    End,
}

impl Shared {
    /// Keeps shells ready until the fleet is dropped or cancelled.
    pub(super) fn refill(&self) {
        loop {
            match self.next() {
                Next::Birth(shape) => self.refill_one(shape),
                Next::Sleep(until, watched) => self.sleep(until, &watched),
                Next::End => return,
            }
        }
    }

    fn next(&self) -> Next {
        // Dropped after the lock is: ending a process takes a moment.
        let mut surplus = Vec::new();
        let mut state = self.state();
        if state.closed || self.cancel.is_cancelled() {
            return Next::End;
        }
        let now = Instant::now();
        state.discard(now, &mut surplus);
        let next = match state.shortest(now, self.budget) {
            Some(shape) => Next::Birth(shape),
            None => Next::Sleep(state.next_change(now), state.watched()),
        };
        drop(state);
        next
    }

    fn refill_one(&self, shape: Shape) {
        let started = Instant::now();
        let born = self.birth(shape, Haste::None);
        let born = born.and_then(|mut worker| worker.grow_up().map(|()| worker));
        match born {
            Ok(worker) => {
                self.add(shape, worker, started.elapsed());
                let mut state = self.state();
                let kind = state.kinds.entry(shape).or_default();
                (kind.failures, kind.not_before) = (0, None);
            }
            // Whoever needs a shell now gives birth himself and hears why that fails.
            Err(_) => {
                let mut state = self.state();
                let kind = state.kinds.entry(shape).or_default();
                let pause = FIRST_PAUSE.saturating_mul(1 << kind.failures.min(16));
                kind.failures = kind.failures.saturating_add(1);
                kind.not_before = Instant::now().checked_add(pause.min(LONGEST_PAUSE));
            }
        }
    }

    fn sleep(&self, until: Option<Instant>, watched: &[Gone]) {
        let input = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![input(self.wake.as_fd()), input(self.cancel.fd())];
        fds.extend(watched.iter().map(|process| input(process.as_fd())));
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now());
            (left + Duration::from_millis(1)).try_into().unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            // All that it can tell is looked up anyway.
            Ok(_) | Err(Errno::EINTR) => {}
            // Out of memory: not a reason to spin.
            Err(_) => std::thread::sleep(FIRST_PAUSE),
        }
        let _ = self.wake.read();
    }
}

impl State {
    /// Takes out the shells that have died or that nobody wants any more.
    fn discard(&mut self, now: Instant, surplus: &mut Vec<Ready>) {
        for kind in self.kinds.values_mut() {
            surplus.extend(kind.ready.extract_if(.., |ready| !ready.worker.is_fit()));
            if kind.keep == super::Keep::default() {
                // Prepared by hand, and kept until they are taken.
                continue;
            }
            let wanted = kind.demand.wanted(now, kind.keep);
            // The newest go: the oldest have their pages in the caches.
            surplus.extend(kind.ready.drain(wanted.min(kind.ready.len())..));
        }
    }

    /// The shape that lacks most of what it should have, if there is room for one more.
    fn shortest(&self, now: Instant, budget: Budget) -> Option<Shape> {
        let (mut shells, mut kib, mut heaviest) = (0, 0, 0);
        for ready in self.kinds.values().flat_map(|kind| &kind.ready) {
            shells += 1;
            kib += ready.private_kib;
            heaviest = heaviest.max(ready.private_kib);
        }
        if shells >= budget.shells || kib + heaviest > budget.private_kib {
            return None;
        }
        let lacks = self.kinds.iter().filter_map(|(shape, kind)| {
            let may = kind.not_before.is_none_or(|moment| moment <= now);
            let lacks = kind.demand.wanted(now, kind.keep).saturating_sub(kind.ready.len());
            (may && lacks > 0).then_some((lacks, *shape))
        });
        lacks.max_by_key(|(lacks, _)| *lacks).map(|(_, shape)| shape)
    }

    /// When to look again although nothing has happened.
    fn next_change(&self, now: Instant) -> Option<Instant> {
        let retries = self.kinds.values().filter_map(|kind| kind.not_before);
        let retries = retries.filter(|moment| *moment > now);
        let falls = self
            .kinds
            .values()
            .filter_map(|kind| kind.demand.falls_below(kind.ready.len(), kind.keep));
        retries.chain(falls).min()
    }

    fn watched(&self) -> Vec<Gone> {
        let ready = self.kinds.values().flat_map(|kind| &kind.ready);
        // One that cannot be watched is looked at when it is taken.
        ready.filter_map(|ready| ready.worker.gone().ok()).collect()
    }
}
