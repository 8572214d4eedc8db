//! The lease on a run, which keeps other processes from doing the same.
//!
//! ```text
//!  take ──► held ── renew, again and again ──► finish: the record, if still held; then given up
//!             ├──── dropped ──► given up, on a thread
//!             └──── lapsed, or somebody else has it ──► lost for good: nothing is stored
//! ```
//!
//! A host that dies gives nothing up: its leases end by themselves.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::{Clock, Key, RunError};
use crate::ledger::{Ledger, LedgerError, Record};
use crate::model::Millis;

/// The lease on one run. Dropping it gives it up.
pub(super) struct Claim {
    pub(super) lease: Arc<Lease>,
    /// Where it is given up when dropped, which may happen outside of the runtime.
    runtime: Handle,
    finished: bool,
}

impl Claim {
    /// A claim that is not taken yet. `owner` is nobody else's.
    pub(super) fn new(
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        tenant: String,
        key: Key,
        owner: String,
        length: Millis,
    ) -> Self {
        let hold = Mutex::new(Hold::Free);
        let lease = Arc::new(Lease { ledger, clock, tenant, key, owner, length, hold });
        Self { lease, runtime: Handle::current(), finished: false }
    }

    /// Tries to take it; whether it is ours.
    pub(super) async fn take(&self) -> Result<bool, RunError> {
        let lease = self.lease.clone();
        Ok(spawn_blocking(move || lease.take()).await??)
    }

    /// Keeps it from running out, for as long as this is polled.
    pub(super) async fn keep(&self) -> Infallible {
        // Three tries in each lease, so that one may fail.
        let pause = Duration::from_millis((self.lease.length / 3).max(1));
        loop {
            tokio::time::sleep(pause).await;
            let lease = self.lease.clone();
            match spawn_blocking(move || lease.renew()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, key = ?self.lease.key, "a lease cannot be extended");
                }
                // The runtime ends, and this with it.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Keeps the record if the lease is still ours, and gives the lease up.
    pub(super) async fn finish(mut self, record: Option<Record>) -> Result<(), RunError> {
        let lease = self.lease.clone();
        self.finished = true;
        Ok(spawn_blocking(move || lease.finish(record.as_ref())).await??)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.finished {
            let lease = self.lease.clone();
            self.runtime.spawn_blocking(move || {
                if let Err(error) = lease.finish(None) {
                    tracing::warn!(%error, key = ?lease.key, "a lease runs on until its end");
                }
            });
        }
    }
}

/// What is done about a lease, one thing after the other, whichever threads they are on.
pub(super) struct Lease {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    tenant: String,
    key: Key,
    owner: String,
    length: Millis,
    hold: Mutex<Hold>,
}

#[derive(Clone, Copy)]
enum Hold {
    /// Not taken yet.
    Free,
    /// Ours until then.
    Until(Millis),
    /// Not ours any more, or given up.
    Over,
}

impl Lease {
    pub(super) fn take(&self) -> Result<bool, LedgerError> {
        let mut hold = self.hold();
        // Given up before this got a thread: nobody would give it up again.
        let ours = !matches!(*hold, Hold::Over) && self.claim(&mut hold)?;
        Ok(ours)
    }

    fn renew(&self) -> Result<(), LedgerError> {
        let mut hold = self.hold();
        if self.held(*hold) {
            if !self.claim(&mut hold)? {
                *hold = Hold::Over;
            }
        } else {
            // It lapsed, so somebody else may have had it meanwhile. Not to be had back.
            *hold = Hold::Over;
        }
        Ok(())
    }

    pub(super) fn finish(&self, record: Option<&Record>) -> Result<(), LedgerError> {
        let mut hold = self.hold();
        let before = std::mem::replace(&mut *hold, Hold::Over);
        let stored = match record {
            Some(record) if self.held(before) => self.ledger.put_record(record),
            _ => Ok(()),
        };
        if matches!(before, Hold::Until(_)) {
            self.ledger.unclaim(&self.tenant, self.key.as_str(), &self.owner)?;
        }
        stored
    }

    fn claim(&self, hold: &mut Hold) -> Result<bool, LedgerError> {
        let now = (self.clock)();
        let until = now.saturating_add(self.length);
        let key = self.key.as_str();
        let ours = self.ledger.claim(&self.tenant, key, &self.owner, now, until)?;
        if ours {
            *hold = Hold::Until(until);
        }
        Ok(ours)
    }

    fn held(&self, hold: Hold) -> bool {
        matches!(hold, Hold::Until(until) if (self.clock)() < until)
    }

    /// Blocks while another thread is at the ledger: for blocking threads only.
    fn hold(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
