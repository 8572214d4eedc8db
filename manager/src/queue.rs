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

use crate::clock::now;
use crate::host::Host;
use crate::ledger::Message;
use crate::metrics::AsyncOutcome;
use crate::model::Millis;

mod deliver;
mod pace;

use pace::Pace;

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
#[derive(Debug)]
pub(crate) struct Queue {
    more: Arc<Notify>,
    /// One for each message that may be delivered besides those that are.
    permits: Arc<Semaphore>,
    /// How many there are.
    most: u32,
    stopped: AtomicBool,
    /// Messages that were delivered, by tenant and function, since the start. Of functions that are gone, for a while only.
    done: Mutex<HashMap<(String, String), u64>>,
    /// Messages that are being delivered, by tenant.
    under_way: Mutex<HashMap<String, u32>>,
    /// What tenants may have delivered at the moment.
    pace: Mutex<Pace>,
}

impl Default for Queue {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let most = u32::try_from(MOST_EACH * processors).unwrap_or(u32::MAX);
        Self {
            more: Arc::default(),
            permits: Arc::new(Semaphore::new(most as usize)),
            most,
            stopped: AtomicBool::new(false),
            done: Mutex::default(),
            under_way: Mutex::default(),
            pace: Mutex::default(),
        }
    }
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

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits until it is taken down what became of every message that is being delivered.
    pub(crate) async fn settled(&self) {
        // Never closed.
        let _ = self.permits.acquire_many(self.most).await;
    }

    /// Messages of a function that were delivered since the host has started.
    pub(crate) fn done(&self, tenant: &str, function: &str) -> u64 {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.get(&(tenant.to_owned(), function.to_owned())).copied().unwrap_or(0)
    }

    /// Tenants that have half of all deliveries under way: the rest is for others.
    fn sated(&self) -> Vec<String> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let share = (self.most / 2).max(1);
        under_way
            .iter()
            .filter(|(_, count)| **count >= share)
            .map(|(tenant, _)| tenant.clone())
            .collect()
    }

    /// A message of a tenant is delivered from now on, until what this returns is dropped.
    fn begin(self: &Arc<Self>, tenant: &str) -> UnderWay {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        *under_way.entry(tenant.to_owned()).or_default() += 1;
        UnderWay { queue: self.clone(), tenant: tenant.to_owned() }
    }

    /// Forgets the functions that are not there any more.
    pub(crate) fn retain(&self, is_there: impl Fn(&str, &str) -> bool) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.retain(|(tenant, function), _| is_there(tenant, function));
    }

    fn count(&self, message: &Message) {
        let key = (message.tenant.clone(), message.function.clone());
        *self.done.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }
}

/// A message that is being delivered.
struct UnderWay {
    queue: Arc<Queue>,
    tenant: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.queue.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.tenant);
            }
        }
        drop(under_way);
        self.queue.wake();
    }
}

/// Starts the task that delivers.
pub(crate) fn start(host: &Arc<Host>) {
    let permits = host.queue.permits.clone();
    let host = Arc::downgrade(host);
    tokio::spawn(async move {
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            drop(permit);
            let Some(host) = host.upgrade() else { return };
            if host.queue.is_stopped() {
                return;
            }
            let (queue, sated) = (host.queue.clone(), host.queue.sated());
            let (spent, wait) = host.spent();
            // Not more than a tenant's share at once, so that one is seen to have it.
            let most = permits.available_permits().min(BATCH).min((queue.most as usize / 2).max(1));
            let waits = !sated.is_empty() || !spent.is_empty();
            let passed_over = [sated, spent].concat();
            let leasing = host.clone();
            let leased = spawn_blocking(move || {
                let now = now();
                let until = now + u64::try_from(LEASE.as_millis()).unwrap_or(0);
                let messages = leasing.ledger.lease_but(now, until, most, &passed_over)?;
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
                // What is due may be of one who has a share: then its end wakes us. Or of one who may make no call yet.
                let due = next.map(|due| Duration::from_millis(due.saturating_sub(now())));
                let due = due.unwrap_or(Duration::from_secs(3600));
                let wait = wait.map_or(PAUSE, |wait| Duration::from_millis(wait).min(PAUSE));
                let pause = if waits { due.max(wait) } else { due };
                // The host is not kept alive by this.
                drop(host);
                tokio::select! {
                    () = queue.more.notified() => {}
                    () = sleep(pause) => {}
                }
                continue;
            }
            for message in messages {
                host.take(&message.tenant);
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let (host, under_way) = (host.clone(), queue.begin(&message.tenant));
                tokio::spawn(async move {
                    host.deliver(message).await;
                    drop((permit, under_way));
                });
            }
        }
    });
}

impl Host {
    /// The tenants that may make no call now, and how long until the first of them may again, ms.
    fn spent(&self) -> (Vec<String>, Option<Millis>) {
        let mut pace = self.queue.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.spent(now(), |tenant| self.rate(tenant))
    }

    /// A message of a tenant is delivered.
    fn take(&self, tenant: &str) {
        let rate = self.rate(tenant);
        let mut pace = self.queue.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(now(), tenant, rate);
    }

    /// Calls a second that a tenant may make.
    fn rate(&self, tenant: &str) -> u32 {
        self.keyring.tenant(tenant).map_or(0, |tenant| tenant.quota.rate)
    }
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
