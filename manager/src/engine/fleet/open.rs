//! Snapshots that are held open, and what their clones teach of what calls touch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use calve_fleet::{Clone, Frozen};
use calve_snapshots::Store;

use super::habits::{self, Habits};

/// Most snapshots that are held open; each takes a few descriptors.
const MOST_OPEN: usize = 256;

/// Snapshots that were opened.
#[derive(Default)]
pub(super) struct Open {
    uses: u64,
    pub(super) snapshots: HashMap<String, Opened>,
}

/// A snapshot that was opened.
pub(super) struct Opened {
    /// The number of the use that was last.
    used: u64,
    frozen: Arc<Frozen>,
    habits: Habits,
}

pub(super) fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Open {
    pub(super) fn find(&mut self, name: &str) -> Option<Arc<Frozen>> {
        self.uses += 1;
        let opened = self.snapshots.get_mut(name)?;
        opened.used = self.uses;
        Some(opened.frozen.clone())
    }

    /// The habits of a snapshot's calls, if it is still the one that was opened then.
    fn habits(&mut self, name: &str, frozen: &Arc<Frozen>) -> Option<&mut Opened> {
        self.snapshots.get_mut(name).filter(|opened| Arc::ptr_eq(&opened.frozen, frozen))
    }

    /// Adds one, in the place of the one whose last use is longest ago, if there are many.
    pub(super) fn add(&mut self, name: &str, frozen: &Arc<Frozen>, habits: Habits) {
        if self.snapshots.len() >= MOST_OPEN {
            let oldest = self.snapshots.iter().min_by_key(|(_, opened)| opened.used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.snapshots.remove(&oldest);
            }
        }
        let opened = Opened { used: self.uses, frozen: frozen.clone(), habits };
        self.snapshots.insert(name.to_owned(), opened);
    }
}

/// Whoever learns from a clone what the calls of its version touch.
pub(super) struct Pupil {
    pub(super) open: Arc<Mutex<Open>>,
    pub(super) store: Arc<Store>,
    pub(super) name: String,
    /// What the clone is of.
    pub(super) frozen: Arc<Frozen>,
}

impl Pupil {
    /// Looks at what a clone has touched, if that is not known by now.
    pub(super) fn learn(&self, clone: &Clone) {
        let wanted = |opened: &mut Opened| !opened.habits.are_known();
        if !lock(&self.open).habits(&self.name, &self.frozen).is_some_and(wanted) {
            return;
        }
        // Where it cannot be looked at, all calls are as slow as the first.
        let Ok(touched) = clone.workset() else { return };
        let mut open = lock(&self.open);
        let Some(opened) = open.habits(&self.name, &self.frozen) else { return };
        let Some(common) = opened.habits.see(touched) else { return };
        if let Ok(taught) = self.frozen.with_workset(&common) {
            opened.frozen = Arc::new(taught);
        }
        // Not while others wait to start machines.
        drop(open);
        habits::keep(&self.store, self.frozen.snapshot(), &common);
    }
}
