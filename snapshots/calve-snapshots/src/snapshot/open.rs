//! From a name to a [`Snapshot`]: open everything under the store lock, then verify what was opened.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::errno::Errno;
use nix::fcntl::FlockArg;

use super::{Snapshot, Verify};
use crate::manifest::{self, Blob, Layer, MANIFEST_VERSION, MAX_MANIFEST_LEN, ManifestError};
use crate::memory::{self, FileMemory};
use crate::signature::Verdict;
use crate::state::MAX_STATE_LEN;
use crate::store::{Dir, Stamp, Store};
use crate::{Damage, Digest, Error, Host, Manifest, Progress, State, TrustedKeys, Workset};

/// A name, and the id it stands for.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) store: &'a Store,
    pub(crate) name: &'a str,
    pub(crate) id: Digest,
}

pub(crate) fn open(
    store: &Store,
    name: &str,
    host: Option<&Host>,
    verify: Verify,
    trusted: Option<&TrustedKeys>,
    progress: Progress<'_>,
) -> Result<Snapshot, Error> {
    // Held while files are opened, not while they are read: a removal in between cannot mix two
    // snapshots of one name, and once open they stay.
    let lock = store.lock(FlockArg::LockShared)?;
    let found = store.find(name)?;
    // Before a byte of it is parsed.
    trusted.map_or(Ok(()), |keys| found.check_signatures(keys))?;
    let (manifest, dir) = found.manifest(host)?;
    let Manifest { images, .. } = &manifest;
    let state_file = found.file(&dir, "state", manifest.state.length)?;
    let layers = manifest.layers.iter().map(|layer| found.file(&dir, &layer.file, layer.length));
    let memory = layers.collect::<Result<Vec<_>, _>>()?;
    let workset_file = manifest.workset.map(|blob| found.file(&dir, "workset", blob.length));
    let workset_file = workset_file.transpose()?;
    let kernel = found.image(&images.kernel)?;
    let root = found.image(&images.root)?;
    let code = images.code.as_ref().map(|blob| found.image(blob)).transpose()?;
    drop(lock);

    let state = found.state(&state_file, &manifest)?;
    let workset = match (&workset_file, &manifest.workset) {
        (Some(file), Some(blob)) => found.workset(file, blob, &manifest)?,
        _ => Workset::default(),
    };
    let mut reading = Reading { found, verify, done: 0, total: to_read(&manifest), progress };
    for (layer, file) in manifest.layers.iter().zip(&memory) {
        reading.memory(file, layer, &manifest)?;
    }
    for (blob, file) in images.iter().zip([&kernel, &root].into_iter().chain(&code)) {
        reading.image(file, blob)?;
    }
    let (name, id) = (name.into(), found.id);
    Ok(Snapshot { name, id, manifest, state, state_file, memory, workset, kernel, root, code })
}

