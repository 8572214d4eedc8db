//! Snapshot names: safe as a file name, in a URL and on a command line.

use crate::Error;

/// Longest name, in bytes.
const MAX_NAME: usize = 64;

/// Accepts `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`. The first character keeps names apart from options
/// (`-x`), from `.` and `..`, and from the store's own entries, which begin with a dot.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let valid = name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if valid { Ok(()) } else { Err(Error::InvalidName(name.chars().take(MAX_NAME + 1).collect())) }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn names() {
        for good in ["a", "9", "py-3.11_x", &"n".repeat(64)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in
            ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "é", "a\n", "a\0", &"n".repeat(65)]
        {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
