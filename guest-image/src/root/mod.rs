//! Root images: a Debian userland with one language runtime and our agent, as a read-only EROFS disk.
//!
//! ```text
//! resolved packages ──► base tree (unpacked, pruned, finished; no agent) ──► + agent ──► root.erofs
//!    root/base/<runtime>.json      root/base/<runtime>-<key>/tree               root/<runtime>-<key>/
//! ```
//!
//! The same packages and the same agent give the same bytes. A new agent costs one mkfs run: packages are resolved
//! and unpacked only when the recipe changed or the caller asks for newer ones.

mod agent;
mod base;
mod etc;
mod fill;
mod prune;
mod python;
mod recipe;

pub use crate::apt::Package;

use crate::apt::AptError;
use crate::cache::{Cache, CacheError, Lock};
use crate::command::CommandError;
use crate::digest::{self, Key};
use crate::erofs;
use crate::fsutil::{self, FileError, in_file};
use crate::progress::Progress;
use crate::runtime::Runtime;
use agent::Agent;
use base::Base;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Name of the file that completes an image's folder.
const MANIFEST: &str = "manifest.json";

/// A built root image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootImage {
    /// The image.
    pub path: PathBuf,
    /// SHA-256 of the image, in hex.
    pub digest: String,
    /// The runtime it carries.
    pub runtime: Runtime,
    /// What it is made of.
    pub manifest: RootManifest,
}

/// What a root image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootManifest {
    /// Its key in the cache.
    pub key: String,
    /// The runtime it carries.
    pub runtime: Runtime,
    /// The Debian release its packages are from.
    pub suite: String,
    /// Every package in it.
    pub packages: Vec<Package>,
    /// SHA-256 of the agent in it, in hex.
    pub agent_sha256: String,
    /// SHA-256 of the image, in hex.
    pub sha256: String,
    /// Length of the image in bytes.
    pub bytes: u64,
}

/// Why there is no root image.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file of the build cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The agent is no program for the guest.
    #[error("agent {} is no static x86-64 executable: build calve-agent for x86_64-unknown-linux-musl", .0.display())]
    Agent(PathBuf),
    /// The packages cannot be had.
    #[error("cannot get the packages of the {runtime} root image")]
    Packages {
        /// The runtime.
        runtime: Runtime,
        /// Why.
        source: AptError,
    },
    /// A program of the build is missing or failed.
    #[error("cannot build the {runtime} root image")]
    Build {
        /// The runtime.
        runtime: Runtime,
        /// Why.
        source: CommandError,
    },
}

/// The root image of a runtime with this agent; builds it when there is none.
pub fn ensure(
    cache: &Cache,
    runtime: Runtime,
    agent: &Path,
    progress: &mut dyn Progress,
) -> Result<RootImage, RootError> {
    let agent = Agent::open(agent)?;
    if let Some(image) = Base::remembered(cache, runtime).and_then(|b| find(cache, &b, &agent)) {
        return Ok(image);
    }
    let _lock = Lock::take(&cache.roots(), progress)?;
    let base = match Base::remembered(cache, runtime) {
        Some(base) => base,
        None => base::build(cache, runtime, progress)?,
    };
    pack(cache, &base, &agent, progress)
}

/// Resolves the runtime's packages anew and builds its root image from the newest ones.
pub fn refresh(
    cache: &Cache,
    runtime: Runtime,
    agent: &Path,
    progress: &mut dyn Progress,
) -> Result<RootImage, RootError> {
    let agent = Agent::open(agent)?;
    let _lock = Lock::take(&cache.roots(), progress)?;
    let base = base::build(cache, runtime, progress)?;
    pack(cache, &base, &agent, progress)
}

/// Puts the agent into a base tree and makes the image, unless there is one. The caller holds the lock.
fn pack(
    cache: &Cache,
    base: &Base,
    agent: &Agent,
    progress: &mut dyn Progress,
) -> Result<RootImage, RootError> {
    if let Some(image) = find(cache, base, agent) {
        return Ok(image);
    }
    let runtime = base.id.runtime;
    progress.stage(&format!("Packing the {runtime} root image"));
    let roots = cache.roots();
    fsutil::remove_leftovers(&roots)?;
    let built = fsutil::temporary_dir(&roots)?;
    let path = built.path().join("root.erofs");
    agent.install(&base.tree)?;
    erofs::pack(&base.tree, &path, erofs::UUID, progress)
        .map_err(|source| RootError::Build { runtime, source })?;

    let manifest = RootManifest {
        key: key(base, agent),
        runtime,
        suite: base.id.suite.clone(),
        packages: base.id.packages.clone(),
        agent_sha256: agent.sha256.clone(),
        sha256: digest::of_file(&path)?,
        bytes: fsutil::file_len(&path).unwrap_or(0),
    };
    fsutil::write_json(&built.path().join(MANIFEST), &manifest)?;
    let place = place(cache, base, agent);
    fsutil::publish(built, &place)?;
    remove_old(&roots, runtime, &place)?;
    open(&place)
        .ok_or_else(|| in_file("read back", &place)(std::io::ErrorKind::InvalidData.into()).into())
}

/// Images of one runtime that are kept: each new agent makes one, and an older build of ours that runs at the same
/// time may still want its own.
const KEPT: usize = 3;

/// Removes a runtime's oldest images, but never `newest`, whatever the clock says.
fn remove_old(roots: &Path, runtime: Runtime, newest: &Path) -> Result<(), FileError> {
    let prefix = format!("{runtime}-");
    let mut images = Vec::new();
    for entry in std::fs::read_dir(roots).map_err(in_file("read", roots))? {
        let entry = entry.map_err(in_file("read", roots))?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let made = entry.metadata().and_then(|metadata| metadata.modified());
            images.push((made.map_err(in_file("look at", &entry.path()))?, entry.path()));
        }
    }
    images.sort();
    let old = images.len().saturating_sub(KEPT);
    let old = images.iter().take(old).filter(|(_, path)| path != newest);
    old.into_iter().try_for_each(|(_, path)| fsutil::remove(path))
}

fn key(base: &Base, agent: &Agent) -> String {
    Key::new("root").field(erofs::FORMAT).field(&base.id.key()).field(&agent.sha256).finish()
}

fn place(cache: &Cache, base: &Base, agent: &Agent) -> PathBuf {
    cache.roots().join(format!("{}-{}", base.id.runtime, key(base, agent)))
}

fn find(cache: &Cache, base: &Base, agent: &Agent) -> Option<RootImage> {
    open(&place(cache, base, agent))
}

/// The root image in a folder; `None` when it is missing or has another length than the manifest says.
pub(crate) fn open(dir: &Path) -> Option<RootImage> {
    let manifest: RootManifest = fsutil::read_json(&dir.join(MANIFEST))?;
    let path = dir.join("root.erofs");
    (fsutil::file_len(&path) == Some(manifest.bytes)).then(|| RootImage {
        path,
        digest: manifest.sha256.clone(),
        runtime: manifest.runtime,
        manifest,
    })
}

#[cfg(test)]
mod tests;
