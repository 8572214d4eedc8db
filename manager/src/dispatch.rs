//! Does what the scheduler says: one task owns it and all machines that nobody is using; threads start, call, reset and end
//! machines, and tell it what came of that.
//!
//! ```text
//!  call() ── Job ──► task: Scheduler, idle machines ── Action ──► a thread: start, call
//!    ▲                    ▲                                              │
//!    │                    └── what became of the machine ────────────────┤
//!    └─────────────────────── what became of the call ───────────────────┘
//! ```

mod desk;
mod job;
mod ready;
mod results;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot};

use self::desk::{Desk, News};
pub use self::job::{Job, Served, Unserved};
use self::job::{Tether, Ticket};
use self::ready::Ready;
pub use self::results::{Piece, Results};
use crate::engine::Engine;
use crate::model::Millis;
use crate::schedule::{Code, MachineId, RequestId, Settings, State};

/// A machine has changed its state, for whoever watches.
#[derive(Clone, Debug)]
pub struct Change {
    /// The machine's number.
    pub machine: MachineId,
    /// What it is of.
    pub code: Arc<Code>,
    /// Its state now.
    pub state: State,
}

/// How many there are, for whoever watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Machines that boot.
    pub booting: usize,
    /// Machines that were never called.
    pub warm: usize,
    /// Machines that wait for the next call.
    pub idle: usize,
    /// Machines that serve one.
    pub busy: usize,
    /// Machines that are being reset or ended.
    pub leaving: usize,
    /// Requests that wait for a machine.
    pub waiting: usize,
}

/// The way to machines. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    desk: mpsc::UnboundedSender<News>,
    changes: broadcast::Sender<Change>,
    born: Instant,
    numbers: Arc<std::sync::atomic::AtomicU64>,
    ready: Arc<Ready>,
    lost: mpsc::UnboundedSender<String>,
}

/// Changes that a slow watcher may be behind before it misses some.
const CHANGES: usize = 1024;

impl Dispatcher {
    /// Starts the task, in the runtime that this is called in. `lost` hears of snapshots from which no machine could be
    /// started ahead; of others, their callers hear.
    pub fn start(
        engine: Arc<dyn Engine>,
        settings: Settings,
        lost: mpsc::UnboundedSender<String>,
    ) -> Self {
        let (desk, news) = mpsc::unbounded_channel();
        let (changes, _) = broadcast::channel(CHANGES);
        let born = Instant::now();
        let dispatcher =
            Self { desk, changes, born, numbers: Arc::default(), ready: Arc::default(), lost };
        tokio::spawn(Desk::new(engine, settings, dispatcher.clone()).run(news));
        dispatcher
    }

    /// Finds a machine for a call and makes it. Giving up on this gives up the call: one that waits leaves the queue, one
    /// that runs loses its machine.
    ///
    /// # Errors
    ///
    /// When no machine was to be had.
    pub async fn call(&self, job: Job) -> Result<Served, Unserved> {
        let id = self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let (answer, answered) = oneshot::channel();
        let tether = Arc::new(Tether::default());
        let ticket = Ticket::new(job, tether.clone(), answer);
        self.tell(News::Wanted { id, ticket: Box::new(ticket) });
        let mut leash = Leash { dispatcher: self, id, tether, held: true };
        let answered = answered.await;
        leash.held = false;
        // The task is gone only when the host is.
        answered.unwrap_or(Err(Unserved::ShutDown))
    }

    /// Keeps so many machines of a code ready, within the memory that its tenant may have, MiB.
    pub fn provision(&self, code: Arc<Code>, wanted: u32, allowed_mib: u64) {
        self.tell(News::Provision { code, wanted, allowed_mib });
    }

    /// Ends the machines of a snapshot.
    pub fn retire(&self, snapshot: &str) {
        self.tell(News::Retire { snapshot: snapshot.into() });
    }

    /// Machines of a snapshot that have started and are not being ended.
    pub fn ready(&self, snapshot: &str) -> usize {
        self.ready.count(snapshot)
    }

    /// What machines there are: of one tenant, or of all.
    pub async fn counts(&self, tenant: Option<&str>) -> Counts {
        let (answer, answered) = oneshot::channel();
        self.tell(News::Count { tenant: tenant.map(str::to_owned), answer });
        answered.await.unwrap_or_default()
    }

    /// Every change of a machine's state from now on.
    pub fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Takes no more calls, and waits for those that it has taken, for so long at most. Whether all are done.
    pub async fn drain(&self, most: Duration) -> bool {
        let (answer, answered) = oneshot::channel();
        self.tell(News::Drain { answer });
        tokio::time::timeout(most, answered).await.is_ok()
    }

    fn tell(&self, news: News) {
        // Nobody listens when the host is shut down.
        let _ = self.desk.send(news);
    }

    fn now(&self) -> Millis {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Ends a call that its caller has given up.
struct Leash<'a> {
    dispatcher: &'a Dispatcher,
    id: RequestId,
    tether: Arc<Tether>,
    held: bool,
}

impl Drop for Leash<'_> {
    fn drop(&mut self) {
        if self.held {
            self.tether.cut();
            self.dispatcher.tell(News::Unwanted { id: self.id });
        }
    }
}
