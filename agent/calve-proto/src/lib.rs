//! The protocol between a Calve host and the agent in its guest.
//!
//! `calve.proto` is the reference and says what each message means; this crate is its Rust side:
//!
//! - [`wire`]: the messages, generated from `calve.proto`;
//! - [`frame`]: length-delimited framing, bounded and incremental;
//! - [`limits`]: every bound of the protocol in one place;
//! - [`image`]: how a code image says where its parts belong;
//! - [`Session`]: the host's side of a control stream as a blocking state machine that trusts no guest byte.
//!
//! Nothing here opens a socket: a session runs over any `Read + Write`, a Unix socket of a VMM as well as a pair of
//! pipes in a test.

pub mod error;
pub mod frame;
pub mod image;
pub mod limits;
pub mod session;

pub use error::{ErrorKind, Exit, FunctionError};
pub use session::{
    Answer, Call, Event, LogSink, LogStream, Opening, ResultSink, Session, SessionError,
};

/// The messages of `calve.proto`, as prost generates them.
///
/// Decoded messages hold whatever the peer sent, within the size of a frame; [`Session`] checks them against
/// [`limits`] before anyone else sees them.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/calve.v1.rs"));
}
