//! Why a session cannot go on.

use crate::frame::FrameError;
use crate::wire::protocol_error::Code;

/// A failure of the control stream or a guest that breaks the protocol. A failure of the *function* is no session
/// error: it comes as [`FunctionError`](crate::FunctionError).
///
/// After any error but [`TimedOut`](Self::TimedOut) the stream is lost and the machine is to be discarded.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The stream's own read or write time-out passed. A read may be repeated: nothing is lost.
    #[error("guest sent nothing in time")]
    TimedOut,
    /// The session's deadline passed.
    #[error("guest did not finish before the session's deadline")]
    DeadlinePassed,
    /// The stream broke or carried bytes that are no frames.
    #[error("control stream broke")]
    Frame(#[source] FrameError),
    /// The guest closed the stream while an answer was due.
    #[error("guest closed the control stream")]
    Closed,
    /// The guest refused what the host sent.
    #[error("guest refused the request ({code:?}): {message}")]
    Refused {
        /// The guest's reason.
        code: Code,
        /// The guest's words, bounded.
        message: String,
    },
    /// The guest speaks another version of the protocol.
    #[error("guest speaks protocol {guest}, this host speaks {host}; rebuild the root image with this release", host = crate::limits::PROTOCOL_VERSION)]
    Version {
        /// The guest's version.
        guest: u32,
    },
    /// A frame that must not come now.
    #[error("guest sent {frame} where none was due")]
    Unexpected {
        /// Name of the message.
        frame: &'static str,
    },
    /// A frame for a request that is not in flight.
    #[error("guest sent {frame} for a request that is not in flight")]
    ForeignRequest {
        /// Name of the message.
        frame: &'static str,
    },
    /// A field outside the bounds of `calve.proto`.
    #[error("guest sent {frame} outside its bounds")]
    OutOfBounds {
        /// Name of the message.
        frame: &'static str,
    },
    /// The guest sent more bytes than the caller is willing to take.
    #[error("guest sent over {limit} bytes of {what}")]
    TooMuch {
        /// What there was too much of.
        what: &'static str,
        /// The bound, in bytes.
        limit: u64,
    },
    /// The caller asked for something outside the bounds of `calve.proto`.
    #[error("{what} is outside its bounds: {bound}")]
    BadRequest {
        /// What was asked.
        what: &'static str,
        /// What would be accepted.
        bound: &'static str,
    },
    /// The caller asked for something that cannot be asked now.
    #[error("{0}")]
    Misuse(&'static str),
}

impl From<FrameError> for SessionError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Closed => Self::Closed,
            // A read time-out on a socket is WouldBlock on Linux (socket(7), SO_RCVTIMEO).
            FrameError::Io(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                Self::TimedOut
            }
            other => Self::Frame(other),
        }
    }
}
