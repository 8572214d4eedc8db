//! What one holder at a time has, by its key.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The keys that somebody holds.
#[derive(Debug)]
pub(crate) struct Holds<K>(Mutex<HashSet<K>>);

/// A key that is ours until this is dropped, be it by a panic.
#[derive(Debug)]
#[must_use = "it is let go of at once"]
pub(crate) struct Held<'a, K: Eq + Hash> {
    holds: &'a Holds<K>,
    key: K,
}

impl<K> Default for Holds<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Holds<K> {
    /// Takes a key that nobody holds.
    pub(crate) fn take(&self, key: K) -> Option<Held<'_, K>> {
        let is_free = self.lock().insert(key.clone());
        // Made only then: to drop it is to let go of the key.
        is_free.then(|| Held { holds: self, key })
    }
}

impl<K> Holds<K> {
    fn lock(&self) -> MutexGuard<'_, HashSet<K>> {
        // A set of keys is whole whenever the lock is free.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Held<'_, K> {
    fn drop(&mut self) {
        self.holds.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_takes_nothing_from_the_holder() {
        let holds = Holds::default();
        let held = holds.take("a").unwrap();
        assert!(holds.take("a").is_none());
        assert!(holds.take("a").is_none());
        drop(holds.take("b").unwrap());
        drop(held);
        assert!(holds.take("a").is_some());
    }
}
