//! The two outputs: stdout carries results, stderr everything else.
//!
//! `println!` panics when its reader is gone; a command whose reader has seen enough just ends.

use std::io::{self, Write};

use crate::failure::{Failure, Status};

/// Writes a result to stdout.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| unwritable(&e))
}

/// Writes a line to stdout.
pub(crate) fn print_line(line: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut bytes = line.as_ref().to_vec();
    bytes.push(b'\n');
    print(&bytes)
}

/// Writes a value as one line of JSON to stdout.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let line = serde_json::to_vec(value).map_err(|e| Failure::of(Status::Machine, &e))?;
    print_line(line)
}

/// Writes a line to stderr. Where that cannot be written there is nobody to tell.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "calve: {line}");
}

/// Does everything that can be done, and fails for the first that could not; the others are said at once.
pub(crate) fn all(done: impl Iterator<Item = Result<(), Failure>>) -> Result<(), Failure> {
    let mut first = Ok(());
    for one in done {
        match (&first, one) {
            (Ok(()), one) => first = one,
            (Err(_), Err(Failure::Told { line, .. })) => say(line),
            (Err(_), _) => {}
        }
    }
    first
}

/// What a failed write to stdout means.
pub(crate) fn unwritable(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::of(Status::Host, error).about("cannot write to stdout"),
    }
}
