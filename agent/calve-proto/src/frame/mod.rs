//! Length-delimited framing: a varint length, then one protobuf message.
//!
//! [`FrameDecoder`] is the incremental half that both the agent's event loop and the blocking [`FrameReader`] use. It
//! holds at most one frame and one read's surplus, refuses a length over [`MAX_FRAME`] as soon as
//! its last length byte is in, and never panics whatever the bytes.

mod decoder;
mod io;

pub use decoder::FrameDecoder;
pub(crate) use io::fill;
pub use io::{FrameReader, FrameWriter};

use prost::Message;

use crate::limits::MAX_FRAME;

/// A frame that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length prefix announces more than [`MAX_FRAME`] bytes, or is no varint of at most 4 bytes.
    #[error("frame of over {MAX_FRAME} bytes announced; the peer does not speak this protocol")]
    TooLong,
    /// The bytes are no message of the expected type.
    #[error("frame does not decode")]
    Malformed(#[source] prost::DecodeError),
    /// The message to be sent is over [`MAX_FRAME`]. A bug of the sender: bodies go out in chunks.
    #[error("message of {0} bytes does not fit a frame of {MAX_FRAME} bytes; send it in chunks")]
    Unsendable(usize),
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame")]
    Truncated,
    /// The stream ended between two frames.
    #[error("stream closed by the peer")]
    Closed,
    /// The stream failed or timed out.
    #[error("stream failed")]
    Io(#[from] std::io::Error),
}

/// Appends `message` to `out` as one frame.
pub fn encode<M: Message>(message: &M, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let len = message.encoded_len();
    if len > MAX_FRAME {
        return Err(FrameError::Unsendable(len));
    }
    out.reserve(len + prost::length_delimiter_len(len));
    // Encoding into a Vec cannot run out of room.
    message.encode_length_delimited(out).map_err(|_| FrameError::Unsendable(len))
}

#[cfg(test)]
mod tests;
