//! What is done now and then: keys of other processes, what has run out, packages, snapshots and runtimes that nobody has.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Host;
use crate::clock::now;
use crate::engine::chain;

/// How often keys are read again: one that was removed by another process works for so long.
const KEYS: Duration = Duration::from_secs(5);
/// How often what has run out is removed.
const SWEEP: Duration = Duration::from_secs(600);

pub(super) fn start(host: &Arc<Host>, unused: UnboundedReceiver<String>) {
    every(host, KEYS, |host| {
        if let Err(error) = host.keyring.reload() {
            tracing::error!(%error, "cannot read the keys");
        }
        if let Err(error) = host.events.refresh() {
            tracing::error!(%error, "cannot read the event sources");
        }
        host.measure();
    });
    every(host, SWEEP, Host::sweep_records);
    every(host, SWEEP, Host::sweep_snapshots);
    // Not at the start, when there is enough to do: it reads about every snapshot.
    every_after(host, SWEEP, SWEEP, Host::sweep_runtimes);
    remove(host, unused);
}

/// Removes snapshots that calls are no longer answered from.
fn remove(host: &Arc<Host>, mut unused: UnboundedReceiver<String>) {
    let host = Arc::downgrade(host);
    tokio::spawn(async move {
        while let Some(snapshot) = unused.recv().await {
            let Some(host) = host.upgrade() else { return };
            let removed = spawn_blocking(move || host.discard(&snapshot)).await;
            if let Err(error) = removed {
                tracing::error!(%error, "cannot remove a snapshot");
            }
        }
    });
}

/// Does something that blocks, now and at each tick, for as long as there is a host.
fn every(host: &Arc<Host>, pause: Duration, work: impl Fn(&Host) + Send + Sync + 'static) {
    every_after(host, Duration::ZERO, pause, work);
}

/// The same, for the first time after a while.
fn every_after(
    host: &Arc<Host>,
    first: Duration,
    pause: Duration,
    work: impl Fn(&Host) + Send + Sync + 'static,
) {
    let (host, work) = (Arc::downgrade(host), Arc::new(work));
    tokio::spawn(async move {
        let mut ticks = interval_at(Instant::now() + first, pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (Some(host), work) = (host.upgrade(), work.clone()) else { return };
            if spawn_blocking(move || work(&host)).await.is_err() {
                return;
            }
        }
    });
}

impl Host {
    /// Removes what has run out, and what nobody has or needs any more. Done now and then by itself. Blocks.
    pub fn sweep(&self) {
        self.measure();
        self.sweep_records();
        // These first: what they stood on may be removed then.
        self.sweep_snapshots();
        self.sweep_runtimes();
    }

    fn sweep_records(&self) {
        if let Err(error) = self.ledger.sweep(now()) {
            tracing::error!(%error, "cannot remove what has run out");
        }
        if let Err(error) = self.control.collect() {
            tracing::error!(%error, "cannot remove packages that nobody has");
        }
    }

    /// Removes snapshots that this host has built and that no version stands for: it was killed, or failed, between two steps
    /// of which one is in the store and the other in the ledger.
    ///
    /// What is in the store when it is looked at was begun by a build before. Either its version is waiting for it yet, or has
    /// it, or never will: a revision that has passed does not come back. What others have built, and what people did, has
    /// other names (see [`names`](super::names)).
    fn sweep_snapshots(&self) {
        let found = match self.engine.snapshots() {
            Ok(found) => found,
            Err(error) => return tracing::error!(why = chain(&error), "snapshots stay"),
        };
        let answering = self.control.snapshots();
        let mut orphans = found;
        orphans.retain(|name| self.owner.gave(name) && !answering.contains(name));
        if orphans.is_empty() {
            return;
        }
        match self.control.kept(|function, version| self.name(function, version)) {
            Ok(kept) => orphans.retain(|name| !kept.contains(name)),
            Err(error) => return tracing::error!(why = chain(&error), "snapshots stay"),
        }
        for name in orphans {
            tracing::info!(snapshot = name, "no version stands for it any more: it is removed");
            self.discard(&name);
        }
    }

    fn sweep_runtimes(&self) {
        match self.engine.collect(&|| self.control.needs()) {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(?removed, "no function stands on these any more"),
            Err(error) => tracing::error!(why = chain(&error), "runtimes stay"),
        }
    }

    /// Brings what is measured now and then up to date, and forgets what was measured of functions that are gone.
    fn measure(&self) {
        let functions = self.control.catalog().all();
        self.metrics.set_functions(functions.len() as u64);
        // Asked one by one: what has come meanwhile is there, too.
        let is_there =
            |tenant: &str, name: &str| self.control.catalog().get(tenant, name).is_some();
        self.queue.retain(is_there);
        self.percentiles.retain(is_there);
        match self.ledger.length() {
            Ok((messages, oldest)) => {
                let age = oldest.map_or(0, |oldest| now().saturating_sub(oldest));
                self.metrics.set_queue(messages, Duration::from_millis(age));
            }
            Err(error) => tracing::error!(%error, "cannot count the queue"),
        }
    }
}
