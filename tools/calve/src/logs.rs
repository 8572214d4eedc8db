//! What functions print, on stderr.
//!
//! One call at a time streams as it comes. Of several at a time each line is written whole, so that calls do not cut
//! each other's lines in two.

use std::io::{self, Write};

/// Longest line that is kept together, in bytes.
const MAX_LINE: usize = 64 << 10;

/// Takes what one function prints.
#[derive(Debug)]
pub(crate) struct Logs {
    whole_lines: bool,
    line: Vec<u8>,
}

impl Logs {
    /// Streams bytes as they come, or, with `whole_lines`, line by line.
    pub(crate) fn new(whole_lines: bool) -> Self {
        Self { whole_lines, line: Vec::new() }
    }

    /// Writes `bytes` to stderr. Logs that nobody can read are dropped.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.write_to(&mut io::stderr().lock(), bytes);
    }

    fn write_to(&mut self, out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
        if !self.whole_lines {
            return out.write_all(bytes);
        }
        let (whole, rest) = match bytes.iter().rposition(|&b| b == b'\n') {
            Some(end) => bytes.split_at(end + 1),
            None if self.line.len() + bytes.len() > MAX_LINE => (bytes, &[][..]),
            None => (&[][..], bytes),
        };
        if !whole.is_empty() {
            self.line.extend_from_slice(whole);
            out.write_all(&std::mem::take(&mut self.line))?;
        }
        self.line.extend_from_slice(rest);
        Ok(())
    }

    /// Writes what is left of a line that never ended.
    pub(crate) fn finish(&mut self) {
        if !self.line.is_empty() {
            self.write(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(logs: &mut Logs, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        logs.write_to(&mut out, bytes).unwrap();
        out
    }

    #[test]
    fn a_single_call_streams() {
        assert_eq!(written(&mut Logs::new(false), b"no end"), b"no end");
    }

    #[test]
    fn lines_stay_whole() {
        let mut logs = Logs::new(true);
        assert_eq!(written(&mut logs, b"on"), b"");
        assert_eq!(written(&mut logs, b"e\ntwo\nth"), b"one\ntwo\n");
        assert_eq!(written(&mut logs, b"ree\n"), b"three\n");
    }

    #[test]
    fn a_line_without_end_does_not_grow_for_ever() {
        let mut logs = Logs::new(true);
        let part = vec![b'x'; MAX_LINE];
        assert_eq!(written(&mut logs, &part), b"");
        assert_eq!(written(&mut logs, &part).len(), 2 * MAX_LINE);
        assert!(logs.line.is_empty());
    }
}
