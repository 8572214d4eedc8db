//! Machines that are kept ready: what tenants provision becomes what the scheduler keeps.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Host, code_of};
use crate::catalog::Catalog;
use crate::control::Readiness;
use crate::dispatch::Dispatcher;
use crate::model::Function;
use crate::schedule::Code;

/// Follows the catalogue: whenever a function changes, what is to be ready is worked out anew.
pub(super) fn start(host: &Arc<Host>) {
    let weak = Arc::downgrade(host);
    let mut changes = host.control.catalog().changes();
    tokio::spawn(async move {
        let mut present = HashMap::new();
        loop {
            let Some(host) = weak.upgrade() else { return };
            changes.mark_unchanged();
            present = host.provision(&present);
            drop(host);
            if changes.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Code, machines, and the memory that the tenant may have, MiB.
type Wanted = HashMap<Arc<str>, (Arc<Code>, u32, u64)>;

impl Host {
    /// Tells the scheduler what is new; returns what is wanted now, by snapshot.
    fn provision(&self, before: &Wanted) -> Wanted {
        let mut wanted = Wanted::new();
        for function in self.control.catalog().all() {
            let Some(tenant) = self.keyring.tenant(&function.tenant) else { continue };
            for (code, count) in wanted_of(&function) {
                wanted.insert(code.snapshot.clone(), (code, count, tenant.quota.memory_mib));
            }
        }
        for (snapshot, (code, ..)) in before {
            if !wanted.contains_key(snapshot) {
                self.dispatcher.provision(code.clone(), 0, 0);
            }
        }
        for (snapshot, new) in &wanted {
            if before.get(snapshot) != Some(new) {
                let (code, count, allowed_mib) = new.clone();
                self.dispatcher.provision(code, count, allowed_mib);
            }
        }
        wanted
    }
}

impl Host {
    /// Ends every machine of a function, and makes those that are to be ready anew: as its policy is now.
    pub(crate) fn renew(&self, function: &Function) {
        let versions = function.versions.values().chain([&function.latest]);
        for snapshot in versions.filter_map(|version| version.snapshot.as_ref()) {
            self.dispatcher.retire(&snapshot.name);
        }
        let Some(tenant) = self.keyring.tenant(&function.tenant) else { return };
        for (code, count) in wanted_of(function) {
            self.dispatcher.provision(code, count, tenant.quota.memory_mib);
        }
    }
}

/// What there is of what is to be ready, for the control plane.
pub(super) struct Ready {
    catalog: Arc<Catalog>,
    dispatcher: Dispatcher,
}

impl Ready {
    pub(super) fn new(catalog: &Arc<Catalog>, dispatcher: &Dispatcher) -> Self {
        Self { catalog: catalog.clone(), dispatcher: dispatcher.clone() }
    }
}

impl Readiness for Ready {
    fn ready(&self, tenant: &str, function: &str, qualifier: &str) -> u32 {
        let function = self.catalog.get(tenant, function);
        let code = function.and_then(|function| ready_code(&function, qualifier));
        let ready = code.map_or(0, |code| self.dispatcher.ready(&code.snapshot));
        u32::try_from(ready).unwrap_or(u32::MAX)
    }
}

/// What is to be ready of a function: a version with two names has the machines of both.
fn wanted_of(function: &Function) -> Vec<(Arc<Code>, u32)> {
    let mut wanted: Vec<(Arc<Code>, u32)> = Vec::new();
    for (qualifier, count) in &function.provisioned {
        let Some(code) = ready_code(function, qualifier) else { continue };
        match wanted.iter_mut().find(|(there, _)| *there == code) {
            Some((_, sum)) => *sum += count,
            None => wanted.push((code, *count)),
        }
    }
    wanted
}

/// What a version or an alias starts from; of an alias with weights, its first version.
fn ready_code(function: &Function, qualifier: &str) -> Option<Arc<Code>> {
    let alias = function.aliases.get(qualifier);
    let number = alias.map_or(qualifier, |alias| &alias.version).parse().ok()?;
    let snapshot = function.versions.get(&number)?.snapshot.as_ref()?;
    Some(code_of(function, snapshot))
}
