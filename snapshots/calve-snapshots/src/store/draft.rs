//! A snapshot in the making.
//!
//! ```text
//! Store::draft ──► write images, state, memory into tmp/<name>/ ──► commit ──► snapshots/<id>/
//!                            │ dropped, failed                          ▲ one rename
//!                            └──► everything removed
//! ```

use std::fs::File;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::FlockArg;

use super::dir::{Dir, Lock, seal};
use super::{LINK, Store};
use crate::manifest::{
    Blob, Extent, Images, Layer, MANIFEST_VERSION, Machine, Manifest, MediaType, Recipe,
};
use crate::memory::{self, Fault};
use crate::{
    Architecture, Digest, Error, MemoryLayout, MemorySource, Progress, Snapshot, State, Workset,
};

mod images;

pub use images::Role;

/// A memory layer held open, and what of memory it has; all of it, for the lowest.
pub type LayerFile = (File, Option<Vec<Extent>>);

/// A snapshot in the making; dropping it leaves nothing behind.
///
/// A process that is killed leaves its draft, unlocked; the next [`Store::open`] removes it.
#[derive(Debug)]
pub struct Draft<'a> {
    store: &'a Store,
    name: String,
    dir: Dir,
    _lock: Lock,
    kernel: Option<Blob>,
    root: Option<Blob>,
    code: Option<Blob>,
    state: Option<(Architecture, Blob)>,
    /// Layers that are another snapshot's, too.
    below: Vec<Layer>,
    memory: Option<(MemoryLayout, Layer)>,
    workset: Option<Blob>,
    committed: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(store: &'a Store, name: &str) -> Result<Self, Error> {
        // Under the store lock nobody sweeps the directory between its creation and its locking.
        let _store_lock = store.lock(FlockArg::LockExclusive)?;
        let dir = store.tmp.subdir_or_create(name)?;
        let lock = dir.lock(FlockArg::LockExclusiveNonblock)?;
        let lock = lock.ok_or_else(|| Error::NameBusy(name.into()))?;
        for leftover in dir.names()? {
            dir.unlink(&leftover)?;
        }
        Ok(Self {
            store,
            name: name.into(),
            dir,
            _lock: lock,
            kernel: None,
            root: None,
            code: None,
            state: None,
            below: Vec::new(),
            memory: None,
            workset: None,
            committed: false,
        })
    }

    /// Writes the machine's state.
    pub fn write_state(&mut self, state: &State) -> Result<(), Error> {
        let bytes = state.encode();
        self.write("state", &bytes)?;
        let (media_type, digest) = (MediaType::State, Digest::of(&bytes));
        let blob = Blob { media_type, digest, length: bytes.len() as u64 };
        self.state = Some((state.architecture(), blob));
        Ok(())
    }

    /// The digest of an image that was added.
    pub fn image(&self, role: Role) -> Option<Digest> {
        let blob = match role {
            Role::Kernel => self.kernel,
            Role::Root => self.root,
            Role::Code => self.code,
        };
        blob.map(|blob| blob.digest)
    }

    /// Takes the memory of `base` for the layers below this snapshot's own, which is then to be written by
    /// [`write_layer`](Draft::write_layer). Nothing is copied: both have the same files from then on.
    ///
    /// # Errors
    ///
    /// When `base` is of another store, or was removed meanwhile.
    pub fn stand_on(&mut self, base: &Snapshot) -> Result<(), Error> {
        let layers = &base.manifest().layers;
        for (layer, file) in layers.iter().zip(base.memory()) {
            self.dir.unlink(&layer.file)?;
            self.dir.link_open(file, &layer.file)?;
        }
        self.below = layers.clone();
        Ok(())
    }

    /// Writes the machine's memory, leaving out pages that are all zero.
    pub fn write_memory(
        &mut self,
        source: &(impl MemorySource + ?Sized),
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        self.below.clear();
        self.write_file(source, None, progress)
    }

    /// Writes what of the machine's memory is not as in the layers that it [stands on](Draft::stand_on): `source`
    /// has it within `extents`, and zeros elsewhere.
    pub fn write_layer(
        &mut self,
        source: &(impl MemorySource + ?Sized),
        extents: Vec<Extent>,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        self.write_file(source, Some(extents), progress)
    }

    fn write_file(
        &mut self,
        source: &(impl MemorySource + ?Sized),
        extents: Option<Vec<Extent>>,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let name = memory::file_name(self.below.len());
        self.dir.unlink(&name)?;
        let path = self.dir.path_of(&name);
        let file = self.dir.create(&name)?;
        let summary = memory::write(&file, source, progress).map_err(|fault| match fault {
            Fault::Read(e) => Error::ReadMemory(e),
            Fault::Write(e) => Error::io("write", &path)(e),
        })?;
        seal(&file, &path)?;
        let layer = Layer {
            file: name,
            media_type: MediaType::Memory,
            digest: summary.digest,
            length: source.layout().size(),
            pages: summary.pages,
            runs: summary.runs,
            extents,
        };
        self.memory = Some((source.layout().clone(), layer));
        Ok(())
    }

    /// The layers of memory that were written or stood on, lowest first, to thaw a clone from before there is
    /// a snapshot.
    pub fn memory(&self) -> Result<Vec<LayerFile>, Error> {
        let own = self.memory.iter().map(|(_, layer)| layer);
        let layers = self.below.iter().chain(own).map(|layer| {
            let file = self.dir.read(&layer.file);
            let file = file.map_err(Error::io("open", self.dir.path_of(&layer.file)))?;
            Ok((file, layer.extents.clone()))
        });
        layers.collect()
    }

    /// Writes which pages clones touch.
    pub fn write_workset(&mut self, workset: &Workset) -> Result<(), Error> {
        let bytes = workset.encode();
        self.write("workset", &bytes)?;
        let (media_type, digest) = (MediaType::Workset, Digest::of(&bytes));
        self.workset = Some(Blob { media_type, digest, length: bytes.len() as u64 });
        Ok(())
    }

    /// Publishes the snapshot under the draft's name, in place of an older one; signed, where the store
    /// [signs](Store::signing). Returns its id.
    pub fn commit(self, recipe: Recipe) -> Result<Digest, Error> {
        self.commit_at(SystemTime::now(), recipe)
    }

    pub(super) fn commit_at(mut self, now: SystemTime, recipe: Recipe) -> Result<Digest, Error> {
        let manifest = self.manifest(now, recipe)?;
        let describe = |source| Error::Describe { name: self.name.clone(), source };
        let bytes = manifest.encode().map_err(describe)?;
        let id = Digest::of(&bytes);
        self.write("manifest.json", &bytes)?;

        let store = self.store;
        let _store_lock = store.lock(FlockArg::LockExclusive)?;
        self.publish_images(&manifest.images)?;
        self.dir.sync()?;
        // The same snapshot may have been committed before; ours is known to be whole.
        let exists = store.snapshots.stat(&id.hex()).is_ok();
        let publish = if exists { Dir::exchange } else { Dir::rename };
        publish(&store.tmp, &self.name, &store.snapshots, &id.hex())?;
        store.snapshots.sync()?;
        if let Some(key) = &store.signing {
            // Whoever opens the name finds it signed, before it moves and after.
            store.countersign(&self.name, id, key, store.resolve(&self.name)?)?;
        }
        let link = link_name(&self.name);
        store.tmp.remove(&link)?;
        store.tmp.symlink(&format!("{LINK}{}", id.hex()), &link)?;
        store.tmp.rename(&link, &store.names, &self.name)?;
        store.names.sync()?;
        self.committed = true;
        // What stood here before may be garbage now. The commit stands even if it cannot be removed; the
        // next `Store::open` tries again.
        let _ = store.tmp.remove(&self.name).and_then(|()| store.collect());
        Ok(id)
    }

    fn manifest(&self, now: SystemTime, recipe: Recipe) -> Result<Manifest, Error> {
        let missing = |missing| Error::Incomplete { name: self.name.clone(), missing };
        let (architecture, state) = self.state.ok_or_else(|| missing("state"))?;
        let (memory, layer) = self.memory.clone().ok_or_else(|| missing("memory"))?;
        let images = Images {
            kernel: self.kernel.ok_or_else(|| missing("kernel"))?,
            root: self.root.ok_or_else(|| missing("root image"))?,
            code: self.code,
        };
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Manifest {
            format_version: MANIFEST_VERSION,
            architecture,
            created_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            cpu: recipe.cpu,
            machine: Machine {
                vcpus: recipe.vcpus,
                disks: recipe.disks,
                memory_mib: u32::try_from(memory.size() >> 20).unwrap_or(u32::MAX),
                memory,
                cmdline: recipe.cmdline,
            },
            images,
            state,
            layers: self.below.iter().cloned().chain([layer]).collect(),
            workset: self.workset,
            function: recipe.function,
            stats: recipe.stats,
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.dir.unlink(name)?;
        let path = self.dir.path_of(name);
        let mut file = self.dir.create(name)?;
        file.write_all(bytes).map_err(Error::io("write", &path))?;
        seal(&file, &path)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        // Best effort: what cannot be removed now, the next `Store::open` sweeps away.
        if let Ok(_store_lock) = self.store.lock(FlockArg::LockExclusive) {
            let _ = self.store.tmp.remove(&self.name);
            let _ = self.store.tmp.remove(&link_name(&self.name));
            // A commit that failed half-way may have published images, or a snapshot without a name.
            let _ = self.store.collect();
        }
    }
}

/// What the link for `names/` is called in `tmp/` until it is moved there.
fn link_name(name: &str) -> String {
    format!(".link-{name}")
}
