//! Event sources: files, schedules, tables and queues become durable messages for functions.
//!
//! ```text
//!  folder ── inotify, scans ──┐
//!  clock ── ticks ────────────┤
//!  table ── looks ────────────┼─► deliver ──► ledger: messages and the source's position, in one transaction
//!  POST /calve/v1/queues/… ───┘      ▲
//!                                    └── is the source there, enabled, and the function its tenant's?
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | `settings` | the kinds of source, and what they may be set to |
//! | `arn`, `target` | how requests name sources and functions |
//! | `manage` | creates, changes and removes sources; blocks |
//! | `registry` | the sources as the ledger has them, in memory |
//! | `deliver` | hands messages to the ledger, if they may be |
//! | `supervise`, `runner` | the task that has every source looked after |
//! | `inbox`, `survey`, `take`, `watch`, `record` | file drops |
//! | `cron`, `tick` | schedules |
//! | `table` | rows of tables |
//! | `queue` | queues |
//! | `routes` | over HTTP |
//!
//! The promise is at least once. What can go wrong between a source and the ledger is narrower than that: a position is
//! written in the transaction of its messages, so a tick, a row, and a version of a file become one message each however
//! often the host is killed (`take` has the one exception). What follows after the message is the queue's.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;

pub use crate::clock::Clock;
use crate::held::Holds;
use crate::ledger::{Ledger, LedgerError};
use crate::model::{Function, Millis};

mod arn;
mod cron;
mod deliver;

mod inbox;
mod manage;
mod queue;
mod record;
mod registry;
mod routes;
mod runner;
mod settings;
mod supervise;
mod survey;
mod table;
mod take;
mod target;
#[cfg(test)]
mod tests;
mod tick;
mod watch;

pub use deliver::Refusal;
pub use manage::{Change, Draft};
pub use queue::{MOST_MESSAGES, MOST_PUT};
pub use registry::Live;
pub use routes::routes;
pub use settings::{Kind, MOST_INLINE, Settings};
pub use supervise::Sources;

/// Messages of a function that wait, over which its sources take nothing in.
pub const MOST_WAITING: u64 = 10_000;

/// Finds a function by tenant and name.
pub type Lookup = Arc<dyn Fn(&str, &str) -> Option<Arc<Function>> + Send + Sync>;

/// Finds a tenant's account.
pub type Accounts = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What event sources are made of.
pub struct Parts {
    /// Where messages go.
    pub ledger: Arc<dyn Ledger>,
    /// The functions, as they are now.
    pub functions: Lookup,
    /// The tenants' accounts.
    pub accounts: Accounts,
    /// Has a folder for each tenant, which has the folders that files are dropped in, and databases.
    pub files: PathBuf,
    /// The region in ARNs.
    pub region: String,
    /// The time.
    pub clock: Clock,
    /// Is notified when there are new messages.
    pub arrived: Arc<Notify>,
}

/// All event sources. Safe to share between threads.
pub struct Events {
    parts: Parts,
    registry: registry::Registry,
    /// Sources have been added, changed or removed.
    changed: Notify,
    /// Tenants for whom somebody looks at a table that is to be a source: one look each, since a database may be made to
    /// keep whoever opens it.
    looking: Holds<String>,
}

impl Events {
    /// Reads the sources from the ledger. They deliver when [`Sources::start`] has been called. Blocks.
    ///
    /// # Errors
    ///
    /// When the ledger cannot be read.
    pub fn open(parts: Parts) -> Result<Arc<Self>, LedgerError> {
        let registry = registry::Registry::open(&*parts.ledger)?;
        let looking = Holds::default();
        Ok(Arc::new(Self { parts, registry, changed: Notify::new(), looking }))
    }

    /// Reads the sources again: to be called when a function has been removed, which its sources go with. Blocks.
    ///
    /// # Errors
    ///
    /// When the ledger cannot be read.
    pub fn refresh(&self) -> Result<(), LedgerError> {
        self.registry.change(&*self.parts.ledger, || Ok::<_, LedgerError>(()))?;
        self.changed.notify_one();
        Ok(())
    }

    fn now(&self) -> Millis {
        (self.parts.clock)()
    }

    /// A tenant's account, for ARNs and events.
    fn account(&self, tenant: &str) -> String {
        (self.parts.accounts)(tenant).unwrap_or_else(|| "000000000000".to_owned())
    }
}
