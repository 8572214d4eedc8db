//! The control stream: frames of the host in, frames for the host out, without ever blocking.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use calve_proto::frame::{FrameDecoder, FrameError};
use calve_proto::wire::{self, host_frame};

use crate::outbox::Outbox;
use crate::poll::{Interest, Poll, Token, Watch};

/// Why the control stream is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// The host closed it.
    #[error("host closed the control stream")]
    Closed,
    /// It broke.
    #[error("control stream broke")]
    Broken(#[from] io::Error),
    /// The host sent what is no frame, or we built one that is none.
    #[error("control stream carries no frames")]
    Frame(#[from] FrameError),
}

/// A connected control stream.
#[derive(Debug)]
pub(crate) struct Control {
    /// A socket, vsock or Unix; read and write are all that is needed of it.
    stream: File,
    watch: Watch,
    decoder: FrameDecoder,
    pub(crate) outbox: Outbox,
    /// Whether Hello has come.
    pub(crate) greeted: bool,
    /// Nothing more is read; the stream closes once the outbox is empty.
    pub(crate) closing: bool,
}

impl Control {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            stream: socket.into(),
            watch: Watch::new(Token::Control),
            decoder: FrameDecoder::default(),
            outbox: Outbox::default(),
            greeted: false,
            closing: false,
        }
    }

    /// Reads once, if there is something to read. Then take the frames out with [`next_frame`](Self::next_frame).
    pub(crate) fn fill(&mut self) -> Result<(), ControlError> {
        match self.decoder.read_from(&mut self.stream) {
            Ok(0) => Err(ControlError::Closed),
            Ok(_) => Ok(()),
            Err(e) if is_transient(&e) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// The next whole frame that has been read. An unknown kind of frame comes as `Some(None)`.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Option<host_frame::Body>>, FrameError> {
        Ok(self.decoder.next::<wire::HostFrame>()?.map(|(frame, _)| frame.body))
    }

    /// Sends what is due and listens for what can come next. Returns whether the stream is done and can be dropped.
    pub(crate) fn flush(&mut self, poll: &Poll) -> io::Result<bool> {
        self.outbox.flush(&mut self.stream)?;
        let write = self.outbox.wants_to_send();
        poll.set(&mut self.watch, &self.stream, Interest { read: !self.closing, write })?;
        Ok(self.closing && !write)
    }
}

/// Whether an error of a non-blocking call only means "later".
pub(crate) fn is_transient(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
