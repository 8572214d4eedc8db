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
        let dead = self.dead()?;
        if dead.is_empty() && self.nameless()?.is_empty() {
            return Ok(());
        }
        self.collect()?;
        // Last: while one is there, a sweep that was cut short will be taken up again.
        dead.iter().try_for_each(|name| self.tmp.remove(name))
    }

    /// Entries of `tmp/` that no live process owns: unlocked drafts, and dotted entries, which exist
    /// only while the store lock is held exclusively (as it is here).
    fn dead(&self) -> Result<Vec<String>, Error> {
        let mut dead = self.tmp.names()?;
        dead.retain(|name| {
            let unlocked = || {
                let lock = self.tmp.subdir(name)?.lock(FlockArg::LockExclusiveNonblock)?;
                Ok::<_, Error>(lock.is_some())
            };
            name.starts_with('.') || unlocked().unwrap_or(false)
        });
        Ok(dead)
    }

    /// Removes what no name needs: images and stamps, then the snapshots themselves. The caller holds
    /// the store lock exclusively.
    pub(super) fn collect(&self) -> Result<(), Error> {
        // A snapshot that cannot be read may need any image: then none is removed.
        if let Some(needed) = self.needed()? {
            for dir in [&self.images, &self.stamps] {
                let unneeded = dir.names()?.into_iter().filter(|file| !needed.contains(file));
                unneeded.into_iter().try_for_each(|file| dir.unlink(&file))?;
            }
        }
        let names: BTreeSet<_> = self.known()?.into_iter().collect();
        let unnamed = self.signatures.names()?.into_iter().filter(|name| !names.contains(name));
        unnamed.into_iter().try_for_each(|name| self.signatures.unlink(&name))?;
        self.unlearn()?;
        // Last, for the same reason as above.
        self.nameless()?.iter().try_for_each(|hex| self.snapshots.remove(hex))
    }

    /// Snapshots that no name stands for.
    fn nameless(&self) -> Result<Vec<String>, Error> {
        let live: BTreeSet<_> = self.live()?.iter().map(Digest::hex).collect();
        let mut nameless = self.snapshots.names()?;
        nameless.retain(|hex| !live.contains(hex));
        Ok(nameless)
    }

    /// The digests that live snapshots mention, as file names; `None` if one cannot be read.
    fn needed(&self) -> Result<Option<BTreeSet<String>>, Error> {
        let mut needed = BTreeSet::new();
        for id in self.live()? {
            let found = Found { store: self, name: "", id };
            let Ok((manifest, _)) = found.manifest(None) else { return Ok(None) };
            needed.extend(manifest.images.iter().map(|blob| blob.digest.hex()));
            needed.extend(manifest.layers.iter().map(|layer| layer.digest.hex()));
        }
        Ok(Some(needed))
    }
}
