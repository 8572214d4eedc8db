//! What the cache holds.

use crate::cache::Cache;
use crate::fsutil::{FileError, in_file};
use crate::runtime::Runtime;
use crate::{kernel, root};
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// One kernel or root image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Kernel release or runtime name.
    pub name: String,
    /// Its key in the cache.
    pub key: String,
    /// The file a machine uses.
    pub path: PathBuf,
    /// Length of that file in bytes.
    pub bytes: u64,
    /// SHA-256 of that file, in hex.
    pub sha256: String,
}

/// Kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A guest kernel.
    Kernel,
    /// A root image.
    Root,
}

/// Every complete kernel and root image of a cache, by kind and name; an empty list for a cache not yet used.
pub fn ls(cache: &Cache) -> Result<Vec<Entry>, FileError> {
    let mut entries = Vec::new();
    for dir in folders(&cache.kernels())? {
        if let Some(image) = kernel::open(&dir) {
            entries.push(Entry {
                kind: EntryKind::Kernel,
                name: image.manifest.release,
                key: image.manifest.key,
                path: image.vmlinux,
                bytes: image.manifest.vmlinux_bytes,
                sha256: image.manifest.vmlinux_sha256,
            });
        }
    }
    for dir in folders(&cache.roots())? {
        if let Some(image) = root::open(&dir) {
            entries.push(Entry {
                kind: EntryKind::Root,
                name: Runtime::as_str(image.runtime).to_owned(),
                key: image.manifest.key,
                path: image.path,
                bytes: image.manifest.bytes,
                sha256: image.digest,
            });
        }
    }
    entries.sort_by(|a, b| (a.kind, &a.name, &a.key).cmp(&(b.kind, &b.name, &b.key)));
    Ok(entries)
}

/// The folders in a folder; none when it does not exist.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(in_file("read", dir))?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(in_file("read", dir))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_cache_lists_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ls(&Cache::at(dir.path().join("none"))).unwrap(), []);
    }
}
