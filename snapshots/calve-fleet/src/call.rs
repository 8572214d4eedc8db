//! Calling the function in a machine: what a caller says and hears. [`Callee`](crate::callee) does it.

use std::time::Duration;

use calve_proto::{FunctionError, LogSink, ResultSink, SessionError};
use thiserror::Error;

use crate::error::WorkerError;

/// How one call is made.
#[derive(Default)]
pub struct CallOptions<'a> {
    /// Id of the request: 1 to 64 letters, digits, `-`, `_` or `.`, never used before on this
    /// machine. A random one where none is given.
    pub request_id: Option<&'a str>,
    /// The function's deadline, which the agent enforces; the snapshot's where none is given.
    pub timeout: Option<Duration>,
    /// How much longer than the deadline the host waits before it kills the machine, because its
    /// guest does not answer; [`CallOptions::GRACE`] where none is given.
    pub grace: Option<Duration>,
    /// Takes what the function prints, as it comes. Thrown away where there is none.
    pub logs: Option<&'a mut LogSink<'a>>,
    /// Takes the result as it comes, all of it: that of the [`Outcome`] is then empty, and its error may come after a
    /// part of the result. A function that streams may say up to 200 MiB this way. What this takes, it takes on the
    /// thread of the call: while it waits, so does the guest.
    pub results: Option<&'a mut ResultSink<'a>>,
    /// X-Ray trace header for the function, or empty.
    pub trace_id: &'a str,
    /// Leave out what costs a round trip to the worker and a walk through its page tables after
    /// the answer: `thaw_us`, `load_us` and `private_kib`.
    pub unmeasured: bool,
}

impl CallOptions<'_> {
    /// Time for everything about a call that is not the function: the thaw, the way there and
    /// back, ending a runtime that is over its deadline. Generous, since only a broken guest
    /// needs it.
    pub const GRACE: Duration = Duration::from_secs(10);
}

/// The end of a call that reached the function.
#[derive(Debug)]
pub struct Outcome {
    /// The function's result as JSON, or its error.
    pub result: Result<Vec<u8>, FunctionError>,
    /// Identity of the machine that answered.
    pub machine: String,
    /// What took how long.
    pub timings: Timings,
    /// Private memory of the worker right after the answer, guest included, KiB: what it has
    /// written, not what it shares with other clones; `None` where that cannot be read.
    pub private_kib: Option<u64>,
    /// Log bytes that the guest dropped because of its configured limit.
    pub dropped_log_bytes: u64,
}

/// Times of a call. The *decision* is the moment in which the machine was asked for; a shell that
/// was [prepared](crate::Fleet::prepare) existed before it, any other worker is born after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Decision → first vCPU's entry into the guest, µs; of a machine's first call only.
    pub thaw_us: Option<u64>,
    /// Content in the worker's hands → first vCPU's entry, µs: the part that is left where a shell
    /// waits already.
    pub load_us: Option<u64>,
    /// Decision → first byte of the answer, µs. For every call but a machine's first, the decision
    /// is the call itself.
    pub first_output_us: u64,
    /// Start of the call → its end, µs.
    pub call_us: u64,
    /// Whether the worker was a shell before the decision.
    pub prepared: bool,
}

/// A call that did not reach the function, or whose answer did not come back.
#[derive(Debug, Error)]
pub enum CallError {
    /// The call itself is out of bounds: an event over 6 MiB, a bad request id.
    #[error(transparent)]
    Request(SessionError),
    /// The machine failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The guest did not answer in time, nor did its agent. The machine was killed.
    #[error("no answer within {} ms (the deadline and {} ms of grace): the machine was killed", within.as_millis(), grace.as_millis())]
    TimedOut {
        /// Deadline and grace.
        within: Duration,
        /// The grace alone.
        grace: Duration,
    },
    /// The guest broke the protocol. The machine is to be dropped.
    #[error("the guest broke the protocol")]
    Guest(#[source] SessionError),
    /// An earlier error ended this machine.
    #[error("this machine has failed before: thaw another")]
    Spent,
}
