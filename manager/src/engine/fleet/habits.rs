//! What the calls of a version touch, learned from its first ones and made ready at the thaw of all others.
//!
//! A snapshot that was built from an event for its warm-up knows its working set. Functions that come through AWS Lambda's API
//! bring no such event, and an event that was sent must not be used twice: so what is seen is what the callers' own calls
//! touch. What only one of two calls touches is its own affair.
//!
//! What was learned is kept in the store, for the snapshot that it was learned from and no other, so that a host that starts
//! again need not learn again. What cannot be read back, or is not to be used, is learned once more.

use calve_snapshots::{Snapshot, Store, Workset};

use super::chain;

/// What is known of a version's calls.
#[derive(Default)]
pub(super) enum Habits {
    /// No call was seen.
    #[default]
    Unknown,
    /// What one call has touched.
    Seen(Workset),
    /// What every call may be taken to touch was found.
    Known,
}

impl Habits {
    /// Whether there is nothing more to learn.
    pub(super) fn are_known(&self) -> bool {
        matches!(self, Self::Known)
    }

    /// Sees what a call has touched; returns what all calls may be taken to touch when that has just become clear.
    pub(super) fn see(&mut self, touched: Workset) -> Option<Workset> {
        match std::mem::replace(self, Self::Known) {
            Self::Unknown => {
                *self = Self::Seen(touched);
                None
            }
            Self::Seen(before) => Some(before.common(&touched)),
            Self::Known => None,
        }
    }
}

/// What was learned of a snapshot's calls before it was opened now.
pub(super) fn recall(store: &Store, snapshot: &Snapshot) -> Option<Workset> {
    store.learned(snapshot).unwrap_or_else(|error| {
        let (snapshot, why) = (snapshot.name(), chain(&error));
        tracing::warn!(
            snapshot,
            why,
            "what was learned of its calls is not used; it is learned again"
        );
        None
    })
}

/// Keeps what was learned of a snapshot's calls for whoever opens it next.
pub(super) fn keep(store: &Store, snapshot: &Snapshot, learned: &Workset) {
    if let Err(error) = store.learn(snapshot, learned) {
        let (snapshot, why) = (snapshot.name(), chain(&error));
        tracing::warn!(
            snapshot,
            why,
            "what was learned of its calls cannot be kept; it is used until it is closed"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;
    use std::path::Path;

    use calve_snapshots::{
        Architecture, Cpu, Function, Host, MemoryLayout, MemorySource, Recipe, Role, State, Verify,
    };

    use super::*;

    const CPU: &str = "AuthenticAMD";

    /// A machine's memory, all of it zero.
    struct Empty(MemoryLayout);

    impl MemorySource for Empty {
        fn layout(&self) -> &MemoryLayout {
            &self.0
        }

        fn read_at(&self, _offset: u64, buf: &mut [u8]) -> io::Result<()> {
            buf.fill(0);
            Ok(())
        }
    }

    fn call(pages: &[u32]) -> Workset {
        Workset::of_pages(pages.iter().map(|page| (*page, true)))
    }

    /// The store of a host that starts.
    fn started(folder: &Path) -> Store {
        Store::open(folder.join("store")).unwrap()
    }

    fn build(folder: &Path, store: &Store) -> Snapshot {
        let image = folder.join("image");
        std::fs::write(&image, b"any").unwrap();
        let mut draft = store.draft("fn.a").unwrap();
        draft.add_image(Role::Kernel, &image).unwrap();
        draft.add_image(Role::Root, &image).unwrap();
        draft.write_state(&State::new(Architecture::X86_64, Vec::new()).unwrap()).unwrap();
        let layout = MemoryLayout::new([(0, 1 << 20)]).unwrap();
        draft.write_memory(&Empty(layout), &mut |_, _| {}).unwrap();
        let function = Function {
            runtime: "python3.11".into(),
            handler: "a.b".into(),
            timeout_ms: 1,
            env: BTreeMap::new(),
        };
        let cpu = Cpu { vendor: CPU.into(), features: [].into() };
        let (vcpus, disks, stats) = (1, 1, BTreeMap::new());
        draft.commit(Recipe { cpu, vcpus, disks, cmdline: "a".into(), function, stats }).unwrap();
        open(store)
    }

    fn open(store: &Store) -> Snapshot {
        let host =
            Host { architecture: Architecture::X86_64, vendor: CPU.into(), features: [].into() };
        store.snapshot("fn.a", &host, Verify::Stamped).unwrap()
    }

    #[test]
    fn what_was_learned_is_known_to_a_host_that_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = started(folder.path());
        let snapshot = build(folder.path(), &store);
        assert_eq!(recall(&store, &snapshot), None);
        keep(&store, &snapshot, &call(&[2, 7]));
        let next = started(folder.path());
        assert_eq!(recall(&next, &open(&next)), Some(call(&[2, 7])));
        // A version that is built anew is another machine, in which these pages are something else.
        let restored = build(folder.path(), &next);
        assert_eq!(recall(&next, &restored), None);
        keep(&next, &snapshot, &call(&[2, 7]));
        assert_eq!(recall(&next, &restored), None);
    }

    #[test]
    fn what_is_damaged_or_cannot_be_kept_is_learned_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = started(folder.path());
        let snapshot = build(folder.path(), &store);
        keep(&store, &snapshot, &call(&[2, 7]));
        let learned = store.path().join("learned");
        let file = learned.join(snapshot.id().hex());
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(recall(&store, &snapshot), None);
        keep(&store, &snapshot, &call(&[3]));
        assert_eq!(recall(&store, &snapshot), Some(call(&[3])));
        // Pages that its machine does not have.
        keep(&store, &snapshot, &call(&[256]));
        assert_eq!(recall(&store, &snapshot), None);
        std::fs::remove_dir_all(&learned).unwrap();
        std::fs::write(&learned, b"").unwrap();
        keep(&store, &snapshot, &call(&[3]));
        assert_eq!(recall(&store, &snapshot), None);
    }

    #[test]
    fn what_two_calls_have_touched_is_known_once() {
        let mut habits = Habits::default();
        assert_eq!(habits.see(call(&[1, 2, 7])), None);
        assert!(!habits.are_known());
        assert_eq!(habits.see(call(&[2, 3, 7])), Some(call(&[2, 7])));
        assert!(habits.are_known());
        assert_eq!(habits.see(call(&[9])), None);
        assert!(habits.are_known());
    }
}
