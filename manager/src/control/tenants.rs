//! The tenants in memory: whose account is which, and what each may use.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::ledger::{Ledger, LedgerError};
use crate::model::Tenant;

/// All tenants. Safe to share between threads.
#[derive(Debug, Default)]
pub struct Tenants(RwLock<HashMap<String, Arc<Tenant>>>);

impl Tenants {
    /// Reads all tenants from the ledger.
    ///
    /// # Errors
    ///
    /// When the ledger cannot be read.
    pub fn open(ledger: &dyn Ledger) -> Result<Self, LedgerError> {
        let tenants = Self::default();
        for tenant in ledger.tenants()? {
            tenants.put(tenant);
        }
        Ok(tenants)
    }

    /// A tenant, as it is now.
    pub fn get(&self, name: &str) -> Option<Arc<Tenant>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Takes a tenant in that the ledger has, or puts it in the place of the one with its name.
    pub fn put(&self, tenant: Tenant) {
        let mut tenants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tenants.insert(tenant.name.clone(), Arc::new(tenant));
    }
}