impl Found<'_> {
    /// Reads the manifest and checks, in this order: length, identity, format version, architecture,
    /// contents, processor. Returns it with the snapshot's directory.
    pub(crate) fn manifest(&self, host: Option<&Host>) -> Result<(Manifest, Dir), Error> {
        const FILE: &str = "manifest.json";
        let damaged = |damage| self.damaged(FILE, damage);
        let dir = self.store.snapshot_dir(self.id).map_err(|error| match error {
            // Not to be taken for each other: one is there again when others have closed their files.
            Error::Io { source, .. } if source.kind() != io::ErrorKind::NotFound => {
                damaged(source.into())
            }
            _ => damaged(Damage::Missing),
        })?;
        let file = self.regular(&dir, FILE)?;
        let mut bytes = Vec::new();
        let limit = MAX_MANIFEST_LEN as u64 + 1;
        file.take(limit).read_to_end(&mut bytes).map_err(|e| damaged(e.into()))?;
        let digest = Digest::of(&bytes);
        if digest != self.id {
            return Err(damaged(Damage::Digest { wanted: self.id, found: digest }));
        }
        let identity = manifest::identify(&bytes).map_err(|e| damaged(e.into()))?;
        if identity.format_version != MANIFEST_VERSION {
            let (name, found) = (self.name.into(), identity.format_version);
            return Err(Error::FormatVersion { name, found });
        }
        if let Some(host) = host.filter(|h| h.architecture.to_string() != identity.architecture) {
            let (name, host) = (self.name.into(), host.architecture);
            return Err(Error::Architecture { name, found: identity.architecture, host });
        }
        let manifest = Manifest::try_from(&bytes[..]).map_err(|e| damaged(e.into()))?;
        host.map_or(Ok(()), |host| self.check_cpu(&manifest, host))?;
        Ok((manifest, dir))
    }

    fn check_signatures(&self, trusted: &TrustedKeys) -> Result<(), Error> {
        let name = self.name.to_owned();
        match trusted.judge(self.name, self.id, &self.signatures()?) {
            Verdict::Signed => Ok(()),
            Verdict::Unsigned => Err(Error::Unsigned { name }),
            Verdict::Wrong { key } => Err(Error::WronglySigned { name, key }),
        }
    }

    fn check_cpu(&self, manifest: &Manifest, host: &Host) -> Result<(), Error> {
        let name = self.name.to_owned();
        if manifest.cpu.vendor != host.vendor {
            let (wanted, host) = (manifest.cpu.vendor.clone(), host.vendor.clone());
            return Err(Error::CpuVendor { name, wanted, host });
        }
        let missing: Vec<_> = manifest.cpu.features.difference(&host.features).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::CpuFeatures { name, missing }) }
    }

    fn state(&self, file: &File, manifest: &Manifest) -> Result<State, Error> {
        let damaged = |damage| self.damaged("state", damage);
        // The manifest's check has bounded the length.
        let mut bytes = vec![0; usize::try_from(manifest.state.length).unwrap_or(MAX_STATE_LEN)];
        file.read_exact_at(&mut bytes, 0).map_err(|e| damaged(e.into()))?;
        let (wanted, found) = (manifest.state.digest, Digest::of(&bytes));
        if found != wanted {
            return Err(damaged(Damage::Digest { wanted, found }));
        }
        let state = State::try_from(&bytes[..]).map_err(|e| damaged(e.into()))?;
        if state.architecture() != manifest.architecture {
            return Err(damaged(Damage::Architecture));
        }
        Ok(state)
    }

    fn workset(&self, file: &File, blob: &Blob, manifest: &Manifest) -> Result<Workset, Error> {
        let damaged = |damage| self.damaged("workset", damage);
        let mut bytes = Vec::new();
        // The manifest's check has bounded the length.
        file.take(blob.length).read_to_end(&mut bytes).map_err(|e| damaged(e.into()))?;
        let (wanted, found) = (blob.digest, Digest::of(&bytes));
        if found != wanted {
            return Err(damaged(Damage::Digest { wanted, found }));
        }
        let memory = manifest.machine.memory.size();
        Workset::decode(&bytes, memory).map_err(|e| damaged(e.into()))
    }

    fn image(&self, blob: &Blob) -> Result<File, Error> {
        self.file(&self.store.images, &blob.digest.hex(), blob.length)
    }

    fn file(&self, dir: &Dir, name: &str, wanted: u64) -> Result<File, Error> {
        let file = self.regular(dir, name)?;
        let metadata = file.metadata().map_err(|e| self.damaged(name, e.into()))?;
        match metadata.size() {
            found if found != wanted => Err(self.damaged(name, Damage::Length { wanted, found })),
            _ => Ok(file),
        }
    }

    fn regular(&self, dir: &Dir, name: &str) -> Result<File, Error> {
        let open = || -> Result<File, Damage> {
            let file = dir.read(name).map_err(|e| {
                match Errno::from_raw(e.raw_os_error().unwrap_or(0)) {
                    Errno::ENOENT => Damage::Missing,
                    Errno::ELOOP | Errno::ENXIO => Damage::NotRegular, // O_NOFOLLOW; a socket
                    _ => Damage::Read(e),
                }
            })?;
            if file.metadata()?.is_file() { Ok(file) } else { Err(Damage::NotRegular) }
        };
        open().map_err(|damage| self.damaged(name, damage))
    }

    fn damaged(&self, file: &str, damage: Damage) -> Error {
        Error::Damaged { name: self.name.into(), file: file.into(), damage }
    }
}

fn to_read(manifest: &Manifest) -> u64 {
    let pages: u64 = manifest.layers.iter().map(|layer| layer.pages).sum();
    pages * memory::PAGE as u64 + manifest.images.iter().map(|blob| blob.length).sum::<u64>()
}

/// The part that takes time: digesting memory and images.
struct Reading<'a> {
    found: Found<'a>,
    verify: Verify,
    done: u64,
    total: u64,
    progress: Progress<'a>,
}

impl Reading<'_> {
    fn memory(&mut self, file: &File, layer: &Layer, manifest: &Manifest) -> Result<(), Error> {
        let mut counted = true;
        self.check(&layer.file, file, layer.digest, |each| {
            let source = FileMemory::new(file, &manifest.machine.memory)?;
            let summary = memory::summarise(&source, each)?;
            counted = (summary.pages, summary.runs) == (layer.pages, layer.runs);
            Ok(summary.digest)
        })?;
        if counted {
            Ok(())
        } else {
            let wrong = ManifestError::Invalid("the pages of the memory layer are miscounted");
            Err(self.found.damaged("manifest.json", wrong.into()))
        }
    }

    fn image(&mut self, file: &File, blob: &Blob) -> Result<(), Error> {
        self.check(&blob.digest.hex(), file, blob.digest, |each| Digest::of_file(file, each))
    }

    fn check(
        &mut self,
        name: &str,
        file: &File,
        wanted: Digest,
        digest: impl FnOnce(&mut dyn FnMut(usize)) -> io::Result<Digest>,
    ) -> Result<(), Error> {
        let damaged = |damage| self.found.damaged(name, damage);
        let store = self.found.store;
        let before = match self.verify {
            Verify::Structure => return Ok(()),
            Verify::Full => None,
            Verify::Stamped => Some(Stamp::of(file).map_err(|e| damaged(e.into()))?),
        };
        if before.as_ref().is_some_and(|stamp| store.has_stamp(wanted, stamp)) {
            return Ok(());
        }
        let found = digest(&mut |bytes| {
            self.done += bytes as u64;
            (self.progress)(self.done, self.total);
        });
        let found = found.map_err(|e| damaged(e.into()))?;
        if found != wanted {
            return Err(damaged(Damage::Digest { wanted, found }));
        }
        if let Some(before) = before {
            store.stamp(wanted, file, &before);
        }
        Ok(())
    }
}
