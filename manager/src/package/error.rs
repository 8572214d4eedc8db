//! Why a zip file cannot become a folder. Messages go to whoever uploaded it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zip::result::ZipError;

/// Why a zip file cannot become a folder. Names of entries are as they would be in Rust source, and shortened.
#[derive(Debug, Error)]
pub enum PackageError {
    /// It is none.
    #[error("the package is not a zip file ({0}): upload one, such as zip -r makes")]
    NotAZip(String),
    /// It has no files.
    #[error("the package is empty: put the function's files into it")]
    Empty,
    /// Its files are too large together.
    #[error(
        "the package holds more than {} MiB when unpacked: leave out what the function does not need",
        .0 >> 20
    )]
    TooLarge(u64),
    /// It has too many entries.
    #[error(
        "the package holds more than {0} files and folders: leave out what the function does not need"
    )]
    TooMany(usize),
    /// A path is too long.
    #[error(
        "the path of {name} is too long: use up to {most} bytes, and up to 255 for each name in it"
    )]
    Long {
        /// The entry.
        name: String,
        /// The limit.
        most: usize,
    },
    /// A path leads out of the folder, or nowhere.
    #[error("{0} is no path below the package's root: use relative paths without '..'")]
    Outside(String),
    /// Two entries have one place.
    #[error("the package has {0} twice: leave one out")]
    Twice(String),
    /// An entry is below something that is no folder.
    #[error("{0} lies below a file or symlink of the package: let it lie in a folder")]
    NoFolder(String),
    /// A symlink leads out of the folder, or in circles.
    #[error(
        "symlink {0} leads out of the package, or in circles: link to something in the package, by a relative path"
    )]
    Link(String),
    /// An entry is encrypted.
    #[error("{0} is encrypted: make the package without a password")]
    Encrypted(String),
    /// An entry is compressed in a way that we do not know.
    #[error("{0} is compressed in an unusual way: use deflate, as zip does by itself")]
    Compression(String),
    /// An entry is a device, a pipe or a socket.
    #[error("{0} is no file, folder or symlink: leave it out")]
    Special(String),
    /// An entry is not what it says it is.
    #[error("{name} is damaged ({reason}): make the package anew and upload it again")]
    Damaged {
        /// The entry.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be written here: nothing that is wrong with the package.
    #[error("cannot write {}", path.display())]
    Write {
        /// What cannot be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PackageError {
    /// Whether the package is at fault, and not this host.
    pub fn is_of_package(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }
}

/// The zip crate's word for an archive that it cannot read.
pub(super) fn not_a_zip(error: &ZipError) -> PackageError {
    PackageError::NotAZip(error.to_string())
}

/// An entry that cannot be read.
pub(super) fn damaged(name: &[u8], reason: impl std::fmt::Display) -> PackageError {
    PackageError::Damaged { name: shown(name), reason: reason.to_string() }
}

/// A name to show: in quotes, without control characters, and not too long.
pub(super) fn shown(name: &[u8]) -> String {
    const MOST: usize = 100;
    let text = String::from_utf8_lossy(name);
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// Something that cannot be written.
pub(super) fn in_path(path: &Path) -> impl FnOnce(io::Error) -> PackageError {
    let path = path.to_owned();
    move |source| PackageError::Write { path, source }
}
