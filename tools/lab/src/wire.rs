//! What travels over a virtio-serial port between a caller and the agent in the lab.
//!
//! A port is a pair of byte pipes with no notion of a connection: after a caller has died, the next
//! one may find the tail of the old answer, and the agent the head of the old request. So a call
//! opens with a fixed 16-byte mark and a random 16-byte nonce, and the agent's answer opens with the
//! same. The agent takes a mark anywhere in the stream as the start of a new call; the caller drops
//! everything before its own nonce.
//!
//! ```text
//!  caller → agent   mark nonce length:u32 request(postcard)
//!  agent → caller   mark nonce { kind:u8 length:u32 payload }*    numbers little-endian
//! ```

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

/// The start of a call and of an answer. Random bytes, no valid UTF-8: never part of a request.
pub const MARK: [u8; 16] = [
    0xfe, 0xc4, 0x1b, 0xe0, 0x9d, 0x72, 0xff, 0x35, 0x88, 0xa6, 0x0f, 0xd1, 0x5c, 0xf3, 0x47, 0xb9,
];
/// Tells one call from another on the same port.
pub type Nonce = [u8; 16];
/// The longest request, arguments and environment included.
pub const REQUEST_LIMIT: usize = 1 << 20;
/// The longest payload of a frame. The guest's driver takes at most 32 KiB a write
/// (drivers/char/virtio_console.c, `port_fops_write`), so more would buy nothing.
pub const PAYLOAD_LIMIT: usize = 32 << 10;

const OPENING: usize = MARK.len() + size_of::<Nonce>();
const LENGTH: usize = size_of::<u32>();
const FRAME_HEADER: usize = 1 + LENGTH;

/// Bytes that are no call or no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A request over [`REQUEST_LIMIT`].
    #[error("a request of {0} bytes is over the limit of {REQUEST_LIMIT}: shorten its arguments")]
    RequestTooLong(usize),
    /// A request that contains [`MARK`].
    #[error("a request must not contain the mark that opens a call")]
    RequestHasMark,
    /// A request that is not one.
    #[error("the request cannot be decoded")]
    Request(#[from] postcard::Error),
    /// A frame over [`PAYLOAD_LIMIT`].
    #[error("a frame of {0} bytes is over the limit of {PAYLOAD_LIMIT}")]
    FrameTooLong(usize),
    /// A frame of a kind that does not exist, or with a payload that its kind does not have.
    #[error("a frame of kind {0} is unknown or malformed")]
    Frame(u8),
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working folder.
    pub cwd: OsString,
    /// Forget what is cached of this machine's files first: they may have changed.
    pub fresh_files: bool,
}

/// A request together with the nonce that its answer opens with.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The nonce of the caller.
    pub nonce: Nonce,
    /// What to run.
    pub request: Request,
}

impl Call {
    /// The bytes of this call.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let request = postcard::to_stdvec(&self.request)?;
        if request.len() > REQUEST_LIMIT {
            return Err(Error::RequestTooLong(request.len()));
        }
        if find(&request, &MARK).is_some() {
            return Err(Error::RequestHasMark);
        }
        let length =
            u32::try_from(request.len()).map_err(|_| Error::RequestTooLong(request.len()))?;
        let mut bytes = opening(&self.nonce);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&request);
        Ok(bytes)
    }
}

/// The first bytes of the answer to the call with this nonce.
pub fn opening(nonce: &Nonce) -> Vec<u8> {
    [&MARK[..], &nonce[..]].concat()
}

/// Finds calls in what arrives at the agent.
#[derive(Debug, Default)]
pub struct CallReader {
    /// Empty, a prefix of the mark, or a call's bytes from its mark on.
    buffer: Vec<u8>,
}

impl CallReader {
    /// Adds what was read from the port. A mark in it discards all that came before.
    pub fn push(&mut self, bytes: &[u8]) {
        let seam = self.buffer.len().saturating_sub(MARK.len() - 1);
        self.buffer.extend_from_slice(bytes);
        // The mark of the call being read lies at 0 and is found again only if `seam` is 0.
        match rfind(&self.buffer[seam..], &MARK) {
            Some(at) => drop(self.buffer.drain(..seam + at)),
            None if !self.buffer.starts_with(&MARK) => {
                let keep = self.buffer.len().min(MARK.len() - 1);
                self.buffer.drain(..self.buffer.len() - keep);
            }
            None => {}
        }
        self.buffer.truncate(OPENING + LENGTH + REQUEST_LIMIT);
    }

