//! Garbage: what crashes leave behind, and what no name needs any more.

use std::collections::BTreeSet;

use nix::fcntl::FlockArg;

use super::Store;
use crate::snapshot::Found;
use crate::{Digest, Error};

impl Store {
    /// Removes what dead processes have left. Does nothing while somebody else holds the store lock:
    /// whoever opens the store next will do it.
    pub(super) fn sweep(&self) -> Result<(), Error> {
        let Some(_lock) = self.lock(FlockArg::LockExclusiveNonblock)? else { return Ok(()) };
        let dead = self.dead_drafts()?;
        let live = self.live()?;
        let nameless = |hex: &String| Digest::from_hex(hex).is_none_or(|id| !live.contains(&id));
        if dead.is_empty() && !self.snapshots.names()?.iter().any(nameless) {
            return Ok(());
        }
        // Drafts go last: while one is there, a sweep that is cut short will be taken up again.
        self.collect()?;
        dead.iter().try_for_each(|name| self.remove_tmp(name))
    }

    /// Entries of `tmp/` that no live process owns: unlocked drafts, and dotted entries, which exist
    /// only while the store lock is held exclusively (as it is here).
    fn dead_drafts(&self) -> Result<Vec<String>, Error> {
        let mut dead = Vec::new();
        for name in self.tmp.names()? {
            let owned = if name.starts_with('.') {
                false
            } else {
                let Ok(draft) = self.tmp.subdir(&name) else { continue }; // not ours
                draft.lock(FlockArg::LockExclusiveNonblock)?.is_none()
            };
            if !owned {
                dead.push(name);
            }
        }
        Ok(dead)
    }

    /// Removes snapshots without a name, then images and stamps that no snapshot mentions. The caller
    /// holds the store lock exclusively.
    pub(super) fn collect(&self) -> Result<(), Error> {
        let live = self.live()?;
        let live_names: BTreeSet<String> = live.iter().map(Digest::hex).collect();
        let mut trash = Vec::new();
        for name in self.snapshots.names()? {
            if !live_names.contains(&name) {
                trash.push(self.discard(&name)?);
            }
        }
        // A snapshot that cannot be read may need any image: then none is removed.
        if let Some(needed) = self.needed(&live) {
            for dir in [&self.images, &self.stamps] {
                let unneeded = dir.names()?.into_iter().filter(|file| !needed.contains(file));
                unneeded.into_iter().try_for_each(|file| dir.unlink(&file))?;
            }
        }
        trash.iter().flatten().try_for_each(|name| self.remove_tmp(name))
    }

    /// Moves the snapshot directory `hex`, if it exists, out of sight in one step. Returns its name in `tmp/`.
    pub(super) fn discard(&self, hex: &str) -> Result<Option<String>, Error> {
        if self.snapshots.stat(hex).is_err() {
            return Ok(None);
        }
        let trash = format!(".trash-{hex}");
        self.remove_tmp(&trash)?;
        self.snapshots.rename(hex, &self.tmp, &trash)?;
        Ok(Some(trash))
    }

    fn remove_tmp(&self, name: &str) -> Result<(), Error> {
        match self.tmp.stat(name) {
            Err(_) => Ok(()),
            Ok(stat) if stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR => {
                self.tmp.remove_dir(name)
            }
            Ok(_) => self.tmp.unlink(name),
        }
    }

    /// The digests that live snapshots mention, as file names; `None` if one cannot be read.
    fn needed(&self, live: &BTreeSet<Digest>) -> Option<BTreeSet<String>> {
        let mut needed = BTreeSet::new();
        for id in live {
            let found = Found { store: self, name: "", id: *id };
            let (manifest, _) = found.manifest(None).ok()?;
            needed.extend(manifest.images.iter().map(|blob| blob.digest.hex()));
            needed.extend(manifest.layers.iter().map(|layer| layer.digest.hex()));
        }
        Some(needed)
    }
}
