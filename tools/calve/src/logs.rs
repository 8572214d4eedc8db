//! What functions print, on stderr.
//!
//! One call at a time streams as it comes. Of several at a time each line is written whole, so that calls do not cut
//! each other's lines in two. A terminal would obey control characters, and functions are anybody's: it is shown them instead.

use std::io::{self, IsTerminal as _, Write};

/// Longest line that is kept together, in bytes.
const MAX_LINE: usize = 64 << 10;
/// Begins U+0080 to U+00BF in UTF-8: control characters up to U+009F, then a space. Another call's output may have ended with it.
const LATIN: u8 = 0xc2;

/// Takes what one function prints.
#[derive(Debug)]
pub(crate) struct Logs {
    whole_lines: bool,
    line: Vec<u8>,
    /// For a terminal: the last byte that was written, where control characters are to be shown.
    shown: Option<u8>,
}

impl Logs {
    /// Streams bytes as they come, or, with `whole_lines`, line by line.
    pub(crate) fn new(whole_lines: bool) -> Self {
        Self { whole_lines, line: Vec::new(), shown: io::stderr().is_terminal().then_some(LATIN) }
    }

    /// Writes `bytes` to stderr. Logs that nobody can read are dropped.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let shown = self.shown.as_mut().map(|last| show(last, bytes));
        let _ = self.write_to(&mut io::stderr().lock(), shown.as_deref().unwrap_or(bytes));
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

/// Text with its control characters in caret notation, as `cat -v` has them, but for those that end lines and make columns.
/// `last` is the byte before it.
fn show(last: &mut u8, bytes: &[u8]) -> Vec<u8> {
    /// After [`LATIN`].
    const SPACE: u8 = 0xa0;
    let mut text = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\n' | b'\r' | b'\t' => text.push(byte),
            0..=0x1f | 0x7f => text.extend([b'^', byte ^ 0x40]),
            0x80..=0x9f if *last == LATIN => text.push(SPACE),
            _ => text.push(byte),
        }
        *last = byte;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_shown_what_it_would_obey() {
        let mut last = 0;
        let mut shown =
            |bytes: &[u8]| String::from_utf8_lossy(&show(&mut last, bytes)).into_owned();
        assert_eq!(shown(b"\x1b]0;title\x07 \x1b[2J\x7f"), "^[]0;title^G ^[[2J^?");
        let usual = "tab\tand line\r\n, \u{e9}\u{2028}\u{1f9ca}\u{c0}";
        assert_eq!(shown(usual.as_bytes()), usual);
        // CSI as one character, and cut in two.
        assert_eq!(shown("\u{9b}2J".as_bytes()), "\u{a0}2J");
        assert_eq!(show(&mut 0xc2, b"\x9b2J"), b"\xa02J");
    }

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
