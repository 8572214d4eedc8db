//! Zip files as tools make them, and as nobody would.

mod bombs;
mod hostile;
mod links;
mod noise;
mod ordinary;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Limits, PackageError, Unpacked, unpack};

/// A zip file of names, modes with file types, and contents, as they are.
fn zip(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(*mode & 0o777);
        match mode & 0o170_000 {
            0o120_000 => {
                zip.add_symlink(*name, std::str::from_utf8(content).unwrap(), options).unwrap();
            }
            0o040_000 => zip.add_directory(*name, options).unwrap(),
            _ => {
                zip.start_file(*name, options).unwrap();
                zip.write_all(content).unwrap();
            }
        }
    }
    zip.finish().unwrap().into_inner()
}

/// A file.
const FILE: u32 = 0o100_644;
/// A symlink.
const LINK: u32 = 0o120_777;
/// A folder.
const FOLDER: u32 = 0o040_755;

/// Unpacks into a folder that is among others, and makes sure that nothing happened to those.
fn unpacked_within(
    zip: &[u8],
    limits: &Limits,
) -> (Result<Unpacked, PackageError>, BTreeMap<PathBuf, String>) {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("victim"), "unharmed").unwrap();
    let folder = outer.path().join("folder");
    let result = unpack(zip, &folder, limits);
    let mut names: Vec<_> =
        fs::read_dir(outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.retain(|name| name != "folder");
    assert_eq!(names, ["victim"]);
    assert_eq!(fs::read(outer.path().join("victim")).unwrap(), b"unharmed");
    let mut found = BTreeMap::new();
    if folder.exists() {
        list(&folder, &folder, &mut found);
    }
    (result, found)
}

/// What is in a folder: kind, mode, content.
fn list(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let what = if meta.is_symlink() {
            if let Ok(real) = path.canonicalize() {
                assert!(
                    real.starts_with(root.canonicalize().unwrap()),
                    "{path:?} leads to {real:?}"
                );
            }
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_dir() {
            list(root, &path, found);
            "folder".to_owned()
        } else {
            let content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            format!("{:o} {content}", meta.permissions().mode())
        };
        found.insert(path.strip_prefix(root).unwrap().to_owned(), what);
    }
}

fn unpacked(zip: &[u8]) -> Vec<(String, String)> {
    let (result, found) = unpacked_within(zip, &Limits::default());
    result.unwrap();
    found.into_iter().map(|(path, what)| (path.display().to_string(), what)).collect()
}

fn refused(zip: &[u8]) -> PackageError {
    let error = unpacked_within(zip, &Limits::default()).0.unwrap_err();
    assert!(error.is_of_package(), "{error}");
    error
}

/// Changes what is at each place where `from` is: names and numbers in headers.
fn patched(mut zip: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<_> =
        (0..=zip.len() - from.len()).filter(|at| zip[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        zip[at..at + to.len()].copy_from_slice(to);
    }
    zip
}

/// Changes a field of the only entry's record in the directory, by its offset there (APPNOTE 4.3.12).
fn directory_patched(mut zip: Vec<u8>, offset: usize, to: &[u8]) -> Vec<u8> {
    let at = zip.windows(4).position(|four| four == b"PK\x01\x02").unwrap() + offset;
    zip[at..at + to.len()].copy_from_slice(to);
    zip
}
