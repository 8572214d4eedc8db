//! A folder that files are dropped in. Whoever drops them is not trusted: nothing here follows a symbolic link, reads
//! anything but a regular file, or leaves the folder.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, renameat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use sha2::{Digest, Sha256};

use super::settings::MOST_INLINE;

/// Where files go that a message has been made of.
const DONE: &str = ".done";

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

/// What tells one version of a file from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Device and inode: which file.
    pub(super) file: (u64, u64),
    /// Bytes.
    pub(super) size: u64,
    /// When its content last changed: seconds and nanoseconds.
    pub(super) modified: (i64, i64),
    /// When anything of it last changed, which nobody can set: seconds.
    pub(super) touched: i64,
}

impl Stamp {
    /// Of a regular file.
    fn of(stat: &FileStat) -> Option<Self> {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        (kind == SFlag::S_IFREG).then(|| Self {
            file: (stat.st_dev, stat.st_ino),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            touched: stat.st_ctime,
        })
    }

    /// Whether it is the same version: moving a file touches it.
    fn is(&self, other: &Self) -> bool {
        (self.file, self.size, self.modified) == (other.file, other.size, other.modified)
    }
}

/// What was read of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// SHA-256, hex.
    pub(super) sha256: String,
    /// All of it, if it was asked for and is small.
    pub(super) bytes: Option<Vec<u8>>,
}

/// What became of a file that was to be moved away.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It is where it belongs, or gone.
    Away,
    /// Another version has taken its place, and is still there.
    Replaced,
}

/// An open folder.
pub(super) struct Inbox {
    folder: OwnedFd,
}

impl Inbox {
    /// Opens the folder of a tenant, and makes it where there is none.
    pub(super) fn open(files: &Path, tenant: &str, folder: &str) -> io::Result<Self> {
        std::fs::create_dir_all(files)?;
        let files = OwnedFd::from(File::open(files)?);
        let path = Path::new(tenant).join(folder);
        let mut made = PathBuf::new();
        for part in path.iter() {
            made.push(part);
            match mkdirat(
                &Self::beneath(&files, made.parent())?,
                part,
                Mode::from_bits_truncate(0o755),
            ) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { folder: Self::beneath(&files, Some(&path))? })
    }

    fn beneath(files: &OwnedFd, path: Option<&Path>) -> io::Result<OwnedFd> {
        let path = path.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        Ok(openat2(files, path, OpenHow::new().flags(DIRECTORY).resolve(resolve))?)
    }

    /// A path by which the kernel finds this very folder, while this is open.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))
    }

    /// The regular files in it. Names that begin with a dot are not for us: programs give them to what is not finished.
    pub(super) fn list(&self) -> io::Result<Vec<(OsString, Stamp)>> {
        let mut directory = Dir::openat(&self.folder, ".", DIRECTORY, Mode::empty())?;
        let mut found = Vec::new();
        for entry in directory.iter() {
            let entry = entry?;
            if !matches!(entry.file_type(), Some(Type::File) | None) {
                continue;
            }
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if let Some(stamp) = self.stamp(name)? {
                found.push((name.to_owned(), stamp));
            }
        }
        Ok(found)
    }

    /// A file's present version; none where there is no regular file that is for us.
    pub(super) fn stamp(&self, name: &OsStr) -> io::Result<Option<Stamp>> {
        if name.as_bytes().starts_with(b".") {
            return Ok(None);
        }
        stamp_in(&self.folder, name)
    }

    /// Reads a file; none if it is not the version that `stamp` is of, or does not stay so meanwhile.
    pub(super) fn read(
        &self,
        name: &OsStr,
        stamp: &Stamp,
        inline: bool,
    ) -> io::Result<Option<Content>> {
        // Not blocking: a FIFO may have taken its place.
        let flags = OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        let mut file = match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO | Errno::EISDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_it = |file: &File| -> io::Result<bool> {
            Ok(Stamp::of(&fstat(file)?).is_some_and(|now| now.is(stamp)))
        };
        if !is_it(&file)? {
            return Ok(None);
        }
        let mut bytes = (inline && stamp.size <= MOST_INLINE).then(Vec::new);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        let mut left = stamp.size;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if read == 0 {
                break;
            }
            // Somebody who appends as fast as this reads must not keep it here.
            let Some(rest) = left.checked_sub(read as u64) else { return Ok(None) };
            left = rest;
            hash.update(&buffer[..read]);
            if let Some(bytes) = &mut bytes {
                bytes.extend_from_slice(&buffer[..read]);
            }
        }
        if left > 0 || !is_it(&file)? {
            return Ok(None);
        }
        Ok(Some(Content { sha256: hex::encode(hash.finalize()), bytes }))
    }

    /// Moves a version of a file to where the done ones are; beside an older one of its name under a name with `suffix`.
    pub(super) fn put_away(&self, name: &OsStr, stamp: &Stamp, suffix: &str) -> io::Result<Moved> {
        match stamp_in(&self.folder, name)? {
            None => return Ok(Moved::Away),
            Some(now) if !now.is(stamp) => return Ok(Moved::Replaced),
            Some(_) => {}
        }
        let done = self.done()?;
        let mut longer = name.to_owned();
        longer.push(".");
        longer.push(suffix);
        // The last for names that have no room for more.
        for new in [name, &longer, OsStr::new(suffix)] {
            match renameat2(&self.folder, name, &done, new, RenameFlags::RENAME_NOREPLACE) {
                Ok(()) => return self.check(&done, new, name, stamp),
                Err(Errno::ENOENT) => return Ok(Moved::Away),
                Err(Errno::EEXIST | Errno::ENAMETOOLONG) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EEXIST.into())
    }

    /// That what was moved is what was meant: between look and move another file may have got its name. That one goes
    /// back, unless a third has the name by now, which replaces it.
    fn check(&self, done: &OwnedFd, new: &OsStr, name: &OsStr, stamp: &Stamp) -> io::Result<Moved> {
        if stamp_in(done, new)?.is_none_or(|now| now.is(stamp)) {
            return Ok(Moved::Away);
        }
        match renameat2(done, new, &self.folder, name, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) | Err(Errno::EEXIST) => Ok(Moved::Replaced),
            Err(error) => Err(error.into()),
        }
    }

    /// Has moves on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        for folder in [self.done()?, openat(&self.folder, ".", DIRECTORY, Mode::empty())?] {
            File::from(folder).sync_all()?;
        }
        Ok(())
    }

    fn done(&self) -> io::Result<OwnedFd> {
        match mkdirat(&self.folder, DONE, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(openat(&self.folder, DONE, DIRECTORY, Mode::empty())?)
    }
}

fn stamp_in(folder: &OwnedFd, name: &OsStr) -> io::Result<Option<Stamp>> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Stamp::of(&stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
