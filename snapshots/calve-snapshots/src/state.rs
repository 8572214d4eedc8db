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

#[cfg(test)]
mod tests;

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

const MAGIC: [u8; 8] = *b"CALVEST\n";

// The header is a contract with every file on disk: a change of it is a new STATE_VERSION.
const _: () = assert!(HEADER_LEN == MAGIC.len() + 2 + 2 + 4 + 8);
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

/// The fixed header, checked before anything behind it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Architecture of the machine.
    pub architecture: Architecture,
    /// Sections that follow.
    pub sections: usize,
    /// Length of the whole file in bytes, this header included.
    pub length: usize,
}

impl TryFrom<&[u8; HEADER_LEN]> for Header {
    type Error = StateError;

    fn try_from(bytes: &[u8; HEADER_LEN]) -> Result<Self, StateError> {
        let mut reader = Reader(bytes);
        if reader.array()? != MAGIC {
            return Err(StateError::Magic);
        }
        let version = u16::from_le_bytes(reader.array()?);
        if version != STATE_VERSION {
            return Err(StateError::Version(version));
        }
        let number = u16::from_le_bytes(reader.array()?);
        let architecture =
            Architecture::from_elf(number).ok_or(StateError::Architecture(number))?;
        let count = u64::from(u32::from_le_bytes(reader.array()?));
        let sections = bounded(count, MAX_SECTIONS).ok_or(StateError::TooManySections(count))?;
        let total = u64::from_le_bytes(reader.array()?);
        let length = bounded(total, MAX_STATE_LEN).ok_or(StateError::TooLong(total))?;
        Ok(Self { architecture, sections, length })
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

    /// The bytes of the `state` file.
    // The casts cannot truncate: `State::new` is the only constructor, and it bounds all of them.
    #[allow(clippy::cast_possible_truncation)]
    pub fn encode(&self) -> Vec<u8> {
        let length = self.encoded_len();
        let mut out = Vec::with_capacity(length);
        out.extend(MAGIC);
        out.extend(STATE_VERSION.to_le_bytes());
        out.extend((self.architecture as u16).to_le_bytes());
        out.extend((self.sections.len() as u32).to_le_bytes());
        out.extend((length as u64).to_le_bytes());
        for section in &self.sections {
            out.push(section.name.len() as u8);
            out.extend(section.name.as_bytes());
            out.extend(section.version.to_le_bytes());
            out.extend((section.bytes.len() as u32).to_le_bytes());
            out.extend(&section.bytes);
        }
        out
    }

    fn encoded_len(&self) -> usize {
        HEADER_LEN + self.sections.iter().map(Section::encoded_len).sum::<usize>()
    }
}

impl TryFrom<&[u8]> for State {
    type Error = StateError;

    fn try_from(bytes: &[u8]) -> Result<Self, StateError> {
        let (head, body) = bytes.split_first_chunk().ok_or(StateError::Magic)?;
        let header = Header::try_from(head)?;
        if header.length != bytes.len() {
            let (promised, found) = (header.length as u64, bytes.len() as u64);
            return Err(StateError::Length { promised, found });
        }
        let mut reader = Reader(body);
        // Not pre-sized by the count: a section takes at least eight bytes that must be there first.
        let mut sections = Vec::new();
        for _ in 0..header.sections {
            sections.push(reader.section()?);
        }
        if !reader.0.is_empty() {
            return Err(StateError::Trailing);
        }
        Self::new(header.architecture, sections)
    }
}

/// The bytes not yet read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(StateError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], StateError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(StateError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn section(&mut self) -> Result<Section, StateError> {
        let [name_len] = self.array()?;
        let name = self.bytes(usize::from(name_len))?;
        if !valid_name(name) {
            return Err(StateError::Name);
        }
        let name = String::from_utf8(name.to_vec()).map_err(|_| StateError::Name)?;
        let version = u16::from_le_bytes(self.array()?);
        let length = u32::from_le_bytes(self.array()?);
        let bytes =
            self.bytes(bounded(length.into(), MAX_STATE_LEN).ok_or(StateError::Truncated)?)?;
        Ok(Section { name, version, bytes: bytes.to_vec() })
    }
}

fn bounded(value: u64, limit: usize) -> Option<usize> {
    usize::try_from(value).ok().filter(|v| *v <= limit)
}

fn valid_name(name: &[u8]) -> bool {
    (1..=MAX_SECTION_NAME).contains(&name.len())
        && name.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}
