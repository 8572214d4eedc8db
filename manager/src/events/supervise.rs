//! The task that has every source looked after. The work is done by threads, one at most for each source: one that is
//! slow, or always fails, is no concern of the others.
//!
//! ```text
//!  idle ── wake: a sign, a tick, time to scan ──► working ──► idle, until …
//!   ▲                                                │
//!   └── not before a pause has passed ◄── function swamped (1 s), failure (1 s, doubling to 30 s)
//! ```

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::Instant;

use super::Events;
use super::registry::All;
use super::runner::{Done, GATHER, Outcome, REST, Runner, SCAN};
use super::settings::Kind;
use super::table::look;
use super::take::take;
use super::tick::tick;
use super::watch::{Sign, Watch};

/// Threads at the same time.
const MOST_WORK: usize = 32;
/// Those of them that look at tables: no more than one for each tenant, whose database may be made to keep it.
const MOST_LOOKS: usize = 8;
/// Signs that are kept for a source.
const MOST_READY: usize = 100_000;

/// Sources at work. Dropping it stops them; what is being delivered is delivered or not.
pub struct Sources {
    stop: Arc<Notify>,
    task: Option<JoinHandle<()>>,
}

impl Sources {
    /// Starts all sources, in the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// When folders cannot be watched.
    pub fn start(events: Arc<Events>) -> io::Result<Self> {
        let stop = Arc::new(Notify::new());
        let (watch, signs) = Watch::new()?;
        let supervisor =
            Supervisor { events, watch, runners: HashMap::new(), work: JoinSet::new() };
        let task = tokio::spawn(supervisor.run(signs, stop.clone()));
        Ok(Self { stop, task: Some(task) })
    }

    /// Stops them, and waits for the work that has begun.
    pub async fn stop(mut self) {
        self.stop.notify_one();
        if let Some(task) = self.task.take() {
            // It fails only by a panic, which has been shown.
            let _ = task.await;
        }
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Supervisor {
    events: Arc<Events>,
    watch: Watch,
    runners: HashMap<String, Runner>,
    work: JoinSet<Done>,
}

impl Supervisor {
    async fn run(mut self, mut signs: mpsc::Receiver<Vec<Sign>>, stop: Arc<Notify>) {
        self.load().await;
        loop {
            let next = self.start_due();
            tokio::select! {
                () = stop.notified() => break,
                () = self.events.changed.notified() => {}
                Some(done) = self.work.join_next_with_id() => {
                    self.finish(done);
                    continue;
                }
                Some(signs) = signs.recv() => {
                    self.heed(signs);
                    continue;
                }
                () = tokio::time::sleep_until(next) => continue,
            }
            self.load().await;
        }
        while self.work.join_next().await.is_some() {}
    }

    /// Makes the runners those of the sources that there are.
    async fn load(&mut self) {
        let events = self.events.clone();
        // The lock may be held while the disk is waited for.
        let all = tokio::task::spawn_blocking(move || events.registry.hold().clone()).await;
        let Ok(mut all) = all else { return };
        all.retain(|_, live| {
            live.source.enabled && !matches!(live.settings.source, Kind::Queue { .. })
        });
        self.become_those(all);
    }

    fn become_those(&mut self, all: All) {
        let watch = &self.watch;
        self.runners.retain(|id, _| {
            let stays = all.contains_key(id);
            if !stays {
                watch.remove(id);
            }
            stays
        });
        let now = Instant::now();
        for (id, live) in all {
            match self.runners.get_mut(&id) {
                Some(runner) if Arc::ptr_eq(&runner.live, &live) => {}
                Some(runner) => {
                    let working = runner.working;
                    *runner = Runner { working, ..Runner::new(live, now) };
                }
                None => {
                    self.runners.insert(id, Runner::new(live, now));
                }
            }
        }
    }

    /// Puts to work what is due. When the next is.
    fn start_due(&mut self) -> Instant {
        let now = Instant::now();
        let mut looking: HashSet<String> = self.runners.values().filter_map(looks_for).collect();
        let mut idle: Vec<_> =
            self.runners.values_mut().filter(|runner| runner.working.is_none()).collect();
        idle.sort_by_key(|runner| runner.due());
        for runner in idle {
            if self.work.len() >= MOST_WORK {
                // Whoever is done makes room, and this is called again.
                break;
            }
            if runner.due() > now {
                return runner.due();
            }
            let is_table = matches!(runner.live.settings.source, Kind::Table { .. });
            let tenant = &runner.live.source.tenant;
            // Whoever is done makes room here, too.
            if is_table && (looking.len() >= MOST_LOOKS || !looking.insert(tenant.clone())) {
                continue;
            }
            let scan = runner.next_scan <= now;
            if scan {
                runner.next_scan = now + SCAN;
            }
            let mut memory = std::mem::take(&mut runner.memory);
            memory.ready.extend(runner.ready.drain());
            let (events, live, watch) =
                (self.events.clone(), runner.live.clone(), self.watch.clone());
            let task = self.work.spawn_blocking(move || {
                let outcome = match &live.settings.source {
                    Kind::FileDrop { .. } => {
                        take(&events, &live, &watch, &mut memory, scan).map(Outcome::Took)
                    }
                    Kind::Table { .. } => {
                        look(&events, &live, &mut memory.table).map(Outcome::Looked)
                    }
                    Kind::Schedule { .. } | Kind::Queue { .. } => {
                        tick(&events, &live).map(Outcome::Ticked)
                    }
                };
                Done { live, memory, outcome }
            });
            runner.working = Some(task.id());
        }
        now + SCAN
    }

    fn finish(&mut self, done: Result<(Id, Done), tokio::task::JoinError>) {
        let (task, done) = match done {
            Ok((task, done)) => (task, Some(done)),
            Err(error) => (error.id(), None),
        };
        let mut runners = self.runners.values_mut();
        let Some(runner) = runners.find(|runner| runner.working == Some(task)) else { return };
        let Some(done) = done else {
            // The panic has been shown. What it knew is lost: the ledger knows it.
            *runner = Runner::new(runner.live.clone(), Instant::now() + SCAN);
            return;
        };
        runner.finish(done, self.events.now());
    }

    fn heed(&mut self, signs: Vec<Sign>) {
        let now = Instant::now();
        for sign in signs {
            match sign {
                Sign::Ready(source, name) => {
                    let Some(runner) = self.runners.get_mut(&source) else { continue };
                    if runner.ready.len() < MOST_READY {
                        runner.ready.insert(name);
                        runner.wake = runner.wake.min(now + GATHER);
                    } else {
                        runner.look(now);
                    }
                }
                Sign::Look(source) => {
                    if let Some(runner) = self.runners.get_mut(&source) {
                        runner.look(now + REST);
                    }
                }
                Sign::LookAtAll => {
                    self.runners.values_mut().for_each(|runner| runner.look(now + REST));
                }
            }
        }
    }
}

/// The tenant that a runner looks at a table for, while it does.
fn looks_for(runner: &Runner) -> Option<String> {
    let at_work = runner.working.is_some();
    let looks = at_work && matches!(runner.live.settings.source, Kind::Table { .. });
    looks.then(|| runner.live.source.tenant.clone())
}
