//! The store: a private directory of snapshots, their names and the images they share.
//!
//! ```text
//! <store>/
//!   names/<name>          symbolic link to ../snapshots/<id>, replaced by one rename
//!   snapshots/<id>/       manifest.json, state, memory.0, …; id = SHA-256 of manifest.json
//!   images/<digest>       kernels, root and code images, each once
//!   stamps/<digest>       which file was found to have that digest (see `stamp`)
//!   signatures/<name>     who vouches that the name stands for what it does (see `signature`)
//!   learned/<id>          which pages its clones were found to touch since (see `learned`)
//!   tmp/<name>/           the draft of <name>, locked by its builder
//!   tmp/.link-<name>      the link on its way into names/
//! ```
//!
//! A snapshot comes into being by a rename of its finished, fsynced draft, and is found by its name
//! only: what no name links to is garbage, whole or not. Nothing that can be found is half-written.
//!
//! # Locks
//!
//! Two kinds of `flock`, both gone with the process that held them. The *store lock* (on `<store>`) is
//! held for moments: shared to open a snapshot's files, exclusive to rename a draft or collect
//! garbage. A *draft's lock* (on `tmp/<name>`) is held while the name is being built; a draft that is
//! not locked belongs to a dead process and is swept away. Store lock first, draft's lock second.

use std::collections::BTreeSet;
use std::path::Path;

use nix::fcntl::FlockArg;
use nix::unistd::geteuid;

use crate::snapshot::{self, Found};
use crate::{
    Digest, Error, Host, Inspection, Manifest, Progress, SigningKey, Snapshot, TrustedKeys, Verify,
};

mod collect;
mod dir;
mod draft;
mod learned;
mod name;
mod signatures;
mod stamp;
#[cfg(test)]
mod tests;

pub(crate) use dir::Dir;
use dir::Lock;
pub use draft::{Draft, LayerFile, Role};
pub use learned::LearnedError;
pub(crate) use stamp::Stamp;

/// What a name in `names/` links to, before the id.
const LINK: &str = "../snapshots/";

/// A store of snapshots. Cheap to open; safe to share between threads and processes.
#[derive(Debug)]
pub struct Store {
    root: Dir,
    names: Dir,
    snapshots: Dir,
    pub(crate) images: Dir,
    stamps: Dir,
    signatures: Dir,
    tmp: Dir,
    trusted: Option<TrustedKeys>,
    signing: Option<SigningKey>,
}

/// A name in the store.
#[derive(Debug)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The id of the snapshot it stands for.
    pub id: Digest,
    /// Its manifest, or why it cannot be read. One bad snapshot does not hide the others.
    pub manifest: Result<Manifest, Error>,
}

