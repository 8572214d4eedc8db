//! Why a worker gives up.

use calve_fleet::control::{MAX_TEXT, Refusal, Stage};

/// An error and what it happened in.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) stage: Stage,
    pub(crate) source: anyhow::Error,
}

impl Refused {
    /// The error and its causes in one line, short enough for a message.
    pub(crate) fn to_report(&self) -> Refusal {
        let mut reason = format!("{:#}", self.source);
        reason.truncate(reason.floor_char_boundary(MAX_TEXT));
        Refusal { stage: self.stage, reason }
    }
}
