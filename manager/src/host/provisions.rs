//! Machines that are kept ready: what tenants provision becomes what the scheduler keeps.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Host, code_of};
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

type Wanted = HashMap<Arc<str>, (Arc<Code>, u32)>;

impl Host {
    /// Tells the scheduler what is new; returns what is wanted now, by snapshot.
    fn provision(&self, before: &Wanted) -> Wanted {
        let mut wanted = Wanted::new();
        for function in self.control.catalog().all().iter().filter(|f| !f.provisioned.is_empty()) {
            for (qualifier, count) in &function.provisioned {
                if let Some(code) = ready_code(function, qualifier) {
                    wanted.entry(code.snapshot.clone()).or_insert_with(|| (code, 0)).1 += count;
                }
            }
        }
        for (snapshot, (code, _)) in before {
            if !wanted.contains_key(snapshot) {
                self.dispatcher.provision(code.clone(), 0, 0);
            }
        }
        for (snapshot, (code, count)) in &wanted {
            let same = before.get(snapshot).is_some_and(|before| *before == (code.clone(), *count));
            if let Some(tenant) = self.keyring.tenant(&code.tenant).filter(|_| !same) {
                self.dispatcher.provision(code.clone(), *count, tenant.quota.memory_mib);
            }
        }
        wanted
    }
}

/// What a version or an alias starts from; of an alias with weights, its first version.
fn ready_code(function: &Function, qualifier: &str) -> Option<Arc<Code>> {
    let alias = function.aliases.get(qualifier);
    let number = alias.map_or(qualifier, |alias| &alias.version).parse().ok()?;
    let snapshot = function.versions.get(&number)?.snapshot.as_ref()?;
    Some(code_of(function, snapshot))
}
