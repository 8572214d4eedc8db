//! Whether a command has left anything behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Place;

/// Processes of ours by id, and abstract and named Unix sockets, as they are now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct World {
    workers: BTreeSet<u32>,
    sockets: usize,
}

impl World {
    pub(crate) fn now() -> Self {
        Self { workers: workers(), sockets: named_sockets() }
    }

    /// Asserts that nothing has been added, and that `place` has no temporary file.
    #[track_caller]
    pub(crate) fn assert_unchanged(&self, place: &Place) {
        assert_eq!(&Self::now(), self);
        let temporary = entries(&place.temporary());
        assert!(temporary.is_empty(), "temporary files: {temporary:?}");
        let drafts = entries(&place.store().join("tmp"));
        assert!(drafts.is_empty(), "drafts: {drafts:?}");
    }
}

/// Ids of all worker processes.
pub(crate) fn workers() -> BTreeSet<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        name.trim() == "calve-worker"
    })
    .collect()
}

/// Unix sockets with a name (Linux `Documentation/filesystems/proc.rst`: the path is the eighth column).
fn named_sockets() -> usize {
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().skip(1).filter(|line| line.split_whitespace().nth(7).is_some()).count()
}

/// Names in a folder; none where there is no such folder.
pub(crate) fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Whether the process waits in read(2) on its standard input (`/proc/PID/syscall`: number and arguments in hex).
pub(crate) fn is_reading(id: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{id}/syscall")).unwrap_or_default();
    call.starts_with("0 0x0 ")
}

/// Looks again and again until `holds`; panics after a minute.
#[track_caller]
pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::sleep(Duration::from_millis(5));
    }
}
