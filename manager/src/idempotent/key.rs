//! Which calls are the same work.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::canonical::canonical;

/// The header in which a caller gives a key of its own.
pub const KEY_HEADER: &str = "x-calve-idempotency-key";

/// Characters of a caller's own key.
pub const LONGEST_KEY: usize = 256;

/// What names the format of what is hashed; another format, another name.
const DOMAIN: &[u8] = b"calve/idempotent/1";

/// What a key is about, besides the event.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// Whose.
    pub tenant: &'a str,
    /// Which function.
    pub function: &'a str,
    /// The lineage of the snapshot that would answer: another code or configuration has another. Not the snapshot's name: one
    /// that was lost and built anew has the records of before.
    pub lineage: &'a str,
    /// Environment variables of the version.
    pub environment: &'a BTreeMap<String, String>,
    /// Names of the resources that it depends on. With others it is other work: calls of before and after a change of
    /// policy never join.
    pub resources: &'a [String],
}

/// The key of a piece of work: equal for equal work, SHA-256 as hex. Holds its tenant and its function.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// The key of a call by its event. Takes time that grows with the event; do not call it where nothing may block.
    ///
    /// What is not JSON is the same only if its bytes are.
    pub fn of_event(work: Work<'_>, event: &[u8]) -> Self {
        match canonical(event) {
            Some(text) => Self::digest(work, b"event", text.as_bytes()),
            None => Self::digest(work, b"bytes", event),
        }
    }

    /// The key of a call by what its caller says, whatever the event.
    pub fn of_caller(work: Work<'_>, own: &OwnKey) -> Self {
        Self::digest(work, b"caller", own.0.as_bytes())
    }

    /// 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn digest(work: Work<'_>, kind: &[u8], what: &[u8]) -> Self {
        let mut hash = Sha256::new();
        // Each with its length, each list with its number: no two works run together to the same bytes.
        let mut add = |field: &[u8]| {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        };
        for field in [DOMAIN, work.tenant.as_bytes(), work.function.as_bytes()] {
            add(field);
        }
        add(work.lineage.as_bytes());
        add(&(work.environment.len() as u64).to_le_bytes());
        for (name, value) in work.environment {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        add(&(work.resources.len() as u64).to_le_bytes());
        work.resources.iter().for_each(|name| add(name.as_bytes()));
        add(kind);
        add(what);
        Self(hex::encode(hash.finalize()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

/// A key that a caller gives: 1 to 256 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKey(String);

impl OwnKey {
    /// The value of [`KEY_HEADER`].
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn parse(value: &[u8]) -> Result<Self, OwnKeyError> {
        let printable = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
        match std::str::from_utf8(value) {
            Ok(text) if printable && (1..=LONGEST_KEY).contains(&value.len()) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(OwnKeyError),
        }
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A caller's key is too short, too long, or not printable ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("1 to {LONGEST_KEY} printable ASCII characters")]
pub struct OwnKeyError;
