//! Copies a function folder, checking each entry on the way; layers are copied over each other.

use super::CodeError;
use crate::command::CommandError;
use crate::fsutil::{create_dir, in_file};
use crate::progress::Progress;
use std::fs::{self, File, FileType, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Bounds on a function folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all regular files together.
    pub bytes: u64,
    /// Files, folders and symlinks together.
    pub entries: u64,
}

impl Default for Limits {
    /// 250 MiB, AWS Lambda's quota for an unzipped deployment package; the number of entries is our own bound.
    fn default() -> Self {
        Self { bytes: 250 << 20, entries: 200_000 }
    }
}

/// Copies folders, within limits for all of them together.
pub(super) struct Stage<'a> {
    limits: Limits,
    progress: &'a mut dyn Progress,
    bytes: u64,
    entries: u64,
    files: u64,
    links: u64,
}

/// A folder that is being copied.
#[derive(Clone, Copy)]
struct Way<'a> {
    from: &'a Path,
    to: &'a Path,
}

impl<'a> Stage<'a> {
    /// Nothing is copied yet.
    pub(super) fn new(limits: Limits, progress: &'a mut dyn Progress) -> Self {
        Self { limits, progress, bytes: 0, entries: 0, files: 0, links: 0 }
    }

    /// Copies `from` to `to`, over what an earlier copy has left there; the number of regular files. Folders are merged.
    /// Of anything else, what comes later takes the place of what is there.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> Result<u64, CodeError> {
        match fs::metadata(from) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(CodeError::NotAFolder(from.to_owned())),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(CodeError::NotFound(from.to_owned()));
            }
            Err(source) => return Err(unreadable(from)(source)),
        }
        let (before, links) = (self.files, self.links);
        let mut folders = vec![PathBuf::new()];
        // Not recursive: how deep a folder goes is the tenant's choice.
        while let Some(folder) = folders.pop() {
            self.folder(Way { from, to }, &folder, &mut folders)?;
            self.progress.advance(self.bytes, self.limits.bytes);
            if self.progress.cancelled() {
                return Err(CommandError::Interrupted.into());
            }
        }
        // Symlinks alone are something, too: a layer may give other names to what another one has.
        if self.files == before && self.links == links {
            return Err(CodeError::Empty(from.to_owned()));
        }
        Ok(self.files - before)
    }

    /// Copies one folder's files and symlinks, and queues the folders in it.
    fn folder(
        &mut self,
        way: Way<'_>,
        folder: &Path,
        folders: &mut Vec<PathBuf>,
    ) -> Result<(), CodeError> {
        let from = way.from.join(folder);
        let target = way.to.join(folder);
        make_folder(&target)?;
        for entry in fs::read_dir(&from).map_err(unreadable(&from))? {
            let entry = entry.map_err(unreadable(&from))?;
            self.entries += 1;
            if self.entries > self.limits.entries {
                let limit = self.limits.entries;
                return Err(CodeError::TooMany { path: way.from.to_owned(), limit });
            }
            let path = entry.path();
            let kind = entry.file_type().map_err(unreadable(&path))?;
            let name = folder.join(entry.file_name());
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_symlink() {
                // Kept as it is, also when it climbs out of the folder: it is only ever followed in the guest.
                let link = fs::read_link(&path).map_err(unreadable(&path))?;
                let target = way.to.join(name);
                make_way(&target)?;
                symlink(link, &target).map_err(in_file("create", &target))?;
                self.links += 1;
            } else if kind.is_file() {
                self.file(way, &path, &way.to.join(name))?;
            } else {
                return Err(CodeError::Special { kind: kind_name(kind), path });
            }
        }
        Ok(())
    }

    fn file(&mut self, way: Way<'_>, from: &Path, to: &Path) -> Result<(), CodeError> {
        // The entry may have been replaced since it was listed: never follow a symlink, never wait for a pipe.
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        let source = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(from)
            .map_err(unreadable(from))?;
        let metadata = source.metadata().map_err(unreadable(from))?;
        if !metadata.is_file() {
            return Err(CodeError::Special {
                kind: kind_name(metadata.file_type()),
                path: from.to_owned(),
            });
        }
        let room = self.limits.bytes - self.bytes;
        make_way(to)?;
        let mut target = File::create_new(to).map_err(in_file("create", to))?;
        // One byte over the limit is enough to know; the file's own length may be a lie by now.
        let copied =
            io::copy(&mut source.take(room + 1), &mut target).map_err(in_file("copy", from))?;
        if copied > room {
            let limit = self.limits.bytes;
            return Err(CodeError::TooLarge { path: way.from.to_owned(), limit });
        }
        self.bytes += copied;
        self.files += 1;
        let executable = metadata.permissions().mode() & 0o111 != 0;
        set_mode(to, if executable { 0o755 } else { 0o644 })
    }
}

/// Makes a folder where there is none. It comes before what is in it, and is never a symlink then: nothing is written by
/// way of a lower layer's symlink.
fn make_folder(path: &Path) -> Result<(), CodeError> {
    if kind_of(path)?.is_some_and(|kind| kind.is_dir()) {
        return Ok(());
    }
    make_way(path)?;
    create_dir(path)?;
    set_mode(path, 0o755)
}

/// Removes what an earlier layer has at a place.
fn make_way(path: &Path) -> Result<(), CodeError> {
    let removed = match kind_of(path)? {
        None => return Ok(()),
        Some(kind) if kind.is_dir() => fs::remove_dir_all(path),
        Some(_) => fs::remove_file(path),
    };
    Ok(removed.map_err(in_file("replace", path))?)
}

/// What is at a place of the copy, symlinks not followed.
fn kind_of(path: &Path) -> Result<Option<FileType>, CodeError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(in_file("read", path)(e).into()),
    }
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), CodeError> {
    let set = fs::set_permissions(path, Permissions::from_mode(mode));
    Ok(set.map_err(in_file("set the mode of", path))?)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> CodeError {
    let path = path.to_owned();
    move |source| CodeError::Unreadable { path, source }
}

fn kind_name(kind: FileType) -> &'static str {
    if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "named pipe"
    } else if kind.is_block_device() {
        "block device"
    } else if kind.is_char_device() {
        "character device"
    } else {
        "special file"
    }
}
