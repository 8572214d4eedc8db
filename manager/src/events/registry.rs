//! The sources as the ledger has them, in memory, and the lock that makes changes of them and deliveries exclude each
//! other: what has been disabled or removed delivers nothing from then on.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::settings::{Kind, Settings};
use crate::ledger::{Ledger, LedgerError, Source};

/// A source, and its settings read.
#[derive(Debug)]
pub struct Live {
    /// As the ledger has it.
    pub source: Source,
    /// Its settings.
    pub settings: Settings,
}

impl Live {
    /// A source whose settings are ours.
    pub(super) fn read(source: Source) -> Result<Self, serde_json::Error> {
        let settings = serde_json::from_str(&source.settings)?;
        Ok(Self { source, settings })
    }
}

/// By id.
pub(super) type All = BTreeMap<String, Arc<Live>>;

/// All sources.
pub(super) struct Registry {
    all: RwLock<All>,
}

impl Registry {
    /// Reads them.
    pub(super) fn open(ledger: &dyn Ledger) -> Result<Self, LedgerError> {
        Ok(Self { all: RwLock::new(read(ledger, &All::new())?) })
    }

    /// Keeps them from being changed.
    pub(super) fn hold(&self) -> RwLockReadGuard<'_, All> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change in the ledger while nothing is delivered, and reads all sources again.
    pub(super) fn change<T, E: From<LedgerError>>(
        &self,
        ledger: &dyn Ledger,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let value = change()?;
        *all = read(ledger, &all)?;
        Ok(value)
    }

    /// A tenant's queue.
    pub(super) fn queue(&self, tenant: &str, queue: &str) -> Option<Arc<Live>> {
        let is_it = |live: &&Arc<Live>| {
            live.source.tenant == tenant
                && matches!(&live.settings.source, Kind::Queue { name, .. } if name == queue)
        };
        self.hold().values().find(is_it).cloned()
    }
}

/// What has not changed stays the same object: that is how its work in progress knows.
fn read(ledger: &dyn Ledger, before: &All) -> Result<All, LedgerError> {
    let mut all = All::new();
    for source in ledger.sources()? {
        let id = source.id.clone();
        if let Some(known) = before.get(&id).filter(|known| known.source == source) {
            all.insert(id, known.clone());
            continue;
        }
        match Live::read(source) {
            Ok(live) => {
                all.insert(id, Arc::new(live));
            }
            // The others go on.
            Err(error) => tracing::error!(id, %error, "an event source cannot be read"),
        }
    }
    Ok(all)
}
