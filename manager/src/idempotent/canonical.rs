//! One text for all ways to write a JSON value, so that their hashes are equal.
//!
//! - Members of an object are sorted by name; space between tokens is left out.
//! - Strings are written anew: `"\u0061"` and `"a"` are the same. One with half of a surrogate pair, which is no Unicode, is
//!   kept as written.
//! - Numbers are kept as written. `1`, `1.0` and `1e0` differ, as a function may tell them apart (Python does) and no
//!   digit may be lost. At worst a call runs once more.
//! - Members of the same name are all kept, in their order: parsers disagree on which one counts.
//!
//! So different values never get the same text.

use serde::de::IgnoredAny;

/// Levels of arrays and objects: as many as `serde_json` reads.
const DEEPEST: usize = 128;

/// The canonical text of `json`; none if it is not JSON, or deeper than 128 levels.
pub(super) fn canonical(json: &[u8]) -> Option<String> {
    // Everything below relies on the grammar's having been checked.
    serde_json::from_slice::<IgnoredAny>(json).ok()?;
    let text = std::str::from_utf8(json).ok()?;
    let mut writer = Writer { rest: text.trim_start_matches(SPACE), out: String::new() };
    writer.value(0)?;
    Some(writer.out)
}

/// RFC 8259, §2: whitespace.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Reads valid JSON from `rest`, which never starts with space, and writes it to `out`.
struct Writer<'a> {
    rest: &'a str,
    out: String,
}

impl<'a> Writer<'a> {
    fn value(&mut self, depth: usize) -> Option<()> {
        match self.rest.as_bytes().first()? {
            b'{' | b'[' if depth == DEEPEST => None,
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => self.string(),
            _ => {
                let end = self.rest.find(|c| matches!(c, ',' | ']' | '}') || SPACE.contains(&c));
                let token = self.take(end.unwrap_or(self.rest.len()))?;
                self.out.push_str(token);
                Some(())
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take(1)?;
        self.out.push('[');
        while !self.skip("]") {
            self.value(depth)?;
            if self.skip(",") {
                self.out.push(',');
            }
        }
        self.out.push(']');
        Some(())
    }

    /// Writes the members as they come, and puts them in order afterwards if they were not.
    fn object(&mut self, depth: usize) -> Option<()> {
        self.take(1)?;
        self.out.push('{');
        let start = self.out.len();
        let mut members = Vec::new();
        while !self.skip("}") {
            let from = self.out.len() - start;
            self.string()?;
            let colon = self.out.len() - start;
            self.out.push(':');
            self.skip(":").then_some(())?;
            self.value(depth)?;
            members.push((from, colon, self.out.len() - start));
            if self.skip(",") {
                self.out.push(',');
            }
        }
        let written = self.out.get(start..)?;
        let name = |member: &(usize, usize, usize)| written.get(member.0..member.1);
        if !members.is_sorted_by_key(name) {
            let written = written.to_owned();
            // Stable: members of the same name keep their order.
            members.sort_by_key(|member| written.get(member.0..member.1));
            self.out.truncate(start);
            for (at, (from, _, to)) in members.into_iter().enumerate() {
                if at > 0 {
                    self.out.push(',');
                }
                self.out.push_str(written.get(from..to)?);
            }
        }
        self.out.push('}');
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        let mut escaped = false;
        let end = self.rest.bytes().skip(1).position(|byte| {
            let quote = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            quote
        })?;
        let written = self.take(end + 2)?;
        let again = if written.contains('\\') {
            serde_json::from_str::<String>(written)
                .ok()
                .and_then(|it| serde_json::to_string(&it).ok())
        } else {
            None
        };
        self.out.push_str(again.as_deref().unwrap_or(written));
        Some(())
    }

    /// The next `bytes`, and past the space after them.
    fn take(&mut self, bytes: usize) -> Option<&'a str> {
        let (token, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest.trim_start_matches(SPACE);
        Some(token)
    }

    /// Past `token`, if it is next.
    fn skip(&mut self, token: &str) -> bool {
        self.rest.starts_with(token) && self.take(token.len()).is_some()
    }
}
