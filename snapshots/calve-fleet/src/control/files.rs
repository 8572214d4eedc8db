//! The descriptors of one message, taken out in the order that the message fixes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use super::ControlError;

/// Descriptors that came with a message.
#[derive(Debug)]
pub struct Files {
    came: usize,
    taken: usize,
    rest: std::vec::IntoIter<OwnedFd>,
}

impl Files {
    /// Wraps what came.
    pub fn new(fds: Vec<OwnedFd>) -> Self {
        Self { came: fds.len(), taken: 0, rest: fds.into_iter() }
    }

    fn next(&mut self) -> Result<OwnedFd, ControlError> {
        self.taken += 1;
        self.rest.next().ok_or(ControlError::Descriptors { found: self.came, wanted: self.taken })
    }

    /// The next descriptor as a file.
    ///
    /// # Errors
    ///
    /// Where there is none left.
    pub fn file(&mut self) -> Result<File, ControlError> {
        self.next().map(File::from)
    }

    /// The next descriptor as a listener.
    ///
    /// # Errors
    ///
    /// Where there is none left.
    pub fn listener(&mut self) -> Result<UnixListener, ControlError> {
        self.next().map(UnixListener::from)
    }

    /// The next descriptor as a stream.
    ///
    /// # Errors
    ///
    /// Where there is none left.
    pub fn stream(&mut self) -> Result<UnixStream, ControlError> {
        self.next().map(UnixStream::from)
    }

    /// Says that the message speaks of no more descriptors.
    ///
    /// # Errors
    ///
    /// Where some are left; they are closed.
    pub fn finish(self) -> Result<(), ControlError> {
        if self.rest.len() == 0 {
            return Ok(());
        }
        Err(ControlError::Descriptors { found: self.came, wanted: self.taken })
    }
}
