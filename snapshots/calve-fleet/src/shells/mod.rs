//! Shells that wait for content, and the thread that sees to it that there are some.
//!
//! ```text
//!            take                        birth
//!  request ───────► ready shells ◄───────────────── refill thread ◄── wakes: a shell was taken, one died,
//!     │ none ready                                                    more are wanted, time has passed
//!     └──────────► birth on the spot
//! ```
//!
//! How many are wanted is decided in [`Demand`], how many there may be in [`Budget`]. A shell that
//! dies while it waits costs nothing: the thread watches their processes and makes another.

mod demand;
mod refill;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use calve_vmm::Shape;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::cancel::Canceller;
use crate::error::WorkerError;
use crate::worker::{Haste, Nursery, Worker};
use demand::Demand;

/// How many shells of a shape wait for content: never fewer than `least` for longer than a birth
/// takes, more while requests come faster than shells are born, and never more than `most`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Always.
    pub least: usize,
    /// At the highest demand.
    pub most: usize,
}

/// What all waiting shells together may take before no more are made in the background. Machines with
/// content do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Processes.
    pub shells: usize,
    /// Private memory, KiB, as [`Clone::private_kib`](crate::Clone::private_kib) counts it.
    pub private_kib: u64,
}

impl Default for Budget {
    /// 64 processes, 256 MiB.
    fn default() -> Self {
        Self { shells: 64, private_kib: 256 << 10 }
    }
}

/// All waiting shells of a fleet.
#[derive(Debug)]
pub(crate) struct Shells {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the fleet and the refill thread share.
#[derive(Debug)]
struct Shared {
    nursery: Nursery,
    cancel: Canceller,
    budget: Budget,
    /// Written to when the thread has something new to look at.
    wake: EventFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kinds: HashMap<Shape, Kind>,
    closed: bool,
}

/// The shells of one shape.
#[derive(Debug, Default)]
struct Kind {
    ready: Vec<Ready>,
    keep: Keep,
    demand: Demand,
    /// No births before this moment, because the last ones failed.
    not_before: Option<Instant>,
    failures: u32,
}

/// A shell and what it weighs.
#[derive(Debug)]
struct Ready {
    worker: Worker,
    private_kib: u64,
}

impl Shells {
    pub(crate) fn new(nursery: Nursery, cancel: Canceller, budget: Budget) -> nix::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_value_and_flags(0, flags)?;
        let shared = Shared { nursery, cancel, budget, wake, state: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), thread: Mutex::new(None) })
    }

    /// A shell, or a worker about to be one; and whether it was ready.
    pub(crate) fn take(&self, shape: Shape) -> Result<(Worker, bool), WorkerError> {
        self.shared.state().kinds.entry(shape).or_default().demand.taken(Instant::now());
        loop {
            let taken = self.shared.state().kinds.entry(shape).or_default().ready.pop();
            self.shared.wake();
            let Some(mut ready) = taken else {
                return Ok((self.shared.birth(shape, Haste::Awaited)?, false));
            };
            if ready.worker.is_fit() {
                return Ok((ready.worker, true));
            }
        }
    }

    /// Makes shells until `count` are ready, and waits for them.
    pub(crate) fn prepare(&self, shape: Shape, count: usize) -> Result<(), WorkerError> {
        let started = Instant::now();
        let births = (self.ready(shape)..count).map(|_| self.shared.birth(shape, Haste::Awaited));
        // All at once first: each becomes a shell while the others do.
        let born = births.collect::<Result<Vec<_>, _>>()?;
        for mut worker in born {
            worker.wait_shell()?;
            self.shared.add(shape, worker, started.elapsed());
        }
        Ok(())
    }

    /// How many are ready.
    pub(crate) fn ready(&self, shape: Shape) -> usize {
        self.shared.state().kinds.get(&shape).map_or(0, |kind| kind.ready.len())
    }

    /// Has the refill thread keep so many ready from now on.
    pub(crate) fn keep(&self, shape: Shape, keep: Keep) -> std::io::Result<()> {
        self.shared.state().kinds.entry(shape).or_default().keep = keep;
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_none_or(JoinHandle::is_finished) {
            let shared = self.shared.clone();
            let builder = std::thread::Builder::new().name("calve-refill".into());
            *thread = Some(builder.spawn(move || shared.refill())?);
        }
        self.shared.wake();
        Ok(())
    }
}

impl Drop for Shells {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.wake();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // At most a birth away. A panic of the thread was reported where it happened.
            let _ = thread.join();
        }
        self.shared.state().kinds.clear();
    }
}

impl Shared {
    fn birth(&self, shape: Shape, haste: Haste) -> Result<Worker, WorkerError> {
        Worker::birth(&self.nursery, &self.cancel, shape, haste)
    }

    fn add(&self, shape: Shape, worker: Worker, birth: Duration) {
        let private_kib = worker.private_kib().unwrap_or(0);
        let mut state = self.state();
        let kind = state.kinds.entry(shape).or_default();
        kind.demand.born(birth);
        kind.ready.push(Ready { worker, private_kib });
    }

    fn wake(&self) {
        // It fails only when the counter is full: then the thread is awake for certain.
        let _ = self.wake.write(1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A list of shells is whole whenever the lock is free.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
