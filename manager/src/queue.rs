//! Asynchronous calls: taken from the ledger when they are due, tried, tried again, given up.
//!
//! ```text
//!            due                 succeeded ──► acknowledged
//! ledger ──────────► leased ──►  failed in the function, tries left ──► due again later
//!                                throttled, the host's own fault ─────► due again soon, as often as it takes
//!                                no tries left, too old ──────────────► a dead letter
//! ```
//!
//! Delivery is at least once: of a host that dies, leases end with the next one's start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::host::{Host, now};
use crate::ledger::Message;
use crate::metrics::AsyncOutcome;

mod deliver;

/// Messages that are being delivered at the same time, for each processor: beyond that, they would only be in each other's
/// way, and in that of calls that somebody waits for.
const MOST_EACH: usize = 8;
/// Messages that are leased at once.
const BATCH: usize = 32;
/// How long a lease is; a host that has died lets go of its leases at its next start.
const LEASE: Duration = Duration::from_secs(1800);
/// How long to wait after the ledger has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known of the queue besides what is in the ledger.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    more: Arc<Notify>,
    stopped: AtomicBool,
    /// Messages that were delivered, by tenant and function, since the start.
    done: Mutex<HashMap<(String, String), u64>>,
}

impl Queue {
    /// Somebody has put something in.
    pub(crate) fn wake(&self) {
        self.more.notify_one();
    }

    /// What is notified when something was put in.
    pub(crate) fn bell(&self) -> Arc<Notify> {
        self.more.clone()
    }

    /// Takes nothing more from the ledger.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Messages of a function that were delivered since the host has started.
    pub(crate) fn done(&self, tenant: &str, function: &str) -> u64 {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.get(&(tenant.to_owned(), function.to_owned())).copied().unwrap_or(0)
    }

    fn count(&self, message: &Message) {
        let key = (message.tenant.clone(), message.function.clone());
        *self.done.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }
}

/// Starts the task that delivers.
pub(crate) fn start(host: &Arc<Host>) {
    let host = Arc::downgrade(host);
    let processors = available_parallelism().map_or(1, usize::from);
    let permits = Arc::new(Semaphore::new(MOST_EACH * processors));
    tokio::spawn(async move {
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            drop(permit);
            let Some(host) = host.upgrade() else { return };
            if host.queue.stopped.load(Ordering::SeqCst) {
                return;
            }
            let most = permits.available_permits().min(BATCH);
            let leasing = host.clone();
            let leased = spawn_blocking(move || {
                let now = now();
                let until = now + u64::try_from(LEASE.as_millis()).unwrap_or(0);
                let messages = leasing.ledger.lease(now, until, most)?;
                let next = if messages.is_empty() { leasing.ledger.next_due()? } else { Some(now) };
                Ok::<_, crate::ledger::LedgerError>((messages, next))
            });
            let (messages, next) = match leased.await {
                Ok(Ok(leased)) => leased,
                Ok(Err(error)) => {
                    tracing::error!(%error, "cannot take calls from the queue");
                    sleep(PAUSE).await;
                    continue;
                }
                Err(_) => return,
            };
            if messages.is_empty() {
                let pause = next.map(|due| Duration::from_millis(due.saturating_sub(now())));
                let waiting = host.clone();
                drop(host);
                tokio::select! {
                    () = waiting.queue.more.notified() => {}
                    () = sleep(pause.unwrap_or(Duration::from_secs(3600))) => {}
                }
                continue;
            }
            for message in messages {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let host = host.clone();
                tokio::spawn(async move {
                    host.deliver(message).await;
                    drop(permit);
                });
            }
        }
    });
}

/// What became of a message.
enum Fate {
    /// It is done with.
    Done,
    /// It is tried again after so long, with so many tries made.
    Again(Duration, u32, AsyncOutcome),
    /// It is given up.
    Dead(String),
}
