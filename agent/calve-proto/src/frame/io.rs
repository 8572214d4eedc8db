//! Blocking ends of a framed stream.

use std::io::{Read, Write};

use prost::Message;

use super::{FrameDecoder, FrameError, encode};

/// Reads messages from a blocking stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    decoder: FrameDecoder,
}

impl<R: Read> FrameReader<R> {
    /// Reads from `stream` from now on; it must be at the start of a frame.
    pub fn new(stream: R) -> Self {
        Self { stream, decoder: FrameDecoder::default() }
    }

    /// The next message. A time-out of the stream comes as [`FrameError::Io`] and loses nothing: call again.
    pub fn read<M: Message + Default>(&mut self) -> Result<M, FrameError> {
        loop {
            if let Some((message, _)) = self.decoder.next()? {
                return Ok(message);
            }
            fill(&mut self.decoder, &mut self.stream)?;
        }
    }
}

/// Reads at least one byte into `decoder`, or says why not.
pub(crate) fn fill(decoder: &mut FrameDecoder, stream: &mut impl Read) -> Result<(), FrameError> {
    loop {
        match decoder.read_from(stream) {
            Ok(0) if decoder.is_between_frames() => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Truncated),
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Writes messages to a blocking stream, each with one write.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    scratch: Vec<u8>,
}

impl<W: Write> FrameWriter<W> {
    /// Writes to `stream` from now on.
    pub fn new(stream: W) -> Self {
        Self { stream, scratch: Vec::new() }
    }

    /// Sends one message.
    pub fn write<M: Message>(&mut self, message: &M) -> Result<(), FrameError> {
        self.scratch.clear();
        encode(message, &mut self.scratch)?;
        self.stream.write_all(&self.scratch)?;
        Ok(self.stream.flush()?)
    }
}
