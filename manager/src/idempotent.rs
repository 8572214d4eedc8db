//! Idempotent execution: work that is unchanged is not done again.
//!
//! A function declares the files that its results depend on. A record keeps a result with the states that they had. A call
//! of the same [`Key`] whose files are as the record says is answered from it, without a machine; every other one runs.
//!
//! ```text
//!  run ──► flights ── somebody is at it ──► waits for what comes of it
//!             └────── nobody ──► lead: record fits ──► its result
//!                                  └── lease ──► execute ──► files as before? ──► record
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | `policy` | what a function declares |
//! | `key` | which calls are the same work |
//! | `canonical` | one text for all ways to write a JSON value |
//! | `resources` | the states of files |
//! | `flights` | who waits for whom in this process |
//! | `claim` | the lease that keeps other processes away |
//! | `lead` | what is done about it, in order |
//!
//! What holds, whatever crashes:
//!
//! - A result is stored only if it is no failure, the files were the same before and after, and the lease was ours to the
//!   end. Where a file's state cannot be told, the call runs and nothing is stored.
//! - Nobody has a result that is older than a change it could have known of: a call that came after the files were last
//!   looked at does not take what a run of before found, though it waited for it.
//! - Nobody waits for others longer than its patience. When a leader is gone, one who waits for it takes over; when a host
//!   is gone, its leases end.

mod canonical;
mod claim;
mod flights;
mod key;
mod lead;
mod policy;
mod resources;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use self::flights::{Flights, Outcome, Seat};
pub use self::key::{KEY_HEADER, Key, LONGEST_KEY, OwnKey, OwnKeyError, Work};
pub use self::policy::{
    Idempotency, LONGEST_NAME, LONGEST_TTL_S, MOST_RESOURCES, PolicyError, SHORTEST_TTL_S,
    check_name,
};
pub use self::resources::{LARGEST_RESOURCE, Resources};
pub use crate::clock::Clock;
use crate::clock::now;
use crate::ledger::{Ledger, LedgerError};

/// The longest patience that makes a difference: a day.
const LONGEST_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Answers calls from their records, or has them run. Cheap to clone. `F` is what a failed call comes back with; everybody
/// who waited for it has a clone.
#[derive(Clone)]
pub struct Idempotent<F> {
    ledger: Arc<dyn Ledger>,
    resources: Arc<Resources>,
    flights: Arc<Flights<F>>,
    clock: Clock,
    host: Arc<str>,
    lease: Duration,
}

/// A call that may be answered from a record.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose.
    pub tenant: String,
    /// Which function.
    pub function: String,
    /// Version number, or `$LATEST`: for people who read the record.
    pub version: String,
    /// Which work it is.
    pub key: Key,
    /// [`Idempotency::resources`]; the same as in the key.
    pub resources: Vec<String>,
    /// [`Idempotency::ttl`].
    pub ttl: Duration,
    /// How long it waits for others who do the same; its own run may take any time.
    pub patience: Duration,
}

/// What a call is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<F> {
    /// The result's bytes, or how it failed.
    pub result: Result<Bytes, F>,
    /// Whether it came from a record: nothing ran.
    pub hit: bool,
    /// Whether it is what another call of this process came back with: nothing ran for this one alone.
    pub joined: bool,
}

impl<F> Verdict<F> {
    fn new(outcome: Outcome<F>, joined: bool) -> Self {
        Self { result: outcome.result, hit: outcome.hit, joined }
    }
}

/// Why a call was neither run nor answered.
#[derive(Debug, Error)]
pub enum RunError {
    /// Others do the same work, for longer than it would wait.
    #[error("the same call is still running")]
    Patience,
    /// Records and leases cannot be read or written.
    #[error("the ledger fails")]
    Ledger(#[from] LedgerError),
    /// The host shuts down, or a thread of it panicked.
    #[error("interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl<F: Clone + Send + Sync + 'static> Idempotent<F> {
    /// Keeps records and leases in `ledger`; a lease that its host does not extend ends after `lease`.
    pub fn new(ledger: Arc<dyn Ledger>, resources: Arc<Resources>, lease: Duration) -> Self {
        Self::with_clock(ledger, resources, lease, Arc::new(now))
    }

    /// The same, by another clock.
    pub fn with_clock(
        ledger: Arc<dyn Ledger>,
        resources: Arc<Resources>,
        lease: Duration,
        clock: Clock,
    ) -> Self {
        // New with each start: a host that comes back does not take its predecessor's leases for its own.
        let host = uuid::Uuid::new_v4().to_string().into();
        Self { ledger, resources, flights: Arc::default(), clock, host, lease }
    }

    /// Answers a call: from its record, with what a call that is under way comes back with, or by `execute`, which is not
    /// polled unless it must be. Giving up on this gives up `execute`, and lets one of those who wait for it do its own.
    ///
    /// # Errors
    ///
    /// When it was neither run nor answered. That `execute` failed is no error but a [`Verdict`].
    pub async fn run(
        &self,
        request: Request,
        execute: impl Future<Output = Result<Bytes, F>>,
    ) -> Result<Verdict<F>, RunError> {
        let came = Instant::now();
        let deadline = tokio::time::Instant::now() + request.patience.min(LONGEST_PATIENCE);
        loop {
            match self.flights.board(&request.key) {
                Seat::Lead(flight) => {
                    let led = self.lead(flight, Arc::new(request), deadline, execute).await;
                    return Ok(Verdict::new(led?, false));
                }
                Seat::Join(joined) => {
                    let outcome = tokio::time::timeout_at(deadline, joined.outcome()).await;
                    match outcome.map_err(|_| RunError::Patience)? {
                        Some(outcome) if came <= outcome.right_until => {
                            return Ok(Verdict::new(outcome, true));
                        }
                        // Given up, or older than this call. The next one begins after it came: twice is enough.
                        _ => {}
                    }
                }
            }
        }
    }
}
