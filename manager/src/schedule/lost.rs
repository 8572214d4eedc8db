//! Routing values whose machine is gone: whoever asks for one next is to be told that what it kept is lost.
//!
//! They are kept for those who ask again, who may never come: so many of each tenant's, the last ones. How many values one
//! tenant makes up does not matter to what another is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::routes::Key;

/// Values of a tenant that are kept.
const MOST: usize = 10_000;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Whose each is, and its number.
    values: HashMap<Key, (Arc<str>, u64)>,
    /// By tenant, and by number: the longest lost first.
    tenants: HashMap<Arc<str>, BTreeMap<u64, Key>>,
    last: u64,
}

impl Lost {
    /// A value of a tenant has lost its machine.
    pub(super) fn insert(&mut self, tenant: &Arc<str>, key: Key) {
        self.remove(&key);
        self.last += 1;
        self.values.insert(key.clone(), (tenant.clone(), self.last));
        let theirs = self.tenants.entry(tenant.clone()).or_default();
        theirs.insert(self.last, key);
        if theirs.len() > MOST
            && let Some((_, oldest)) = theirs.pop_first()
        {
            self.values.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.values.contains_key(key)
    }

    /// It has a machine again.
    pub(super) fn remove(&mut self, key: &Key) {
        let Some((tenant, number)) = self.values.remove(key) else { return };
        if let Some(theirs) = self.tenants.get_mut(&tenant) {
            theirs.remove(&number);
            if theirs.is_empty() {
                self.tenants.remove(&tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str, value: usize) -> Key {
        (format!("{tenant}.f").into(), value.to_string().into())
    }

    fn lose(lost: &mut Lost, tenant: &str, value: usize) {
        lost.insert(&tenant.into(), key(tenant, value));
    }

    #[test]
    fn a_tenant_with_too_many_loses_its_own_oldest() {
        let mut lost = Lost::default();
        lose(&mut lost, "other", 0);
        (0..MOST).for_each(|value| lose(&mut lost, "acme", value));
        assert!(lost.contains(&key("acme", 0)));
        // Lost once more, it is the last one.
        lose(&mut lost, "acme", 0);
        lose(&mut lost, "acme", MOST);
        assert!(lost.contains(&key("acme", 0)) && lost.contains(&key("acme", MOST)));
        assert!(!lost.contains(&key("acme", 1)) && lost.contains(&key("acme", 2)));
        assert!(lost.contains(&key("other", 0)));
        assert_eq!(lost.values.len(), MOST + 1);
    }

    #[test]
    fn what_has_a_machine_again_leaves_nothing() {
        let mut lost = Lost::default();
        (0..10).for_each(|value| lose(&mut lost, "acme", value));
        (0..10).for_each(|value| lost.remove(&key("acme", value)));
        lost.remove(&key("acme", 0));
        assert!(lost.values.is_empty() && lost.tenants.is_empty());
    }
}
