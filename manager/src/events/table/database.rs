//! The file of a database, which is a tenant's: whatever else it may be, and whoever else may write to it meanwhile.
//!
//! SQLite opens files by path, and whatever a tenant can put in the place of a folder on that path would be a way out of its own.
//! So a database is a file right in the tenant's folder, and nothing on its path but its last name is the tenant's: that one
//! SQLite opens without following a link (`O_NOFOLLOW`). It opens nothing else. It is told that the file does not change
//! (`immutable`, "Uniform Resource Identifiers" of its documentation), and so neither locks it nor looks for a journal, a log or
//! shared memory beside it, which a tenant could have put there as a pipe that nobody writes to, or cut short while they are
//! mapped. That the file does not change is seen to here: it is locked as SQLite's readers lock it ("File Locking And Concurrency
//! In SQLite Version 3"; `os.h` and `os_unix.c` of its source for the bytes), by a handle that was opened beneath the tenant's
//! folder. The lock is one of an open file description: closing others of the file in this process does not end it (fcntl(2)).
//!
//! What is left: a tenant who can put a pipe in a file's place in the instant between this and SQLite's own opening keeps the
//! thread that looks. A tenant has one at most, see `supervise`.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, openat2};
use nix::libc;
use nix::sys::stat::fstatat;

use super::TableError;

/// How long to wait for somebody who writes, and how often to ask.
const PATIENCE: Duration = Duration::from_secs(1);
const ASK: Duration = Duration::from_millis(10);

/// The bytes that locks are on (`os.h`: `PENDING_BYTE` and following).
const PENDING: i64 = 0x4000_0000;
const RESERVED: i64 = PENDING + 1;
const SHARED: (i64, i64) = (PENDING + 2, 510);

/// The beginning of the file ("Database File Format", §1.3).
const HEADER: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Where the header has who may write and who may read: 1 with a rollback journal, 2 with a write-ahead log.
const VERSIONS: std::ops::Range<usize> = 18..20;

/// What changes when the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the next change is sure to show. By the change time, which nobody can set.
    pub(super) fn is_settled(&self, now: SystemTime, after: Duration) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.changed.0).map_or(now, Duration::from_secs);
        now > changed + after
    }
}

/// What was found.
pub(super) enum Opened {
    /// Nothing, or nothing yet: an empty file.
    Absent,
    /// What was known already.
    Unchanged,
    /// Somebody writes.
    Busy,
    /// A database.
    There(Database),
}

/// A database that nobody changes while this is there.
pub(super) struct Database {
    folder: OwnedFd,
    name: String,
    path: PathBuf,
    stamp: Stamp,
    /// Has the lock.
    _file: File,
}

impl Database {
    /// Its path, on which nothing but the last name is the tenant's.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether it still has its name. What SQLite opened by that name in between was this file, if the name has not been given
    /// away and back.
    pub(super) fn is_still_there(&self) -> bool {
        fstatat(&self.folder, self.name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|now| (now.st_dev, now.st_ino) == self.stamp.file)
    }
}

/// Opens and locks a tenant's database, unless it is as it was `known` to be.
pub(super) fn open(
    files: &Path,
    tenant: &str,
    name: &str,
    known: Option<Stamp>,
) -> Result<Opened, TableError> {
    // Not the tenant's: a link on the way to it is the operator's.
    let files = match files.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Absent),
        other => other?,
    };
    let folder = beneath(&File::open(&files)?, tenant, OFlag::O_PATH | OFlag::O_DIRECTORY);
    let folder = match folder {
        Err(Errno::ENOENT) => return Ok(Opened::Absent),
        other => other.map_err(io::Error::from)?,
    };
    let Some(file) = regular(&folder, name)? else { return Ok(Opened::Absent) };
    if known.is_some() && known == Some(Stamp::of(&file.metadata()?)) {
        return Ok(Opened::Unchanged);
    }
    if !share(&file)? {
        return Ok(Opened::Busy);
    }
    let metadata = file.metadata()?;
    if metadata.len() == 0 {
        return Ok(Opened::Absent);
    }
    check_header(&file)?;
    check_journal(&file, regular(&folder, &format!("{name}-journal"))?)?;
    let (path, stamp) = (files.join(tenant).join(name), Stamp::of(&metadata));
    let name = name.to_owned();
    Ok(Opened::There(Database { folder, name, path, stamp, _file: file }))
}

fn beneath(folder: impl AsFd, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(folder, name, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

/// Opens a file of the folder; none where there is none.
fn regular(folder: &OwnedFd, name: &str) -> Result<Option<File>, TableError> {
    // Opening a pipe must not wait for its writer, nor make a terminal ours.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    match beneath(folder, name, flags).map(File::from) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) | Err(Errno::ELOOP | Errno::EXDEV | Errno::ENXIO) => Err(TableError::NotAFile),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// Takes the lock of a reader; whether it could be had. One that wants to write goes first (`PENDING`).
fn share(file: &File) -> io::Result<bool> {
    let since = Instant::now();
    loop {
        if lock(file, libc::F_RDLCK, (PENDING, 1))? {
            let shared = lock(file, libc::F_RDLCK, SHARED)?;
            lock(file, libc::F_UNLCK, (PENDING, 1))?;
            if shared {
                return Ok(true);
            }
        }
        if since.elapsed() >= PATIENCE {
            return Ok(false);
        }
        sleep(ASK);
    }
}

fn lock(file: &File, kind: i32, bytes: (i64, i64)) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range(kind, bytes)?)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn range(kind: i32, (start, length): (i64, i64)) -> io::Result<libc::flock> {
    let number = |number: i32| i16::try_from(number).map_err(io::Error::other);
    let (l_type, l_whence) = (number(kind)?, number(libc::SEEK_SET)?);
    Ok(libc::flock { l_type, l_whence, l_start: start, l_len: length, l_pid: 0 })
}

fn check_header(file: &File) -> Result<(), TableError> {
    let mut header = [0; HEADER];
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(TableError::Foreign);
        }
        other => other?,
    }
    match &header[VERSIONS] {
        _ if !header.starts_with(MAGIC) => Err(TableError::Foreign),
        [1, 1] => Ok(()),
        [2, _] | [_, 2] => Err(TableError::WriteAhead),
        _ => Err(TableError::Foreign),
    }
}

/// Refuses a database that is not whole without its journal: one that is there, has a beginning, and nobody is at work with.
fn check_journal(file: &File, journal: Option<File>) -> Result<(), TableError> {
    let Some(journal) = journal else { return Ok(()) };
    let mut first = [0];
    // One whose beginning is zero is kept for the next change.
    if journal.read_at(&mut first, 0)? == 0 || first == [0] {
        return Ok(());
    }
    let mut writer = range(libc::F_WRLCK, (RESERVED, 1))?;
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut writer)).map_err(io::Error::from)?;
    // Whoever has it has changed nothing yet: that takes all readers' locks.
    if i32::from(writer.l_type) == libc::F_UNLCK { Err(TableError::Unfinished) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_once_a_file_was_left_alone() {
        let stamp = Stamp { file: (1, 2), size: 3, modified: (0, 0), changed: (100, 999_999_999) };
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let settled = |seconds| stamp.is_settled(at(seconds), Duration::from_secs(2));
        assert_eq!([99, 102, 103].map(settled), [false, false, true]);
    }
}
