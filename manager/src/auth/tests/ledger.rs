//! A ledger of tenants and keys in memory; of everything else it has nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ledger::{DeadLetter, Ledger, LedgerError, Message, Record, Source};
use crate::model::{AccessKey, Function, LayerVersion, Millis, Tenant};

type Done<T = ()> = Result<T, LedgerError>;

#[derive(Default)]
pub(super) struct Memory {
    tenants: Mutex<Vec<Tenant>>,
    keys: Mutex<Vec<AccessKey>>,
    /// How often the keys were read.
    pub(super) looks: AtomicUsize,
}

impl Ledger for Memory {
    fn tenants(&self) -> Done<Vec<Tenant>> {
        Ok(self.tenants.lock().unwrap().clone())
    }
    fn put_tenant(&self, tenant: &Tenant) -> Done {
        let mut tenants = self.tenants.lock().unwrap();
        tenants.retain(|other| other.name != tenant.name);
        tenants.push(tenant.clone());
        Ok(())
    }
    fn keys(&self) -> Done<Vec<AccessKey>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        Ok(self.keys.lock().unwrap().clone())
    }
    fn add_key(&self, key: &AccessKey) -> Done {
        self.keys.lock().unwrap().push(key.clone());
        Ok(())
    }
    fn remove_key(&self, id: &str) -> Done<bool> {
        let mut keys = self.keys.lock().unwrap();
        let before = keys.len();
        keys.retain(|key| key.id != id);
        Ok(keys.len() < before)
    }

    fn functions(&self) -> Done<Vec<Function>> {
        Ok(Vec::new())
    }
    fn put_function(&self, _: &Function) -> Done {
        Ok(())
    }
    fn remove_function(&self, _: &str, _: &str) -> Done {
        Ok(())
    }
    fn layers(&self, _: &str) -> Done<Vec<LayerVersion>> {
        Ok(Vec::new())
    }
    fn layer(&self, _: &str, _: &str, _: u32) -> Done<Option<LayerVersion>> {
        Ok(None)
    }
    fn add_layer(&self, _: &LayerVersion) -> Done<u32> {
        Ok(1)
    }
    fn remove_layer(&self, _: &str, _: &str, _: u32) -> Done<bool> {
        Ok(false)
    }
    fn enqueue(&self, _: &Message) -> Done {
        Ok(())
    }
    fn lease_but(
        &self,
        _: Millis,
        _: Millis,
        _: usize,
        _: &[String],
    ) -> Result<Vec<Message>, LedgerError> {
        Ok(Vec::new())
    }
    fn acknowledge(&self, _: &str) -> Done {
        Ok(())
    }
    fn postpone(&self, _: &str, _: Millis, _: u32) -> Done {
        Ok(())
    }
    fn bury(&self, _: &str, _: Millis, _: &str) -> Done {
        Ok(())
    }
    fn release_all(&self) -> Done {
        Ok(())
    }
    fn next_due(&self) -> Done<Option<Millis>> {
        Ok(None)
    }
    fn backlog(&self, _: &str, _: &str) -> Done<(u64, Option<Millis>)> {
        Ok((0, None))
    }
    fn dead_letters(&self, _: &str, _: &str, _: usize) -> Done<Vec<DeadLetter>> {
        Ok(Vec::new())
    }
    fn record(&self, _: &str, _: &str, _: Millis) -> Done<Option<Record>> {
        Ok(None)
    }
    fn put_record(&self, _: &Record) -> Done {
        Ok(())
    }
    fn claim(&self, _: &str, _: &str, _: &str, _: Millis, _: Millis) -> Done<bool> {
        Ok(false)
    }
    fn unclaim(&self, _: &str, _: &str, _: &str) -> Done {
        Ok(())
    }
    fn sources(&self) -> Done<Vec<Source>> {
        Ok(Vec::new())
    }
    fn put_source(&self, _: &Source) -> Done {
        Ok(())
    }
    fn remove_source(&self, _: &str) -> Done<bool> {
        Ok(false)
    }
    fn deliver(&self, _: &str, _: &str, _: &[Message]) -> Done {
        Ok(())
    }
    fn position(&self, _: &str) -> Done<String> {
        Ok(String::new())
    }

    fn dead(&self, _: &str, _: &str) -> Result<u64, LedgerError> {
        Ok(0)
    }
    fn length(&self) -> Result<(u64, Option<Millis>), LedgerError> {
        Ok((0, None))
    }
    fn length_of(&self, _: &str) -> Done<u64> {
        Ok(0)
    }
    fn sweep(&self, _now: Millis) -> Result<u64, LedgerError> {
        Ok(0)
    }
}