    /// Whether a call has begun to arrive.
    pub fn has_begun(&self) -> bool {
        self.buffer.starts_with(&MARK)
    }

    /// The call, once it is complete.
    pub fn take(&mut self) -> Result<Option<Call>, Error> {
        if !self.has_begun() {
            return Ok(None);
        }
        let Some((opening, rest)) = self.buffer.split_at_checked(OPENING) else { return Ok(None) };
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > REQUEST_LIMIT {
            self.buffer.clear();
            return Err(Error::RequestTooLong(length));
        }
        let Some(request) = rest.get(..length) else { return Ok(None) };
        let mut nonce = Nonce::default();
        nonce.copy_from_slice(&opening[MARK.len()..]);
        let request = postcard::from_bytes(request);
        self.buffer.clear();
        Ok(Some(Call { nonce, request: request? }))
    }
}

/// A piece of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// What the command wrote to its standard output.
    Stdout(&'a [u8]),
    /// What the command wrote to its standard error.
    Stderr(&'a [u8]),
    /// The command ended with this status: the last frame.
    Exit(u8),
    /// The command could not be started: the last frame.
    Refused(&'a [u8]),
}

impl<'a> Frame<'a> {
    /// The bytes of this frame; a payload over [`PAYLOAD_LIMIT`] is the caller's mistake and is cut.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Stdout(bytes) => (1, *bytes),
            Self::Stderr(bytes) => (2, *bytes),
            Self::Exit(status) => (3, std::slice::from_ref(status)),
            Self::Refused(reason) => (4, *reason),
        };
        debug_assert!(payload.len() <= PAYLOAD_LIMIT);
        let payload = &payload[..payload.len().min(PAYLOAD_LIMIT)];
        #[expect(clippy::cast_possible_truncation, reason = "PAYLOAD_LIMIT fits 32 bits")]
        let length = payload.len() as u32;
        let mut bytes = Vec::with_capacity(FRAME_HEADER + payload.len());
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn decode(kind: u8, payload: &'a [u8]) -> Result<Self, Error> {
        match (kind, payload) {
            (1, bytes) => Ok(Self::Stdout(bytes)),
            (2, bytes) => Ok(Self::Stderr(bytes)),
            (3, [status]) => Ok(Self::Exit(*status)),
            (4, reason) => Ok(Self::Refused(reason)),
            _ => Err(Error::Frame(kind)),
        }
    }
}

/// Finds the frames of one answer in what arrives at the caller.
#[derive(Debug)]
pub struct AnswerReader {
    opening: Vec<u8>,
    open: bool,
    buffer: Vec<u8>,
}

impl AnswerReader {
    /// A reader for the answer to the call with this nonce.
    pub fn new(nonce: &Nonce) -> Self {
        Self { opening: opening(nonce), open: false, buffer: Vec::new() }
    }

    /// Adds what was read from the port; drops what precedes the answer.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        if self.open {
            return;
        }
        if let Some(at) = find(&self.buffer, &self.opening) {
            self.buffer.drain(..at + self.opening.len());
            self.open = true;
        } else {
            let keep = self.buffer.len().min(self.opening.len() - 1);
            self.buffer.drain(..self.buffer.len() - keep);
        }
    }

    /// Whether the agent has taken the call.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Hands every complete frame to `each`, in order, until one breaks.
    pub fn frames<E: From<Error>>(
        &mut self,
        mut each: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.open {
            return Ok(());
        }
        let mut used = 0;
        loop {
            let rest = &self.buffer[used..];
            let Some((header, rest)) = rest.split_first_chunk::<FRAME_HEADER>() else { break };
            let [kind, length @ ..] = *header;
            let length = u32::from_le_bytes(length) as usize;
            if length > PAYLOAD_LIMIT {
                return Err(Error::FrameTooLong(length).into());
            }
            let Some(payload) = rest.get(..length) else { break };
            each(Frame::decode(kind, payload)?)?;
            used += FRAME_HEADER + length;
        }
        self.buffer.drain(..used);
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn rfind(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).rposition(|window| window == needle)
}

#[cfg(test)]
mod tests;
