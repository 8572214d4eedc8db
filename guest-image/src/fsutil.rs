//! File errors that name the file, and files and folders that appear whole or not at all.

use serde::{Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// An operation on a file that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// The file or folder that the operation was on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the operating system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// For `map_err`: puts the action and the file's name to an I/O error.
pub(crate) fn in_file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }
}

/// Bound on the JSON files this crate reads back; the largest, a list of packages, is near 10 KiB.
const MAX_JSON: u64 = 1 << 20;

/// Creates a folder and its parents.
pub(crate) fn create_dir(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(in_file("create", path))
}

/// Writes `bytes` under a temporary name, syncs, and renames.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(dir)
        .map_err(in_file("create a file in", dir))?;
    file.write_all(bytes).map_err(in_file("write", path))?;
    file.as_file().sync_all().map_err(in_file("write", path))?;
    file.persist(path).map_err(|e| e.error).map_err(in_file("write", path))?;
    Ok(())
}

/// Writes a value as JSON, atomically.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(io::Error::from)
        .map_err(in_file("write", path))?;
    text.push(b'\n');
    write_atomically(path, &text)
}

/// Reads a JSON file back; `None` when it is missing, too long or does not parse. These files are a cache: whatever
/// is wrong with one, the remedy is to make it again.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_JSON + 1).read_to_end(&mut text).ok()?;
    if text.len() as u64 > MAX_JSON {
        return None;
    }
    serde_json::from_slice(&text).ok()
}

/// The length of a regular file; `None` when there is none.
pub(crate) fn file_len(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| m.len())
}

/// Name prefix of everything that is being built.
const TEMPORARY: &str = ".tmp-";

/// A folder for work in progress inside `parent`; it goes away with the value, unless it is published.
pub(crate) fn temporary_dir(parent: &Path) -> Result<tempfile::TempDir, FileError> {
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempdir_in(parent)
        .map_err(in_file("create a folder in", parent))
}

/// Removes what builds that were killed left in `parent`. The caller holds the lock under which all of them work.
pub(crate) fn remove_leftovers(parent: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(parent).map_err(in_file("read", parent))? {
        let entry = entry.map_err(in_file("read", parent))?;
        if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file, symlink or whole folder; missing is fine.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(in_file("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes a finished folder appear at `place`: its files are synced first, so that after a crash a folder that is
/// there is whole.
pub(crate) fn publish(built: tempfile::TempDir, place: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(built.path()).map_err(in_file("read", built.path()))? {
        let path = entry.map_err(in_file("read", built.path()))?.path();
        File::open(&path).and_then(|f| f.sync_all()).map_err(in_file("sync", &path))?;
    }
    // A damaged entry (one whose manifest could not be read back) may be in the way.
    remove(place)?;
    fs::rename(built.path(), place).map_err(in_file("create", place))?;
    // The folder has moved away: nothing is left to remove.
    let _ = built.keep();
    let parent = place.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|f| f.sync_all()).map_err(in_file("sync", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_folder_replaces_a_damaged_one_and_leaves_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("entry");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("damaged"), "x").unwrap();

        let built = temporary_dir(parent.path()).unwrap();
        fs::write(built.path().join("new"), "y").unwrap();
        publish(built, &place).unwrap();

        let names: Vec<_> =
            fs::read_dir(parent.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["entry"]);
        assert!(place.join("new").exists() && !place.join("damaged").exists());
    }

    #[test]
    fn leftovers_are_removed_and_entries_kept() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir_all(parent.path().join(".tmp-dead/deep")).unwrap();
        fs::write(parent.path().join(".tmp-file"), "").unwrap();
        fs::create_dir(parent.path().join("entry")).unwrap();
        remove_leftovers(parent.path()).unwrap();
        let names: Vec<_> =
            fs::read_dir(parent.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["entry"]);
    }

    #[test]
    fn json_that_is_missing_or_broken_reads_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert_eq!(read_json::<Vec<u8>>(&path), None);
        write_json(&path, &vec![1u8, 2]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path), Some(vec![1, 2]));
        fs::write(&path, "[1, ").unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path), None);
    }
}