impl Store {
    /// Opens the store at `path`; makes it, for the owner alone, where it does not exist. Sweeps away
    /// what processes that died have left.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let root = Dir::open_or_create(path.as_ref())?;
        check_private(&root)?;
        let store = Self {
            names: root.subdir_or_create("names")?,
            snapshots: root.subdir_or_create("snapshots")?,
            images: root.subdir_or_create("images")?,
            stamps: root.subdir_or_create("stamps")?,
            signatures: root.subdir_or_create("signatures")?,
            tmp: root.subdir_or_create("tmp")?,
            root,
            trusted: None,
            signing: None,
        };
        // Hygiene, not correctness: a store on a read-only file system opens all the same.
        let _ = store.sweep();
        Ok(store)
    }

    /// From now on opens only what one of these keys has [signed](Store::sign), and reads all of it each time: who can
    /// change a snapshot could change its stamps, too.
    #[must_use]
    pub fn trusting(self, keys: TrustedKeys) -> Self {
        Self { trusted: Some(keys), ..self }
    }

    /// From now on signs each snapshot that is committed, before its name stands for it; and opens only what is
    /// [signed](Store::trusting) by this key, or another that it trusts: who builds on something vouches for it, too.
    #[must_use]
    pub fn signing(self, key: SigningKey) -> Self {
        let trusted = self.trusted.unwrap_or_default().and(&key);
        Self { trusted: Some(trusted), signing: Some(key), ..self }
    }

    /// Whether it signs what is committed.
    pub fn is_signing(&self) -> bool {
        self.signing.is_some()
    }

    /// Whether it opens only what is signed.
    pub fn is_trusting(&self) -> bool {
        self.trusted.is_some()
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Starts building a snapshot called `name`; an existing one stays until the draft is committed.
    pub fn draft(&self, name: &str) -> Result<Draft<'_>, Error> {
        name::check(name)?;
        Draft::new(self, name)
    }

    /// Opens the snapshot `name` if `host` can run it, checked as far as `verify` says.
    pub fn snapshot(&self, name: &str, host: &Host, verify: Verify) -> Result<Snapshot, Error> {
        let trusted = self.trusted.as_ref();
        let verify = if trusted.is_some() { Verify::Full } else { verify };
        snapshot::open(self, name, Some(host), verify, trusted, &mut |_, _| {})
    }

    /// Reads back every byte of the snapshot `name` and its images. Does not ask for a host.
    pub fn verify(&self, name: &str, progress: Progress<'_>) -> Result<Snapshot, Error> {
        snapshot::open(self, name, None, Verify::Full, self.trusted.as_ref(), progress)
    }

    /// What there is to know about the snapshot `name` without reading its memory.
    pub fn inspect(&self, name: &str) -> Result<Inspection, Error> {
        let trusted = self.trusted.as_ref();
        let snapshot =
            snapshot::open(self, name, None, Verify::Structure, trusted, &mut |_, _| {})?;
        Inspection::of(&snapshot).map_err(Error::io("inspect", self.path()))
    }

    /// Every name, sorted; nothing is read of what they stand for.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let _lock = self.lock(FlockArg::LockShared)?;
        self.known()
    }

    /// Every name, sorted, with what it stands for.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let _lock = self.lock(FlockArg::LockShared)?;
        let mut entries = Vec::new();
        for name in self.known()? {
            let Some(id) = self.resolve(&name)? else { continue };
            let found = Found { store: self, name: &name, id };
            let manifest = found.manifest(None).map(|(manifest, _)| manifest);
            entries.push(Entry { name, id, manifest });
        }
        Ok(entries)
    }

    /// Removes the name, and with it everything that no other name needs. Snapshots that are open stay
    /// usable.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        name::check(name)?;
        let _lock = self.lock(FlockArg::LockExclusive)?;
        if self.names.stat(name).is_err() {
            return Err(self.not_found(name));
        }
        self.names.unlink(name)?;
        self.names.sync()?;
        self.collect()
    }

    /// Finds `name` while the caller holds the store lock.
    pub(crate) fn find<'a>(&'a self, name: &'a str) -> Result<Found<'a>, Error> {
        name::check(name)?;
        let id = self.resolve(name)?.ok_or_else(|| self.not_found(name))?;
        Ok(Found { store: self, name, id })
    }

    /// Waits for the store lock.
    pub(crate) fn lock(&self, how: FlockArg) -> Result<Option<Lock>, Error> {
        self.root.lock(how)
    }

    pub(crate) fn snapshot_dir(&self, id: Digest) -> Result<Dir, Error> {
        self.snapshots.subdir(&id.hex())
    }

    /// The id that `name` links to; `None` for a link that is missing or not ours.
    fn resolve(&self, name: &str) -> Result<Option<Digest>, Error> {
        let link = self.names.readlink(name)?;
        Ok(link.and_then(|l| Digest::from_hex(l.strip_prefix(LINK)?)))
    }

    fn known(&self) -> Result<Vec<String>, Error> {
        let mut names = self.names.names()?;
        names.retain(|n| name::check(n).is_ok());
        Ok(names)
    }

    fn live(&self) -> Result<BTreeSet<Digest>, Error> {
        let ids = self.known()?.into_iter().map(|name| self.resolve(&name));
        ids.filter_map(Result::transpose).collect()
    }

    fn not_found(&self, name: &str) -> Error {
        let known = self.known().unwrap_or_default();
        Error::NotFound { name: name.into(), store: self.path().into(), known }
    }
}

/// Whoever may write the directory may swap what is in it. (Root may do so anyway.)
fn check_private(root: &Dir) -> Result<(), Error> {
    let stat = root.stat(".").map_err(|e| Error::io("open", root.path())(e.into()))?;
    let foreign = stat.st_uid != geteuid().as_raw() && stat.st_uid != 0;
    if foreign || stat.st_mode & 0o022 != 0 {
        return Err(Error::NotPrivate(root.path().into()));
    }
    Ok(())
}
