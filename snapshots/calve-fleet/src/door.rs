//! The public door of a machine: a Unix socket over which any program asks for a guest's port.
//!
//! A program connects, writes `CONNECT <port>\n`, reads `OK <number>\n` and is then connected to
//! that vsock port of the guest; the protocol behind port 1024 is `calve.proto`.

use std::fs::Permissions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

/// Connections that may wait until the worker's device accepts them.
const BACKLOG: i32 = 64;

/// A socket in the file system, which only its owner may connect to. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Door {
    path: PathBuf,
    /// Device and inode: what lies at the path later may be another's.
    identity: (u64, u64),
}

impl Door {
    /// Makes the socket. The listener is for the worker.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, UnixListener)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        let metadata = std::fs::symlink_metadata(path)?;
        let door = Self { path: path.into(), identity: (metadata.dev(), metadata.ino()) };
        // Nobody can connect before listen(2), so there is no moment in which others may.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listen(&fd, Backlog::new(BACKLOG)?)?;
        Ok((door, fd.into()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            // Nothing can be done about a folder that was closed to us meanwhile.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_door_is_its_owners_and_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.sock");
        let (door, listener) = Door::open(&path).unwrap();
        assert_eq!(door.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = UnixStream::connect(&path).unwrap();
        listener.accept().unwrap().0.write_all(b"hi").unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        drop(door);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_in_use_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.sock");
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(Door::open(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn what_replaced_the_door_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.sock");
        let (door, _listener) = Door::open(&path).unwrap();
        // Another name for the old inode, so that its number is not used again.
        std::fs::hard_link(&path, dir.path().join("old")).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "other").unwrap();
        drop(door);
        assert_eq!(std::fs::read(&path).unwrap(), b"other");
    }
}
