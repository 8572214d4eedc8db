//! A virtio-serial port as the guest sees it (drivers/char/virtio_console.c).
//!
//! Two traits of the driver shape this: a read while no caller is connected returns 0 at once, and a
//! blocking write to a caller that has gone blocks until the next one comes. So the port is opened
//! non-blocking, and its events are taken edge-triggered: a port without a caller reports a hang-up
//! for as long as it lasts.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::Error;
use crate::wire::CallReader;

/// The caller has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HungUp;

/// An open port, and what has arrived at it.
#[derive(Debug)]
pub struct Port {
    file: File,
    events: Epoll,
    /// Calls as they arrive.
    pub calls: CallReader,
    hung_up: bool,
}

impl Port {
    /// Opens the port whose device has this name below /dev.
    pub fn open(name: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let path = Path::new("/dev").join(name);
        let file = options.open(path).map_err(Error::system("open the port"))?;
        let events = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(Error::system("create an epoll"))?;
        let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        let added = events.add(&file, EpollEvent::new(wanted, 0));
        added.map_err(Error::system("watch the port"))?;
        Ok(Self { file, events, calls: CallReader::default(), hung_up: false })
    }

    /// Waits for something to happen at the port and takes in what has arrived.
    pub fn wait(&mut self) -> Result<(), Error> {
        let mut event = [EpollEvent::empty()];
        match self.events.wait(&mut event, EpollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(Error::system("wait for the port")(errno)),
        }
        self.hung_up = event[0].events().contains(EpollFlags::EPOLLHUP);
        let mut buffer = [0; 4096];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.calls.push(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::system("read from the port")(error)),
            }
        }
    }

    /// Whether the caller has gone, or another one has taken its place.
    pub fn caller_has_gone(&self) -> bool {
        self.hung_up || self.calls.has_begun()
    }

    /// Sends all of `bytes`, at the caller's pace.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<Result<(), HungUp>, Error> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait()?;
                    if self.caller_has_gone() {
                        return Ok(Err(HungUp));
                    }
                }
                Err(error) => return Err(Error::system("write to the port")(error)),
            }
        }
        Ok(Ok(()))
    }
}

impl AsFd for Port {
    /// Readable when [`Port::wait`] would not block.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.0.as_fd()
    }
}
