//! The bytes of a `state` file, and back.

use super::{
    HEADER_LEN, MAX_SECTIONS, MAX_STATE_LEN, STATE_VERSION, Section, State, StateError, valid_name,
};
use crate::Architecture;

const MAGIC: [u8; 8] = *b"CALVEST\n";

// The header is a contract with every file on disk: a change of it is a new STATE_VERSION.
const _: () = assert!(HEADER_LEN == MAGIC.len() + 2 + 2 + 4 + 8);

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

impl State {
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
