//! Copies a function folder, checking each entry on the way.

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

/// Copies `dir` to `to`, which must not exist; the number of regular files.
pub(super) fn copy(
    dir: &Path,
    to: &Path,
    limits: Limits,
    progress: &mut dyn Progress,
) -> Result<u64, CodeError> {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(CodeError::NotAFolder(dir.to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(CodeError::NotFound(dir.to_owned()));
        }
        Err(source) => return Err(unreadable(dir)(source)),
    }
    let mut stage = Stage { dir, limits, bytes: 0, entries: 0, files: 0 };
    let mut folders = vec![PathBuf::new()];
    // Not recursive: how deep a folder goes is the tenant's choice.
    while let Some(folder) = folders.pop() {
        stage.folder(&folder, to, &mut folders)?;
        progress.advance(stage.bytes, limits.bytes);
        if progress.cancelled() {
            return Err(CommandError::Interrupted.into());
        }
    }
    if stage.files == 0 {
        return Err(CodeError::Empty(dir.to_owned()));
    }
    Ok(stage.files)
}

struct Stage<'a> {
    dir: &'a Path,
    limits: Limits,
    bytes: u64,
    entries: u64,
    files: u64,
}

impl Stage<'_> {
    /// Copies one folder's files and symlinks, and queues the folders in it.
    fn folder(
        &mut self,
        folder: &Path,
        to: &Path,
        folders: &mut Vec<PathBuf>,
    ) -> Result<(), CodeError> {
        let from = self.dir.join(folder);
        let target = to.join(folder);
        create_dir(&target)?;
        set_mode(&target, 0o755)?;
        for entry in fs::read_dir(&from).map_err(unreadable(&from))? {
            let entry = entry.map_err(unreadable(&from))?;
            self.entries += 1;
            if self.entries > self.limits.entries {
                let limit = self.limits.entries;
                return Err(CodeError::TooMany { path: self.dir.to_owned(), limit });
            }
            let path = entry.path();
            let kind = entry.file_type().map_err(unreadable(&path))?;
            let name = folder.join(entry.file_name());
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_symlink() {
                // Kept as it is, also when it climbs out of the folder: it is only ever followed in the guest.
                let link = fs::read_link(&path).map_err(unreadable(&path))?;
                let target = to.join(name);
                symlink(link, &target).map_err(in_file("create", &target))?;
            } else if kind.is_file() {
                self.file(&path, &to.join(name))?;
            } else {
                return Err(CodeError::Special { kind: kind_name(kind), path });
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, to: &Path) -> Result<(), CodeError> {
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
        let mut target = File::create_new(to).map_err(in_file("create", to))?;
        // One byte over the limit is enough to know; the file's own length may be a lie by now.
        let copied =
            io::copy(&mut source.take(room + 1), &mut target).map_err(in_file("copy", from))?;
        if copied > room {
            let limit = self.limits.bytes;
            return Err(CodeError::TooLarge { path: self.dir.to_owned(), limit });
        }
        self.bytes += copied;
        self.files += 1;
        let executable = metadata.permissions().mode() & 0o111 != 0;
        set_mode(to, if executable { 0o755 } else { 0o644 })
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), CodeError> {
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
