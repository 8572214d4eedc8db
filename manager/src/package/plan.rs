//! The plan: what a zip file's directory says, as a tree.

use std::borrow::Cow;
use std::io::{Read, Seek};

use zip::read::ZipFileEntry;
use zip::{CompressionMethod, ZipArchive};

use super::error::{PackageError, not_a_zip, shown};
use super::tree::{Kind, Misplaced, Tree};
use super::{Limits, name};

/// File types in a Unix mode (`S_IFMT` and its values, inode(7)).
const TYPE: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Any of the three executable bits.
const EXECUTABLE: u32 = 0o111;

/// Finds a place for each entry.
pub(super) fn plan<R: Read + Seek>(
    archive: &ZipArchive<R>,
    limits: &Limits,
) -> Result<Tree, PackageError> {
    if archive.len() > limits.entries {
        return Err(PackageError::TooMany(limits.entries));
    }
    // The crate keeps one of the two, and not which. Others may see the other one.
    if archive.has_duplicate_names() {
        return Err(PackageError::Twice("a name".to_owned()));
    }
    let mut tree = Tree::new();
    let mut files = false;
    for entry in 0..archive.len() {
        let data = archive.by_index_data(entry).map_err(|error| not_a_zip(&error))?;
        let raw = name_of(&data);
        let parts = match name::parts(&raw, limits.path) {
            // "./", which some tools write first.
            Err(_) if matches!(&*raw, b"./" | b".") => continue,
            parts => parts?,
        };
        let kind = kind(&data, &raw, entry)?;
        files |= kind != Kind::Folder;
        tree.add(&parts, kind, limits.entries).map_err(|error| match error {
            Misplaced::Full => PackageError::TooMany(limits.entries),
            Misplaced::Twice => PackageError::Twice(shown(&raw)),
            Misplaced::NoFolder => PackageError::NoFolder(shown(&raw)),
        })?;
    }
    if files { Ok(tree) } else { Err(PackageError::Empty) }
}

/// An entry's name. Those that are UTF-8 are taken for it, whether they say so or not, as `unzip` does; others are of
/// code page 437.
fn name_of<'a>(data: &'a ZipFileEntry<'_>) -> Cow<'a, [u8]> {
    let raw = data.name_raw();
    if std::str::from_utf8(raw).is_ok() {
        return Cow::Borrowed(raw);
    }
    match data.name() {
        Ok(name) => Cow::Owned(name.into_owned().into_bytes()),
        Err(_) => Cow::Borrowed(raw),
    }
}

/// What an entry is. Its name has the last word on folders, as everywhere.
fn kind(data: &ZipFileEntry<'_>, name: &[u8], entry: usize) -> Result<Kind, PackageError> {
    if data.encrypted() {
        return Err(PackageError::Encrypted(shown(name)));
    }
    let mode = data.unix_mode().unwrap_or(0);
    let folder = name.ends_with(b"/");
    match mode & TYPE {
        FOLDER | FILE | 0 if folder => Ok(Kind::Folder),
        // Without a slash, its content would be lost.
        FOLDER if data.size() == 0 => Ok(Kind::Folder),
        FILE | 0 | LINK if !folder => {
            if !matches!(
                data.compression(),
                CompressionMethod::Stored | CompressionMethod::Deflated
            ) {
                return Err(PackageError::Compression(shown(name)));
            }
            if mode & TYPE == LINK {
                return Ok(Kind::Link { entry });
            }
            Ok(Kind::File { entry, executable: mode & EXECUTABLE != 0 })
        }
        _ => Err(PackageError::Special(shown(name))),
    }
}
