//! The functions of all tenants, in memory, as the ledger has them.
//!
//! Reading takes a lock for the time of a look-up and never waits for a disk. There is one writer at a time: what it
//! writes is on disk before anybody sees it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::api::ApiError;
use crate::ledger::{Ledger, LedgerError};
use crate::model::Function;

mod addresses;
#[cfg(test)]
mod tests;

use addresses::Addresses;

/// By tenant.
type Functions = HashMap<String, OfTenant>;

/// A tenant's functions.
#[derive(Default)]
struct OfTenant {
    by_name: BTreeMap<String, Arc<Function>>,
    /// Calls at once that are reserved, of all of them together: asked for with every call.
    reserved: u32,
}

impl OfTenant {
    fn put(&mut self, function: Arc<Function>) {
        self.by_name.insert(function.name.clone(), function);
        self.add_up();
    }

    fn remove(&mut self, name: &str) -> Option<Arc<Function>> {
        let removed = self.by_name.remove(name);
        self.add_up();
        removed
    }

    fn add_up(&mut self) {
        let reserved = self.by_name.values().filter_map(|function| function.reserved);
        self.reserved = reserved.fold(0, u32::saturating_add);
    }
}

/// All functions. Safe to share between threads.
pub struct Catalog {
    ledger: Arc<dyn Ledger>,
    functions: RwLock<Functions>,
    addresses: Addresses,
    writer: Mutex<()>,
    changes: watch::Sender<u64>,
}

impl Catalog {
    /// Reads all functions from the ledger.
    ///
    /// # Errors
    ///
    /// When the ledger cannot be read.
    pub fn open(ledger: Arc<dyn Ledger>) -> Result<Self, LedgerError> {
        let (mut functions, addresses) = (Functions::new(), Addresses::default());
        for function in ledger.functions()? {
            addresses.change(None, Some(&function));
            let of_tenant = functions.entry(function.tenant.clone()).or_default();
            of_tenant.by_name.insert(function.name.clone(), Arc::new(function));
        }
        functions.values_mut().for_each(OfTenant::add_up);
        Ok(Self {
            ledger,
            functions: RwLock::new(functions),
            addresses,
            writer: Mutex::new(()),
            changes: watch::Sender::new(0),
        })
    }

    /// A function, as it is now.
    pub fn get(&self, tenant: &str, name: &str) -> Option<Arc<Function>> {
        self.read().get(tenant)?.by_name.get(name).cloned()
    }

    /// The function that has an address, and what of it: an alias or [`LATEST`].
    pub fn by_url(&self, id: &str) -> Option<(Arc<Function>, String)> {
        let (tenant, name) = self.addresses.owner(id)?;
        let function = self.get(&tenant, &name)?;
        // By what the function has now, whatever has changed since.
        let (qualifier, _) = function.urls.iter().find(|(_, url)| url.id == id)?;
        let qualifier = qualifier.clone();
        Some((function, qualifier))
    }

    /// A tenant's functions, by name.
    pub fn list(&self, tenant: &str) -> Vec<Arc<Function>> {
        let functions = self.read();
        let found = functions.get(tenant).map(|found| found.by_name.values().cloned().collect());
        found.unwrap_or_default()
    }

    /// How many functions a tenant has.
    pub fn count(&self, tenant: &str) -> usize {
        self.read().get(tenant).map_or(0, |found| found.by_name.len())
    }

    /// Calls at once that a tenant has reserved for its functions.
    pub fn reserved(&self, tenant: &str) -> u32 {
        self.read().get(tenant).map_or(0, |found| found.reserved)
    }

    /// The functions of all tenants, in no order.
    pub fn all(&self) -> Vec<Arc<Function>> {
        self.read().values().flat_map(|found| found.by_name.values()).cloned().collect()
    }

    /// Counts changes: who holds it learns that there was one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Adds a function to a tenant that may have `most` of them. Blocks.
    ///
    /// # Errors
    ///
    /// When there is one of that name, when there are as many as there may be, or when the ledger fails.
    pub fn insert(&self, function: Function, most: u32) -> Result<Arc<Function>, ApiError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.get(&function.tenant, &function.name).is_some() {
            return Err(ApiError::conflict(format!("Function already exist: {}", function.name)));
        }
        if self.count(&function.tenant) >= most as usize {
            return Err(ApiError::new(
                http::StatusCode::PAYMENT_REQUIRED,
                "ServiceQuotaExceededException",
                format!(
                    "the tenant has all the {most} functions that its quota allows: delete one"
                ),
            ));
        }
        self.ledger.put_function(&function).map_err(failed)?;
        Ok(self.publish(function))
    }

    /// Changes a function: `change` gets a copy, which takes the place of the function unless it fails. Blocks.
    ///
    /// # Errors
    ///
    /// Those of `change`; when there is no such function; when the ledger fails. Then nothing has changed.
    pub fn update<T>(
        &self,
        tenant: &str,
        name: &str,
        change: impl FnOnce(&mut Function) -> Result<T, ApiError>,
    ) -> Result<(Arc<Function>, T), ApiError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = self.get(tenant, name) else {
            return Err(ApiError::not_found(format!("Function not found: {name}")));
        };
        let mut after = Function::clone(&before);
        let value = change(&mut after)?;
        if after == *before {
            return Ok((before, value));
        }
        self.ledger.put_function(&after).map_err(failed)?;
        Ok((self.publish(after), value))
    }

    /// Removes a function, and says what it was. Blocks.
    ///
    /// # Errors
    ///
    /// When the ledger fails.
    pub fn remove(&self, tenant: &str, name: &str) -> Result<Option<Arc<Function>>, ApiError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.get(tenant, name).is_none() {
            return Ok(None);
        }
        self.ledger.remove_function(tenant, name).map_err(failed)?;
        let mut functions = self.write();
        let removed = functions.get_mut(tenant).and_then(|of_tenant| of_tenant.remove(name));
        drop(functions);
        self.addresses.change(removed.as_deref(), None);
        self.changes.send_modify(|count| *count += 1);
        Ok(removed)
    }

    fn publish(&self, function: Function) -> Arc<Function> {
        let function = Arc::new(function);
        let before = self.get(&function.tenant, &function.name);
        let mut functions = self.write();
        let of_tenant = functions.entry(function.tenant.clone()).or_default();
        of_tenant.put(Arc::clone(&function));
        drop(functions);
        self.addresses.change(before.as_deref(), Some(&function));
        self.changes.send_modify(|count| *count += 1);
        function
    }

    // A panic elsewhere leaves the map whole: every change of it is a single call.
    fn read(&self) -> RwLockReadGuard<'_, Functions> {
        self.functions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Functions> {
        self.functions.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: LedgerError) -> ApiError {
    tracing::error!(error = &error as &dyn std::error::Error, "the ledger fails");
    ApiError::of(&error)
}
