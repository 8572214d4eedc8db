//! How a command fails: one line for people, one exit status for programs.
//!
//! Every error of every crate becomes a [`Failure`] here and nowhere else, so that `classify` is the whole answer to
//! "which exit status does this get?". A line reads `calve: <what>: <why>: <deeper why>; <remedy>`.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

mod chain;
mod classify;
mod fleet;
#[cfg(test)]
mod tests;

pub(crate) use chain::{flat, line};
pub(crate) use fleet::{in_build, in_fork};

/// Exit statuses other than 0, as `calve --help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Status {
    /// The function failed.
    Function = 1,
    /// Wrong usage or bad input.
    Usage = 2,
    /// This host cannot.
    Host = 3,
    /// The machine failed or timed out.
    Machine = 4,
    /// A signal asked for the end: 128 + SIGINT, as a shell says it.
    Interrupted = 130,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Not said yet: `line` is to be printed.
    Told { status: Status, line: String },
    /// Everything there is to say has been printed.
    Silent(Status),
    /// Whoever read stdout has left (`calve … | head -1`): nothing more to do, and no failure of ours.
    ReaderGone,
}

impl Failure {
    /// A failure with its line.
    pub(crate) fn new(status: Status, line: impl fmt::Display) -> Self {
        Self::Told { status, line: line.to_string() }
    }

    /// Bad input.
    pub(crate) fn usage(line: impl fmt::Display) -> Self {
        Self::new(Status::Usage, line)
    }

    /// A failure whose line is an error and its sources.
    pub(crate) fn of(status: Status, error: &(dyn Error + 'static)) -> Self {
        Self::new(status, line(error))
    }

    /// A signal came.
    pub(crate) fn interrupted() -> Self {
        Self::new(Status::Interrupted, "interrupted")
    }

    /// Puts the object in front of the line, unless the line names it already.
    #[must_use]
    pub(crate) fn about(self, object: impl fmt::Display) -> Self {
        let object = object.to_string();
        match self {
            Self::Told { status, line } if !names(&line, &object) => {
                Self::Told { status, line: format!("{object}: {line}") }
            }
            other => other,
        }
    }

    /// Adds a remedy behind the line.
    #[must_use]
    pub(crate) fn with_remedy(self, remedy: Option<&str>) -> Self {
        match (self, remedy) {
            (Self::Told { status, line }, Some(remedy)) => {
                Self::Told { status, line: format!("{line}; {remedy}") }
            }
            (failure, _) => failure,
        }
    }

    /// The line, where there is one.
    pub(crate) fn line(&self) -> &str {
        match self {
            Self::Told { line, .. } => line,
            Self::Silent(_) | Self::ReaderGone => "",
        }
    }

    /// The exit status; none for a command that ended well.
    pub(crate) fn status(&self) -> Option<Status> {
        match self {
            Self::Told { status, .. } | Self::Silent(status) => Some(*status),
            Self::ReaderGone => None,
        }
    }
}

/// Whether `line` has `object` in it as a whole: a snapshot called `n` is not named by every word with an n.
fn names(line: &str, object: &str) -> bool {
    let within = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "-_.".contains(c));
    line.match_indices(object).any(|(at, _)| {
        let after = &line[at + object.len()..];
        !within(line[..at].chars().next_back()) && !within(after.chars().next())
    })
}
