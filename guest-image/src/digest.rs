//! SHA-256 of files, and the keys that name cache entries.

use crate::fsutil::{FileError, in_file};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Hex digits of a cache key. 80 bits: keys only have to differ between recipes that one machine ever builds.
const KEY_DIGITS: usize = 20;

/// The SHA-256 of a file's bytes, in hex.
pub(crate) fn of_file(path: &Path) -> Result<String, FileError> {
    let mut file = File::open(path).map_err(in_file("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(in_file("read", path))? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Hashes named inputs into a key. Each field is preceded by its length, so that no two lists of fields collide by
/// running into each other.
pub(crate) struct Key(Sha256);

impl Key {
    /// Starts a key; `kind` keeps keys of different entry kinds apart.
    pub(crate) fn new(kind: &str) -> Self {
        Self(Sha256::new()).field(kind)
    }

    /// Adds one input.
    pub(crate) fn field(mut self, value: &str) -> Self {
        self.0.update((value.len() as u64).to_le_bytes());
        self.0.update(value);
        self
    }

    /// Adds a list of inputs, its length included.
    pub(crate) fn fields<'a>(self, values: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let key = self.field(&values.len().to_string());
        values.fold(key, Self::field)
    }

    /// The finished key.
    pub(crate) fn finish(self) -> String {
        let mut digits = hex::encode(self.0.finalize());
        digits.truncate(KEY_DIGITS);
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_digest_is_the_standard_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-4, appendix B.1.
        assert_eq!(
            of_file(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn keys_depend_on_kind_order_and_field_borders() {
        let key =
            |kind: &str, fields: &[&str]| Key::new(kind).fields(fields.iter().copied()).finish();
        let one = key("root", &["ab", "c"]);
        assert_eq!(one.len(), KEY_DIGITS);
        assert_eq!(one, key("root", &["ab", "c"]));
        for other in [
            key("kernel", &["ab", "c"]),
            key("root", &["a", "bc"]),
            key("root", &["c", "ab"]),
            key("root", &["abc"]),
        ] {
            assert_ne!(one, other);
        }
    }
}
