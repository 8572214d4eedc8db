//! A directory held open. Everything below is reached from its descriptor, never by a path again,
//! and no symbolic link is followed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir as Entries;
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, Flock, FlockArg, OFlag, RenameFlags, openat, readlinkat, renameat, renameat2,
};
use nix::sys::stat::{FileStat, Mode, fchmod, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, symlinkat, unlinkat};

use crate::Error;

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
// O_NONBLOCK does nothing to a regular file, but a FIFO put in its place cannot hang us.
const FILE: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY).union(OFlag::O_NONBLOCK);
/// Directories are the owner's alone.
const DIR_MODE: Mode = Mode::S_IRWXU;

#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// An advisory lock on a directory, gone when dropped or when the process dies.
pub(crate) type Lock = Flock<OwnedFd>;

impl Dir {
    /// Opens the directory at `path`, made with its parents if it does not exist. The path is the
    /// user's, so links in it are followed.
    pub(crate) fn open_or_create(path: &Path) -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt;
        let make = std::fs::DirBuilder::new().recursive(true).mode(DIR_MODE.bits()).create(path);
        make.map_err(Error::io("create", path))?;
        let flags = DIRECTORY.difference(OFlag::O_NOFOLLOW);
        let fd = openat(AT_FDCWD, path, flags, Mode::empty());
        Ok(Self { fd: fd.map_err(io_error("open", path))?, path: path.into() })
    }

    pub(crate) fn subdir(&self, name: &str) -> Result<Self, Error> {
        let path = self.path_of(name);
        match openat(&self.fd, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(e) => Err(io_error("open", path)(e)),
        }
    }

    pub(crate) fn subdir_or_create(&self, name: &str) -> Result<Self, Error> {
        match mkdirat(&self.fd, name, DIR_MODE) {
            Ok(()) | Err(Errno::EEXIST) => self.subdir(name),
            Err(e) => Err(io_error("create", self.path_of(name))(e)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn stat(&self, name: &str) -> Result<FileStat, Errno> {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// Opens a file for reading. The error is left as it came: to a snapshot, a missing file is damage.
    pub(crate) fn read(&self, name: &str) -> io::Result<File> {
        Ok(openat(&self.fd, name, FILE | OFlag::O_RDONLY, Mode::empty())?.into())
    }

    /// Creates a file for writing (and reading back) that does not exist yet.
    pub(crate) fn create(&self, name: &str) -> Result<File, Error> {
        let flags = FILE | OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let fd = openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        fd.map(File::from).map_err(io_error("create", self.path_of(name)))
    }

    /// Moves `name` to `to/new_name`, replacing a file or link (not a directory) of that name.
    pub(crate) fn rename(&self, name: &str, to: &Self, new_name: &str) -> Result<(), Error> {
        renameat(&self.fd, name, &to.fd, new_name).map_err(io_error("write", to.path_of(new_name)))
    }

    /// Lets `name` and `other_name` in `other` change places; both exist.
    pub(crate) fn exchange(&self, name: &str, other: &Self, other_name: &str) -> Result<(), Error> {
        renameat2(&self.fd, name, &other.fd, other_name, RenameFlags::RENAME_EXCHANGE)
            .map_err(io_error("write", other.path_of(other_name)))
    }

    /// Gives the file `name` a second name, `to/new_name`; one that exists already is an error.
    pub(crate) fn link(&self, name: &str, to: &Self, new_name: &str) -> Result<(), Errno> {
        linkat(&self.fd, name, &to.fd, new_name, AtFlags::empty())
    }

    /// Gives an open file a name here; it must still have another.
    pub(crate) fn link_open(&self, file: &File, name: &str) -> Result<(), Error> {
        let open = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(AT_FDCWD, open.as_str(), &self.fd, name, AtFlags::AT_SYMLINK_FOLLOW)
            .map_err(io_error("link", self.path_of(name)))
    }

    pub(crate) fn symlink(&self, target: &str, name: &str) -> Result<(), Error> {
        symlinkat(target, &self.fd, name).map_err(io_error("write", self.path_of(name)))
    }

    /// What the symbolic link `name` says; `None` where there is no such link.
    pub(crate) fn readlink(&self, name: &str) -> Result<Option<String>, Error> {
        match readlinkat(&self.fd, name) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
            Err(e) => Err(io_error("read", self.path_of(name))(e)),
        }
    }

    /// Removes a file or link; one that is not there is no error.
    pub(crate) fn unlink(&self, name: &str) -> Result<(), Error> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(io_error("remove", self.path_of(name))(e)),
        }
    }

    /// Removes `name`, a file, a link, or a directory with the files in it. The store nests no deeper.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        let Ok(dir) = self.subdir(name) else { return self.unlink(name) };
        for file in dir.names()? {
            dir.unlink(&file)?;
        }
        match unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(io_error("remove", dir.path)(e)),
        }
    }

    /// The names in the directory, sorted. What is not UTF-8 is not the store's and left alone.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let entries = Entries::openat(&self.fd, ".", DIRECTORY, Mode::empty());
        let mut names = Vec::new();
        for entry in entries.map_err(io_error("list", &self.path))?.iter() {
            let entry = entry.map_err(io_error("list", &self.path))?;
            match std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()).to_str() {
                None | Some("." | "..") => {}
                Some(name) => names.push(name.to_owned()),
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes the entries (not the files' contents) survive a power cut.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        fsync(&self.fd).map_err(io_error("write", &self.path))
    }

    /// Locks the directory, or says `None` where `how` does not wait and another holder is in the way.
    pub(crate) fn lock(&self, how: FlockArg) -> Result<Option<Lock>, Error> {
        // A descriptor of its own: flock belongs to the open file description, so two threads that
        // share this `Dir` exclude each other as two processes do.
        let fd = openat(&self.fd, ".", DIRECTORY, Mode::empty());
        let mut fd = fd.map_err(io_error("open", &self.path))?;
        loop {
            match Flock::lock(fd, how) {
                Ok(lock) => return Ok(Some(lock)),
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((again, Errno::EINTR)) => fd = again,
                Err((_, e)) => return Err(io_error("lock", &self.path)(e)),
            }
        }
    }
}

/// Makes a finished file read-only and durable.
pub(crate) fn seal(file: &File, path: &Path) -> Result<(), Error> {
    fchmod(file.as_fd(), Mode::S_IRUSR).map_err(io_error("write", path))?;
    file.sync_all().map_err(Error::io("write", path))
}

fn io_error(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> Error {
    let wrap = Error::io(action, path);
    move |errno| wrap(errno.into())
}
