//! Code images: a function's folder as a read-only disk, mounted at /var/task in the guest.
//!
//! The folder is first copied, entry by entry, into a staging tree: what is checked is then what is packed, even if
//! the folder changes meanwhile. The copy keeps names, contents, symlinks and the executable bit, and nothing else;
//! so two checkouts of one commit give the same image, whoever made them and whatever their umask.

mod stage;

pub use stage::Limits;

use crate::command::CommandError;
use crate::fsutil::{FileError, in_file};
use crate::progress::{Progress, Silent};
use crate::{digest, erofs};
use std::io;
use std::path::{Path, PathBuf};

/// A packed function folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeImage {
    /// The image.
    pub path: PathBuf,
    /// SHA-256 of the image, in hex: the same for the same contents.
    pub digest: String,
    /// Length of the image in bytes.
    pub bytes: u64,
    /// Regular files in it.
    pub files: u64,
}

/// Why a folder cannot become a code image.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// There is no such folder.
    #[error("code folder {} does not exist: check the path", .0.display())]
    NotFound(PathBuf),
    /// It is a file.
    #[error("code folder {} is a file: name the folder it is in", .0.display())]
    NotAFolder(PathBuf),
    /// It holds no file.
    #[error("code folder {} is empty: put the function's files into it", .0.display())]
    Empty(PathBuf),
    /// Something in it, or the folder itself, cannot be read.
    #[error("cannot read {} of the code folder: check its permissions", path.display())]
    Unreadable {
        /// What cannot be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is no file, folder or symlink.
    #[error("{} is a {kind}: a code folder holds only files, folders and symlinks", path.display())]
    Special {
        /// The offender.
        path: PathBuf,
        /// `socket`, `named pipe`, `block device` or `character device`.
        kind: &'static str,
    },
    /// The image would be part of itself.
    #[error("image {} lies inside the code folder: choose another place", .0.display())]
    Inside(PathBuf),
    /// Its files are too large together.
    #[error(
        "code folder {} holds more than {} MiB: leave out what the function does not need",
        path.display(), limit >> 20
    )]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// It has too many entries.
    #[error("code folder {} holds more than {limit} files: leave out what the function does not need", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The image or the staging copy cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// mkfs.erofs is missing or failed.
    #[error("cannot pack the code folder")]
    Pack(#[from] CommandError),
}

/// Packs the function folder `dir` into the image `out`, within the [limits](Limits) of AWS Lambda. `out` appears
/// whole or not at all.
pub fn build(dir: &Path, out: &Path) -> Result<CodeImage, CodeError> {
    build_with(dir, out, Limits::default(), &mut Silent)
}

/// [`build`] with other limits, telling its progress.
pub fn build_with(
    dir: &Path,
    out: &Path,
    limits: Limits,
    progress: &mut dyn Progress,
) -> Result<CodeImage, CodeError> {
    progress.stage("Packing the function's code");
    let parent = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // What cannot be resolved is reported by the steps below.
    if let (Ok(parent), Ok(dir)) = (parent.canonicalize(), dir.canonicalize())
        && parent.starts_with(dir)
    {
        return Err(CodeError::Inside(out.to_owned()));
    }
    let work = crate::fsutil::temporary_dir(parent)?;
    let tree = work.path().join("tree");
    let files = stage::copy(dir, &tree, limits, progress)?;
    let image = work.path().join("code.erofs");
    erofs::pack(&tree, &image, progress)?;
    let bytes = image.metadata().map_err(in_file("read", &image))?.len();
    let digest = digest::of_file(&image)?;
    std::fs::rename(&image, out).map_err(in_file("create", out))?;
    Ok(CodeImage { path: out.to_owned(), digest, bytes, files })
}

#[cfg(test)]
mod tests;
