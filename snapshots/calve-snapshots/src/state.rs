//! The `state` file: machine state as named, versioned sections.
//!
//! The format knows nothing of what a section means: the machine core decides that, and converts
//! each section with its own `TryFrom`. Here the bytes are untrusted until they are digested and
//! every length in them is checked; decoding never panics and never allocates more than it was given.
//!
//! All integers are little-endian.
//!
//! ```text
//! header    magic "CALVEST\n" · format version u16 · architecture u16 (ELF e_machine)
//! (24 B)    · section count u32 · total length u64, header included
//! section   name length u8 · name · version u16 · length u32 · bytes
//! ```

use crate::Architecture;

mod codec;
#[cfg(test)]
mod tests;

pub use codec::Header;

/// The format version this crate reads and writes.
pub const STATE_VERSION: u16 = 1;
/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 24;
/// Largest `state` file, in bytes. Eight vCPUs with every device take some 200 KiB.
pub const MAX_STATE_LEN: usize = 16 << 20;
/// Most sections in one file.
pub const MAX_SECTIONS: usize = 1024;
/// Longest section name, in bytes.
pub const MAX_SECTION_NAME: usize = 64;

// Both are written in fewer bits than `usize` has.
const _: () = assert!(MAX_SECTION_NAME <= u8::MAX as usize && MAX_STATE_LEN <= u32::MAX as usize);

/// Why bytes are not a state file, or sections do not make one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum StateError {
    #[error("not a state file")]
    Magic,
    #[error("state format version {0}, this build reads {STATE_VERSION}")]
    Version(u16),
    #[error("unknown architecture number {0}")]
    Architecture(u16),
    #[error("{0} bytes of state, over the limit of {MAX_STATE_LEN}")]
    TooLong(u64),
    #[error("header promises {promised} bytes, file has {found}")]
    Length { promised: u64, found: u64 },
    #[error("{0} sections, over the limit of {MAX_SECTIONS}")]
    TooManySections(u64),
    #[error("a section ends beyond the end of the file")]
    Truncated,
    #[error("bytes left over after the last section")]
    Trailing,
    #[error(
        "a section name is not 1 to {MAX_SECTION_NAME} characters of a-z, 0-9, `.`, `_` and `-`"
    )]
    Name,
    #[error("section `{0}` occurs twice")]
    Duplicate(String),
}

/// One component's saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Which component, such as `vcpu.0`; 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`.
    pub name: String,
    /// Version of the component's own encoding.
    pub version: u16,
    /// The component's encoding, opaque here.
    pub bytes: Vec<u8>,
}

impl Section {
    fn encoded_len(&self) -> usize {
        1 + self.name.len() + 2 + 4 + self.bytes.len()
    }
}

/// A machine's state: sections with unique names, in the order they were saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    architecture: Architecture,
    sections: Vec<Section>,
}

impl State {
    /// Checks that `sections` can be written: names valid and unique, everything within bounds.
    pub fn new(architecture: Architecture, sections: Vec<Section>) -> Result<Self, StateError> {
        if sections.len() > MAX_SECTIONS {
            return Err(StateError::TooManySections(sections.len() as u64));
        }
        let mut seen = std::collections::BTreeSet::new();
        for section in &sections {
            if !valid_name(section.name.as_bytes()) {
                return Err(StateError::Name);
            }
            if !seen.insert(section.name.as_str()) {
                return Err(StateError::Duplicate(section.name.clone()));
            }
        }
        let state = Self { architecture, sections };
        match state.encoded_len() {
            n if n > MAX_STATE_LEN => Err(StateError::TooLong(n as u64)),
            _ => Ok(state),
        }
    }

    /// Architecture of the machine.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Every section, in the order saved.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The section called `name`.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    fn encoded_len(&self) -> usize {
        HEADER_LEN + self.sections.iter().map(Section::encoded_len).sum::<usize>()
    }
}

fn valid_name(name: &[u8]) -> bool {
    (1..=MAX_SECTION_NAME).contains(&name.len())
        && name.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}
