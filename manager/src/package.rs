//! Uploaded zip files become folders. The files are hostile: a zip says whatever its maker wants.
//!
//! First a *plan* is made from the zip's directory, without touching the disk: a tree of all entries, in which each has
//! one place, below the root, and no parent that is not a folder. Then the plan is written: folders and files, counted
//! while they are inflated, each new (`O_EXCL` follows no symlink); and only when all of them stand, the symlinks. While
//! anything is written, there is no symlink below the folder that it could go astray by.
//!
//! Of modes, the executable bit stays: files are 0644 or 0755; folders are as the umask has them.

mod error;
mod links;
mod name;
mod plan;
mod tree;
mod write;

#[cfg(test)]
mod tests;

use std::io::Cursor;
use std::path::Path;

use zip::ZipArchive;

pub use error::PackageError;

/// How large a package may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files, folders and symlinks.
    pub entries: usize,
    /// Bytes of a path.
    pub path: usize,
}

impl Default for Limits {
    /// AWS Lambda's 250 MiB ("Lambda quotas", deployment package); and what no honest package needs.
    fn default() -> Self {
        Self { bytes: 250 << 20, entries: 100_000, path: 1024 }
    }
}

/// A package that was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Regular files and symlinks.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Unpacks a zip file into `folder`, which is made, or is there and empty, and which nobody else writes to. What an
/// error leaves in it is for the caller to remove. Takes time: up to seconds.
pub fn unpack(zip: &[u8], folder: &Path, limits: &Limits) -> Result<Unpacked, PackageError> {
    let mut archive =
        ZipArchive::new(Cursor::new(zip)).map_err(|error| error::not_a_zip(&error))?;
    let plan = plan::plan(&archive, limits)?;
    write::write(&mut archive, &plan, folder, limits)
}
