//! What a session tells its caller, and what the caller tells it.

use std::time::{Duration, Instant};

use crate::wire;
use crate::{Exit, FunctionError};

/// The parts of a `Hello`: what the guest shall do first. All parts travel in one frame.
#[derive(Debug, Default)]
pub struct Opening<'a> {
    /// Start the function's runtime (cold boot).
    pub configure: Option<wire::Configure>,
    /// Start a runtime without a function (cold boot).
    pub preload: Option<wire::Preload>,
    /// Make this clone itself (after a thaw).
    pub thaw: Option<wire::ThawFacts>,
    /// Call the function.
    pub call: Option<Call<'a>>,
}

/// One invocation.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Fresh id of 1 to 64 letters, digits, `-`, `_` or `.`.
    pub request_id: &'a str,
    /// The event, a JSON text of at most [`MAX_BODY`](crate::limits::MAX_BODY) bytes.
    pub event: &'a [u8],
    /// Deadline the agent enforces; `None` means the configured one.
    pub timeout: Option<Duration>,
    /// X-Ray trace header for the function, or empty.
    pub trace_id: &'a str,
    /// Have what the runtime streams sent as it comes; its end is to be waited for with
    /// [`wait_streamed`](crate::Session::wait_streamed), since it may be as long as
    /// [`MAX_STREAM`](crate::limits::MAX_STREAM).
    pub stream: bool,
}

impl<'a> Call<'a> {
    /// A call with the function's configured deadline.
    #[must_use]
    pub fn new(request_id: &'a str, event: &'a [u8]) -> Self {
        Self { request_id, event, timeout: None, trace_id: "", stream: false }
    }
}

/// Which stream a log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One thing that the guest said, checked.
#[derive(Debug)]
pub enum Event {
    /// The guest speaks our protocol.
    Welcome {
        /// The agent's version, for people.
        agent_version: String,
    },
    /// The runtime is up and waits for events.
    Ready {
        /// What its start took, by the guest's clock.
        init: Duration,
    },
    /// The runtime did not come up.
    InitFailed(FunctionError),
    /// The clone has its seed, clock and identity, and its hooks have run.
    Thawed,
    /// The thaw failed; a call that came with it is answered with the same error.
    ThawFailed(FunctionError),
    /// Something the function printed.
    Log {
        /// Where it printed it.
        stream: LogStream,
        /// The bytes, as they came.
        data: Vec<u8>,
    },
    /// Log bytes beyond the configured limit were dropped in the guest.
    LogTruncated {
        /// How many.
        dropped: u64,
    },
    /// The next bytes of the result.
    ResultChunk {
        /// The bytes.
        data: Vec<u8>,
        /// What a runtime that streams says that they are; empty in every part but its first.
        content_type: String,
    },
    /// The call ended. `Ok` holds the last bytes of the result.
    Done {
        /// The tail of the result, or why there is none.
        outcome: Result<Vec<u8>, FunctionError>,
        /// When the first byte of the answer reached the host.
        first_byte: Instant,
    },
    /// The runtime ended between two calls.
    RuntimeExited {
        /// How.
        exit: Exit,
        /// Whether the guest's kernel killed it for memory.
        out_of_memory: bool,
    },
    /// The machine may be frozen once the stream is closed.
    FreezeReady {
        /// Free guest memory filled with zeroes, in bytes.
        zeroed_bytes: u64,
    },
    /// The machine could not be made ready.
    FreezeFailed(FunctionError),
    /// The answer to a ping.
    Pong {
        /// The ping's nonce.
        nonce: u64,
    },
}

/// The end of a call, assembled.
#[derive(Debug)]
pub struct Answer {
    /// The whole JSON result, or the function's error.
    pub outcome: Result<Vec<u8>, FunctionError>,
    /// When the first byte of the answer (first `ResultChunk` or `InvokeDone`) reached the host.
    pub first_byte: Instant,
    /// Log bytes the guest dropped because of the configured limit.
    pub dropped_log_bytes: u64,
}
