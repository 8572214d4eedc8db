//! Events from the command line: `JSON`, `@FILE` or `-`, checked before any machine is touched.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

use calve_proto::limits::MAX_BODY;
use serde::de::IgnoredAny;

use crate::failure::{Failure, line};
use crate::interrupt;

#[cfg(test)]
mod tests;

/// Reads one event and checks that it is JSON of at most 6 MiB.
pub(crate) fn read(argument: &str) -> Result<Vec<u8>, Failure> {
    let _guard = interrupt::leave_at_once();
    let (name, bytes) = if argument == "-" {
        ("event from stdin".to_owned(), bounded(io::stdin().lock()))
    } else if let Some(path) = argument.strip_prefix('@') {
        (format!("event {path}"), open(Path::new(path)).and_then(bounded))
    } else {
        ("event".to_owned(), Ok(argument.as_bytes().to_vec()))
    };
    let bytes = bytes.map_err(|e| unreadable(&name, &e))?;
    check(&name, &bytes)?;
    Ok(bytes)
}

/// Reads one event a line; blank lines are passed over.
pub(crate) fn read_lines(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let _guard = interrupt::leave_at_once();
    if path == Path::new("-") {
        return lines("stdin", io::stdin().lock());
    }
    let name = path.display().to_string();
    let file = open(path).map_err(|e| unreadable(&name, &e))?;
    lines(&name, io::BufReader::new(file))
}

fn lines(name: &str, mut reader: impl BufRead) -> Result<Vec<Vec<u8>>, Failure> {
    let mut events = Vec::new();
    for number in 1_u64.. {
        let name = format!("event in line {number} of {name}");
        let mut line = Vec::new();
        // One more than allowed, and the line's end.
        let limit = MAX_BODY as u64 + 2;
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
        if read.map_err(|e| unreadable(&name, &e))? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            check(&name, &line)?;
            events.push(line);
        }
    }
    if events.is_empty() {
        return Err(Failure::usage(format_args!("no event in {name}; write one JSON text a line")));
    }
    Ok(events)
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(file),
    }
}

/// Reads no more than what shows that it is too much.
fn bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_BODY as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::usage(format_args!("cannot read {name}: {}", line(error)))
}

fn check(name: &str, bytes: &[u8]) -> Result<(), Failure> {
    if bytes.len() > MAX_BODY {
        return Err(Failure::usage(format_args!(
            "{name} is over 6 MiB (6291456 bytes); pass a reference to the data instead"
        )));
    }
    // Skipping a value, unlike building one, takes no stack: nesting may be as deep as 6 MiB allow.
    match serde_json::from_slice::<IgnoredAny>(bytes) {
        Ok(_) => Ok(()),
        Err(e) => Err(Failure::usage(format_args!("{name} is not JSON: {e}; {}", hint(bytes)))),
    }
}

/// What was probably meant.
fn hint(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'{' | b'[', ..] => "see the position it names",
        _ => "give a JSON text, such as '{}', or @FILE, or - for stdin",
    }
}
