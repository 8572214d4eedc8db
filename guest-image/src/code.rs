//! Code images: a function's folder as a read-only disk, mounted at /var/task in the guest.
//!
//! The folder is first copied, entry by entry, into a staging tree: what is checked is then what is packed, even if
//! the folder changes meanwhile. The copy keeps names, contents, symlinks and the executable bit, and nothing else;
//! so two checkouts of one commit give the same image, whoever made them and whatever their umask.
//!
//! Layers go into the same image, merged: it then has a folder for /var/task and one for /opt, and says so (see
//! [`calve_proto::image`]). One disk, as without layers: so any machine takes either, and functions with layers are built
//! on the same runtimes as others.

mod stage;

pub use stage::Limits;

use crate::command::CommandError;
use crate::fsutil::{FileError, create_dir, in_file};
use crate::progress::{Progress, Silent};
use crate::{digest, erofs};
use calve_proto::image::{LAYERED, OPT, TASK};
use stage::{Stage, set_mode};
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
    /// Regular files that went into it: also those of layers in whose place later layers have others.
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
    /// It holds no file and no symlink.
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
    /// It is too large together with its layers.
    #[error(
        "the function and its layers hold more than {} MiB together, with {}: leave out what the function does not need",
        limit >> 20, path.display()
    )]
    TooLargeTogether {
        /// The folder with which it became too much.
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
    /// It has too many entries together with its layers.
    #[error(
        "the function and its layers hold more than {limit} files together, with {}: leave out what the function does not \
         need",
        path.display()
    )]
    TooManyTogether {
        /// The folder with which it became too much.
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
    build_layered(dir, &[], out, limits, progress)
}

/// [`build_with`] of a function with layers, lowest first: where two have the same path, the later one's is taken. The
/// limits are for all of them together.
pub fn build_layered(
    dir: &Path,
    layers: &[PathBuf],
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
    for dir in layers.iter().map(PathBuf::as_path).chain([dir]) {
        if let (Ok(parent), Ok(dir)) = (parent.canonicalize(), dir.canonicalize())
            && parent.starts_with(dir)
        {
            return Err(CodeError::Inside(out.to_owned()));
        }
    }
    let work = crate::fsutil::temporary_dir(parent)?;
    let tree = work.path().join("tree");
    let (files, uuid) = stage(dir, layers, &tree, limits, progress)?;
    let image = work.path().join("code.erofs");
    erofs::pack(&tree, &image, uuid, progress)?;
    let bytes = image.metadata().map_err(in_file("read", &image))?.len();
    let digest = digest::of_file(&image)?;
    std::fs::rename(&image, out).map_err(in_file("create", out))?;
    Ok(CodeImage { path: out.to_owned(), digest, bytes, files })
}

/// Puts together what is packed: the number of files, and what kind of image it is.
fn stage(
    dir: &Path,
    layers: &[PathBuf],
    tree: &Path,
    limits: Limits,
    progress: &mut dyn Progress,
) -> Result<(u64, [u8; 16]), CodeError> {
    let mut stage = Stage::new(limits, progress);
    if layers.is_empty() {
        return Ok((stage.copy(dir, tree)?, erofs::UUID));
    }
    create_dir(tree)?;
    set_mode(tree, 0o755)?;
    let mut files = stage.copy(dir, &tree.join(TASK))?;
    for layer in layers {
        files += stage.copy(layer, &tree.join(OPT)).map_err(together)?;
    }
    Ok((files, LAYERED))
}

/// One folder too much is not too large by itself.
fn together(error: CodeError) -> CodeError {
    match error {
        CodeError::TooLarge { path, limit } => CodeError::TooLargeTogether { path, limit },
        CodeError::TooMany { path, limit } => CodeError::TooManyTogether { path, limit },
        other => other,
    }
}

#[cfg(test)]
mod tests;
