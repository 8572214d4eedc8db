//! Text from the other side, made fit for a terminal.

/// Longest text that is shown, in bytes.
pub const MAX_TEXT: usize = 4 << 10;

/// The last [`MAX_TEXT`] bytes of `bytes` without anything that a terminal might obey: control
/// characters but newline and tab become `\u{fffd}`, as does what is not UTF-8. Blank lines and
/// trailing space are dropped.
pub fn printable(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(MAX_TEXT);
    let text = String::from_utf8_lossy(&bytes[start..]);
    let mut out = String::with_capacity(text.len());
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        out.extend(line.chars().map(|c| match c {
            '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        }));
    }
    out
}
