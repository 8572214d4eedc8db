//! The keyring: all tenants and keys in memory, so that a request costs no look into the ledger.
//!
//! Other processes write to the same ledger (`calve key create` beside a daemon). A key that is not known is therefore
//! looked for there before it is refused, once a second at most: strangers who try out keys cost one read a second.
//! What others have *removed* or changed is seen at the next [`Keyring::reload`], which the daemon calls now and then.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::mint;
use crate::clock::now;
use crate::ledger::{Ledger, LedgerError};
use crate::model::{AccessKey, Quota, Tenant};

/// The least time between two looks for unknown keys.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Tenants and their keys.
pub struct Keyring {
    ledger: Arc<dyn Ledger>,
    /// Held while the ledger is read or written, so that no reading puts back what was just changed; and when a key
    /// was last looked for.
    turn: Mutex<Option<Instant>>,
    /// Held for moments.
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    tenants: BTreeMap<String, Arc<Tenant>>,
    keys: HashMap<String, Arc<AccessKey>>,
}

/// A tenant or key cannot be made or found.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// It has letters that names do not have.
    #[error(
        "{0:?} is no tenant name: use up to 63 of a-z, 0-9 and -, and begin with a letter or digit"
    )]
    Name(String),
    /// There is no such tenant.
    #[error("there is no tenant {0:?}: make it with its first key")]
    NoTenant(String),
    /// The kernel has no random numbers.
    #[error("the system has no random numbers")]
    Random(#[from] getrandom::Error),
    /// The ledger fails.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Keyring {
    /// The keyring of a ledger.
    pub fn open(ledger: Arc<dyn Ledger>) -> Result<Self, LedgerError> {
        let known = RwLock::new(Known::of(&*ledger)?);
        Ok(Self { ledger, turn: Mutex::new(None), known })
    }

    /// Reads everything anew: also what other processes have removed or changed. Blocks.
    pub fn reload(&self) -> Result<(), LedgerError> {
        let _turn = self.turn();
        self.refresh()
    }

    /// The key with this id, if it is in memory.
    pub fn known(&self, id: &str) -> Option<Arc<AccessKey>> {
        self.read(|known| known.keys.get(id).cloned())
    }

    /// The key with this id. Blocks if it is not in memory: then it may be in the ledger.
    pub fn find(&self, id: &str) -> Result<Option<Arc<AccessKey>>, LedgerError> {
        let found = self.known(id);
        if found.is_some() || !mint::is_id(id) {
            return Ok(found);
        }
        let mut last = self.turn();
        // Somebody else may have looked while we waited for our turn.
        let found = self.known(id);
        if found.is_some() || last.is_some_and(|last| last.elapsed() < PAUSE) {
            return Ok(found);
        }
        *last = Some(Instant::now());
        self.refresh()?;
        Ok(self.known(id))
    }

    /// The tenant of this name.
    pub fn tenant(&self, name: &str) -> Option<Arc<Tenant>> {
        self.read(|known| known.tenants.get(name).cloned())
    }

    /// All tenants, by name.
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.read(|known| known.tenants.values().cloned().collect())
    }

    /// The keys of a tenant, oldest first.
    pub fn list_keys(&self, tenant: &str) -> Vec<Arc<AccessKey>> {
        let mut keys: Vec<_> = self.read(|known| {
            known.keys.values().filter(|key| key.tenant == tenant).cloned().collect()
        });
        keys.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        keys
    }

    /// Makes a key, and its tenant if there is none of that name. Blocks.
    pub fn create_key(&self, tenant: &str, root: bool) -> Result<AccessKey, KeyringError> {
        let key = Self::mint_key(tenant, root)?;
        self.add_key(&key)?;
        Ok(key)
    }

    /// Makes a key that opens nothing before it is [added](Self::add_key): so that it can be told first, and is not lost.
    pub fn mint_key(tenant: &str, root: bool) -> Result<AccessKey, KeyringError> {
        Ok(mint::key(tenant, root)?)
    }

    /// Takes a key that was [made](Self::mint_key) before, and makes its tenant if there is none of that name. Blocks.
    pub fn add_key(&self, key: &AccessKey) -> Result<(), KeyringError> {
        let tenant = &key.tenant;
        check_name(tenant)?;
        let _turn = self.turn();
        // Another process may have made the tenant, with another account and quota.
        self.refresh()?;
        if self.tenant(tenant).is_none() {
            let account = self.free_account()?;
            let quota = Quota::default();
            self.put(Tenant { name: tenant.clone(), account, quota, created: now() })?;
        }
        self.ledger.add_key(key)?;
        self.write(|known| known.keys.insert(key.id.clone(), Arc::new(key.clone())));
        Ok(())
    }

    /// Removes a key; whether there was one. From now on it opens nothing here. Blocks.
    pub fn remove_key(&self, id: &str) -> Result<bool, LedgerError> {
        let _turn = self.turn();
        let removed = self.ledger.remove_key(id)?;
        self.write(|known| known.keys.remove(id));
        Ok(removed)
    }

    /// Gives a tenant another quota. Blocks.
    pub fn set_quota(&self, tenant: &str, quota: Quota) -> Result<Arc<Tenant>, KeyringError> {
        let _turn = self.turn();
        self.refresh()?;
        let before =
            self.tenant(tenant).ok_or_else(|| KeyringError::NoTenant(tenant.to_owned()))?;
        Ok(self.put(Tenant { quota, ..(*before).clone() })?)
    }

    /// Writes a tenant down, then remembers it. For whoever has the turn.
    fn put(&self, tenant: Tenant) -> Result<Arc<Tenant>, LedgerError> {
        self.ledger.put_tenant(&tenant)?;
        let tenant = Arc::new(tenant);
        self.write(|known| known.tenants.insert(tenant.name.clone(), Arc::clone(&tenant)));
        Ok(tenant)
    }

    /// An account that no tenant has. For whoever has the turn.
    fn free_account(&self) -> Result<String, getrandom::Error> {
        loop {
            let account = mint::account()?;
            if self.read(|known| known.tenants.values().all(|tenant| tenant.account != account)) {
                return Ok(account);
            }
        }
    }

    /// Reads the ledger. For whoever has the turn.
    fn refresh(&self) -> Result<(), LedgerError> {
        let fresh = Known::of(&*self.ledger)?;
        self.write(|known| *known = fresh);
        Ok(())
    }

    // Nothing panics while it has one of these locks in a state that could not be used.

    fn turn(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, what: impl FnOnce(&Known) -> T) -> T {
        what(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, what: impl FnOnce(&mut Known) -> T) -> T {
        what(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tenants, keys) = self.read(|known| (known.tenants.len(), known.keys.len()));
        f.debug_struct("Keyring")
            .field("tenants", &tenants)
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

impl Known {
    fn of(ledger: &dyn Ledger) -> Result<Self, LedgerError> {
        // Keys first: a tenant is written before its keys, so that no key is read here without its tenant.
        let keys = ledger.keys()?.into_iter().map(|key| (key.id.clone(), Arc::new(key))).collect();
        let tenants = ledger.tenants()?.into_iter();
        let tenants = tenants.map(|tenant| (tenant.name.clone(), Arc::new(tenant))).collect();
        Ok(Self { tenants, keys })
    }
}

/// Tenant names are parts of file names, ARNs and URLs: `[a-z0-9][a-z0-9-]{0,62}`.
fn check_name(name: &str) -> Result<(), KeyringError> {
    let good = (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good { Ok(()) } else { Err(KeyringError::Name(name.to_owned())) }
}
