//! The guest kernel: built once per machine from Debian's kernel source and our config fragment.
//!
//! ```text
//! source.json ──► key ──► kernel/<key>/ present? ──yes──► done, in microseconds
//!                                  │ no: lock, look again
//!                                  ▼
//!      source (installed, else downloaded) ► unpack ► configure, check ► make ► strip ► rename
//! ```
//!
//! The key hashes the source's version and SHA-256, the fragment and the recipe; the compiler is not part of it.

mod build;
mod config;
mod source;

pub use config::FRAGMENT;

use crate::apt::AptError;
use crate::cache::{Cache, CacheError, Lock};
use crate::command::CommandError;
use crate::digest::{self, Key};
use crate::fsutil::{self, FileError};
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use source::{Source, SourceId};
use std::path::{Path, PathBuf};

/// Name of the file that says which source was chosen last.
const SOURCE: &str = "source.json";

/// Name of the file that completes a kernel's folder.
const MANIFEST: &str = "manifest.json";

/// A built kernel.
#[derive(Debug, Clone)]
pub struct KernelImage {
    /// The ELF with its PVH entry, stripped: what machines boot.
    pub vmlinux: PathBuf,
    /// The same kernel for the Linux boot protocol.
    pub bzimage: PathBuf,
    /// Symbols, for reading an oops.
    pub system_map: PathBuf,
    /// The complete configuration it was built with.
    pub config: PathBuf,
    /// What it is and where it came from.
    pub manifest: KernelManifest,
}

/// What is known about a built kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelManifest {
    /// Its key in the cache.
    pub key: String,
    /// Kernel release, as `uname -r` says.
    pub release: String,
    /// Version of Debian's source package.
    pub source_version: String,
    /// SHA-256 of that source, in hex.
    pub source_sha256: String,
    /// SHA-256 of `vmlinux`, in hex.
    pub vmlinux_sha256: String,
    /// Length of `vmlinux` in bytes.
    pub vmlinux_bytes: u64,
    /// SHA-256 of `bzImage`, in hex.
    pub bzimage_sha256: String,
    /// Length of `bzImage` in bytes.
    pub bzimage_bytes: u64,
    /// How long unpacking and compiling took, in seconds.
    pub build_seconds: u64,
}

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file of the build cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program of the build is missing or failed.
    #[error("cannot build the guest kernel")]
    Build(#[from] CommandError),
    /// The source package cannot be had.
    #[error("cannot get the kernel source")]
    Source(#[from] AptError),
    /// The package holds something else than expected.
    #[error("package {package} {version} has no {file}")]
    NoTarball {
        /// The source package.
        package: &'static str,
        /// Its version.
        version: String,
        /// The file that should be in it.
        file: &'static str,
    },
    /// The headers of libelf, which objtool needs, are not installed.
    #[error("libelf.h is missing: run `apt-get install libelf-dev`")]
    NoLibelf,
    /// This kernel source does not accept the fragment.
    #[error("the kernel's configuration refuses {}", .0.join(", "))]
    Refused(Vec<String>),
}

/// The kernel of this machine's cache; builds it when there is none.
pub fn ensure(cache: &Cache, progress: &mut dyn Progress) -> Result<KernelImage, KernelError> {
    if let Some(image) = remembered(cache).and_then(|id| find(cache, &id)) {
        return Ok(image);
    }
    let lock = Lock::take(&cache.kernels(), progress)?;
    // Whoever held the lock may have built it meanwhile.
    if let Some(image) = remembered(cache).and_then(|id| find(cache, &id)) {
        return Ok(image);
    }
    build(cache, &lock, progress)
}

/// Looks for a newer kernel source and builds that, unless it is built already.
pub fn refresh(cache: &Cache, progress: &mut dyn Progress) -> Result<KernelImage, KernelError> {
    let lock = Lock::take(&cache.kernels(), progress)?;
    let newest = source::newest_version(cache, progress)?;
    if let Some(image) =
        remembered(cache).filter(|id| id.version == newest).and_then(|id| find(cache, &id))
    {
        return Ok(image);
    }
    build(cache, &lock, progress)
}

fn build(
    cache: &Cache,
    _lock: &Lock,
    progress: &mut dyn Progress,
) -> Result<KernelImage, KernelError> {
    let kernels = cache.kernels();
    fsutil::remove_leftovers(&kernels)?;
    build::require_tools()?;
    let work = fsutil::temporary_dir(&kernels)?;
    let source = Source::get(cache, work.path(), progress)?;
    let image = match find(cache, &source.id) {
        Some(image) => image,
        None => {
            let key = key(&source.id);
            let built = fsutil::temporary_dir(&kernels)?;
            build::build(&source, &key, work.path(), built.path(), progress)?;
            fsutil::publish(built, &kernels.join(&key))?;
            find(cache, &source.id).ok_or_else(|| {
                let path = kernels.join(&key);
                fsutil::in_file("read back", &path)(std::io::ErrorKind::InvalidData.into())
            })?
        }
    };
    fsutil::write_json(&kernels.join(SOURCE), &source.id)?;
    Ok(image)
}

/// The source chosen last on this machine.
fn remembered(cache: &Cache) -> Option<SourceId> {
    fsutil::read_json(&cache.kernels().join(SOURCE))
}

fn key(source: &SourceId) -> String {
    Key::new("kernel")
        .field(build::RECIPE)
        .field(FRAGMENT)
        .field(&source.version)
        .field(&source.sha256)
        .finish()
}

/// The kernel of a source, if it is built.
fn find(cache: &Cache, source: &SourceId) -> Option<KernelImage> {
    open(&cache.kernels().join(key(source)))
}

/// The kernel in a folder; `None` when a file is missing or has another length than the manifest says.
pub(crate) fn open(dir: &Path) -> Option<KernelImage> {
    let manifest: KernelManifest = fsutil::read_json(&dir.join(MANIFEST))?;
    let image = KernelImage {
        vmlinux: dir.join("vmlinux"),
        bzimage: dir.join("bzImage"),
        system_map: dir.join("System.map"),
        config: dir.join("config"),
        manifest,
    };
    let whole = fsutil::file_len(&image.vmlinux) == Some(image.manifest.vmlinux_bytes)
        && fsutil::file_len(&image.bzimage) == Some(image.manifest.bzimage_bytes)
        && fsutil::file_len(&image.config).is_some();
    whole.then_some(image)
}

/// Length and SHA-256 of a built file.
fn measure(path: &Path) -> Result<(u64, String), FileError> {
    Ok((fsutil::file_len(path).unwrap_or(0), digest::of_file(path)?))
}

#[cfg(test)]
mod tests;
