//! Cuts a byte stream into frames.

use std::io::{self, Read};
use std::time::Instant;

use prost::Message;

use super::FrameError;
use crate::limits::MAX_FRAME;

/// Bytes asked for in the first read. A read that gets all it asked for doubles it, so that a machine that only ever
/// sees small frames never touches more than a page for them.
const FIRST_READ: usize = 4 << 10;

/// Most bytes asked for in one read.
const LARGEST_READ: usize = 64 << 10;

/// Longest length prefix: [`MAX_FRAME`] needs 3 bytes; a peer may pad the varint by one.
const MAX_PREFIX: usize = 4;

/// An incremental decoder: bytes in with [`read_from`](Self::read_from) or [`feed`](Self::feed), messages out with
/// [`next`](Self::next).
#[derive(Debug)]
pub struct FrameDecoder {
    /// Bytes received and not yet decoded are `buf[start..]`.
    buf: Vec<u8>,
    start: usize,
    read_size: usize,
    /// When the last read returned; when the first byte of the pending frame came.
    last_read: Option<Instant>,
    frame_start: Option<Instant>,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self {
            buf: Vec::new(),
            start: 0,
            read_size: FIRST_READ,
            last_read: None,
            frame_start: None,
        }
    }
}

impl FrameDecoder {
    /// Reads once from `source`. Returns the number of bytes, 0 at the end of the stream.
    pub fn read_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        self.discard_decoded();
        let old = self.buf.len();
        self.buf.resize(old + self.read_size, 0);
        let result = source.read(&mut self.buf[old..]);
        let got = *result.as_ref().unwrap_or(&0);
        self.buf.truncate(old + got);
        if got == self.read_size {
            self.read_size = (self.read_size * 2).min(LARGEST_READ);
        }
        if self.buf.len() > old {
            self.note_arrival(old == 0);
        }
        result
    }

    /// Takes bytes that someone else has read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.discard_decoded();
        let was_empty = self.buf.is_empty();
        self.buf.extend_from_slice(bytes);
        if !bytes.is_empty() {
            self.note_arrival(was_empty);
        }
    }

    /// The next whole message, and when its first byte came; `None` if more bytes are needed.
    ///
    /// After an error the position in the stream is lost: the stream is to be closed.
    #[allow(clippy::should_implement_trait)]
    pub fn next<M: Message + Default>(&mut self) -> Result<Option<(M, Instant)>, FrameError> {
        let pending = &self.buf[self.start..];
        let Some((prefix, len)) = parse_prefix(pending)? else { return Ok(None) };
        let Some(body) = pending.get(prefix..prefix + len) else { return Ok(None) };
        let message = M::decode(body).map_err(FrameError::Malformed)?;
        let arrived = self.frame_start.unwrap_or_else(Instant::now);
        self.start += prefix + len;
        // What is left over came with the last read at the latest.
        self.frame_start = self.last_read;
        Ok(Some((message, arrived)))
    }

    /// Whether the stream may end here: no byte of an incomplete frame is pending.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.start == self.buf.len()
    }

    fn note_arrival(&mut self, first_of_frame: bool) {
        let now = Instant::now();
        self.last_read = Some(now);
        if first_of_frame {
            self.frame_start = Some(now);
        }
    }

    /// Moves the undecoded rest to the front, so that the buffer never grows beyond a frame and a read.
    fn discard_decoded(&mut self) {
        if self.start > 0 {
            self.buf.drain(..self.start);
            self.start = 0;
        }
    }
}

/// Length of the prefix and of the message it announces, or `None` if the prefix is not complete.
fn parse_prefix(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut len = 0;
    for (i, byte) in bytes.iter().take(MAX_PREFIX).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return if len > MAX_FRAME { Err(FrameError::TooLong) } else { Ok(Some((i + 1, len))) };
        }
    }
    if bytes.len() >= MAX_PREFIX { Err(FrameError::TooLong) } else { Ok(None) }
}
