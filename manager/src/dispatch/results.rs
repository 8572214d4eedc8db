//! A result on its way to its caller while the function is still at it.
//!
//! Pieces wait in a short queue. While that is full, the thread of the call waits, and does not read from the guest: so
//! it is the function that waits for its caller in the end, and no memory of the host's.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout_at;

/// Pieces that wait for a caller who is behind; the protocol with the guest makes them 64 KiB at most.
const ROOM: usize = 4;

/// A part of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The bytes.
    pub data: Bytes,
    /// What a function that streams says that they are, in its first part; empty otherwise.
    pub content_type: String,
    /// The version that says them.
    pub version: Arc<str>,
    /// The identity of its machine.
    pub machine: Arc<str>,
}

/// Where a result goes as it comes.
#[derive(Clone, Debug)]
pub struct Results {
    sender: mpsc::Sender<Piece>,
    version: Arc<str>,
}

impl Results {
    /// A way to a caller. It ends when the last of it is gone.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Piece>) {
        let (sender, pieces) = mpsc::channel(ROOM);
        (Self { sender, version: "".into() }, pieces)
    }

    /// The same for the result of a version.
    pub(crate) fn of(self, version: &str) -> Self {
        Self { version: version.into(), ..self }
    }

    /// Passes bytes on, for which there has to be room by `until`; whether they were taken. Blocks, so it is for threads
    /// of the async runtime that may.
    pub(super) fn pass(
        &self,
        machine: &Arc<str>,
        bytes: &[u8],
        content_type: &str,
        until: Instant,
    ) -> bool {
        let piece = Piece {
            data: Bytes::copy_from_slice(bytes),
            content_type: content_type.to_owned(),
            version: self.version.clone(),
            machine: machine.clone(),
        };
        let sent = Handle::current().block_on(timeout_at(until.into(), self.sender.send(piece)));
        matches!(sent, Ok(Ok(())))
    }
}
