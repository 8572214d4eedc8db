//! Thaws with nothing in the page cache: the first after a host has started, or after it has forgotten.
//!
//! The snapshot lies on a disk and is open; before each thaw the kernel is told to forget its pages
//! (posix_fadvise(2), `POSIX_FADV_DONTNEED`, for pages that are written back and mapped by nobody). What the disk is
//! read for then is measured too: nothing would mean that nothing was forgotten.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Context as _;
use calve_fleet::{build_runtime, build_snapshot};
use calve_snapshots::Store;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{Bench, WARM_UP, as_sample, called, first_output};
use crate::functions::Case;
use crate::samples::{Measured, Unit};

impl Bench<'_> {
    /// Builds the function into a store in `folder` and thaws it from there.
    pub(super) fn thaws_from_disk(
        &self,
        case: &Case,
        folder: &Path,
    ) -> anyhow::Result<[Measured; 2]> {
        let folder = tempfile::Builder::new().prefix("calve-bench-").tempdir_in(folder);
        let folder = folder.context("the folder on a disk")?;
        let store = Store::open(folder.path().join("store"))?;
        let runtime = case.runtime(&self.images);
        build_runtime(&self.fleet, &store, &runtime, &mut |_| {})?;
        build_snapshot(&self.fleet, &store, &case.spec(&self.images, false), &mut |_| {})?;
        let frozen = self.fleet.open(&store, &case.snapshot(false))?;
        let name = format!("{}, cold", case.name);
        let of = |operation, method, unit| Measured::new(operation, &name, "calve", method, unit);
        let mut thaw = of(
            "thaw_to_first_output",
            "a shell waits, snapshot open, nothing of it in the page cache; decision → first byte",
            Unit::Microseconds,
        );
        let mut read = of(
            "read_from_disk",
            "what those thaws had the host page in, by /proc/vmstat",
            Unit::KiB,
        );
        for n in 0..self.options.samples + WARM_UP {
            self.fleet.prepare(frozen.shape(), 1)?;
            forget(folder.path())?;
            let before = paged_in()?;
            let clone = self.fleet.thaw(&frozen).map_err(anyhow::Error::from);
            let outcome = clone.and_then(|clone| called(clone, case));
            if n >= WARM_UP {
                read.samples.push(as_sample(paged_in()?.saturating_sub(before)));
                thaw.take(outcome.map(|(_, outcome)| first_output(&outcome)));
            }
        }
        Ok([thaw, read])
    }
}

/// Has the kernel forget the pages of every file below a folder.
fn forget(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            forget(&entry.path())?;
        } else if kind.is_file() {
            let file = File::open(entry.path())?;
            file.sync_all()?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
    }
    Ok(())
}

/// KiB that this host has paged in from its disks since it started (proc_vmstat(5), `pgpgin`).
fn paged_in() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/vmstat")?;
    let figure = text.lines().find_map(|line| line.strip_prefix("pgpgin "));
    figure.context("/proc/vmstat has no pgpgin")?.parse().context("pgpgin")
}
