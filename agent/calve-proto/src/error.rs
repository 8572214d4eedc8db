//! What went wrong inside the guest, as the host sees it.

use std::fmt;

use crate::limits::{MAX_ERROR_MESSAGE, MAX_ERROR_TYPE, MAX_STACK_LINE, MAX_STACK_LINES};
use crate::wire;

pub use crate::wire::function_error::Kind as ErrorKind;

/// How a runtime's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It called `exit` with this status.
    Status(u8),
    /// It was killed by this signal.
    Signal(u8),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Why an invocation, a start, a freeze or a thaw failed in the guest.
///
/// Every text is within the bounds of [`limits`](crate::limits), whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionError {
    /// What kind of failure this is.
    pub kind: ErrorKind,
    /// The error's name in its language or in AWS Lambda.
    pub error_type: String,
    /// The error's text.
    pub error_message: String,
    /// The stack, innermost call last for Python and first for Node, as their users expect.
    pub stack_trace: Vec<String>,
    /// How the runtime ended, where it did.
    pub exit: Option<Exit>,
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error_type, self.error_message)
    }
}

impl std::error::Error for FunctionError {}

impl FunctionError {
    /// An error without a stack. Over-long texts are cut.
    #[must_use]
    pub fn new(kind: ErrorKind, error_type: &str, error_message: impl Into<String>) -> Self {
        Self {
            kind,
            error_type: error_type.to_owned(),
            error_message: error_message.into(),
            stack_trace: Vec::new(),
            exit: None,
        }
        .bounded()
    }

    /// The same error with every text cut to its bound.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        truncate(&mut self.error_type, MAX_ERROR_TYPE);
        truncate(&mut self.error_message, MAX_ERROR_MESSAGE);
        self.stack_trace.truncate(MAX_STACK_LINES);
        for line in &mut self.stack_trace {
            truncate(line, MAX_STACK_LINE);
        }
        self
    }

    /// Checks what came over the wire; `None` if a bound is broken or a value is unknown.
    pub(crate) fn from_wire(error: wire::FunctionError) -> Option<Self> {
        let kind = error.kind();
        let exit = match error.exit {
            None => None,
            Some(exit) => Some(Exit::from_wire(&exit)?),
        };
        let bounded = kind != ErrorKind::Unspecified
            && error.error_type.len() <= MAX_ERROR_TYPE
            && error.error_message.len() <= MAX_ERROR_MESSAGE
            && error.stack_trace.len() <= MAX_STACK_LINES
            && error.stack_trace.iter().all(|line| line.len() <= MAX_STACK_LINE);
        bounded.then_some(Self {
            kind,
            error_type: error.error_type,
            error_message: error.error_message,
            stack_trace: error.stack_trace,
            exit,
        })
    }
}

impl Exit {
    /// Checks what came over the wire.
    pub(crate) fn from_wire(exit: &wire::Exit) -> Option<Self> {
        match exit.how? {
            wire::exit::How::Status(status) => u8::try_from(status).ok().map(Self::Status),
            wire::exit::How::Signal(signal) => u8::try_from(signal).ok().map(Self::Signal),
        }
    }
}

impl From<Exit> for wire::Exit {
    fn from(exit: Exit) -> Self {
        let how = match exit {
            Exit::Status(status) => wire::exit::How::Status(status.into()),
            Exit::Signal(signal) => wire::exit::How::Signal(signal.into()),
        };
        Self { how: Some(how) }
    }
}

impl From<FunctionError> for wire::FunctionError {
    fn from(error: FunctionError) -> Self {
        let error = error.bounded();
        Self {
            kind: error.kind.into(),
            error_type: error.error_type,
            error_message: error.error_message,
            stack_trace: error.stack_trace,
            exit: error.exit.map(Into::into),
        }
    }
}

/// Cuts `text` to at most `max` bytes at a character boundary, and marks the cut.
fn truncate(text: &mut String, max: usize) {
    const MARK: &str = "…";
    if text.len() > max {
        let end = text.floor_char_boundary(max - MARK.len());
        text.truncate(end);
        text.push_str(MARK);
    }
}
