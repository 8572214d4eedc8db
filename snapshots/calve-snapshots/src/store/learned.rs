//! What was learned of the calls of a snapshot since it was made: a working set that is the store's, not the snapshot's.
//!
//! ```text
//! learned/<id>    "calve-learned" version digest "\n" · the bytes of a working set      digest: SHA-256 of id and bytes, in hex
//! ```
//!
//! It belongs to an id: what is built anew under the same name has another, and nothing is known of it. It goes when no name
//! stands for that id any more, and does not travel with the snapshot.
//!
//! The digest tells what is damaged, or another snapshot's; it says nothing about who wrote it, and no signature covers it.
//! What is read back is taken for a stranger's: at most as long as a working set can be, of pages that the machine has, in
//! order. Within that, a bad one makes clones slower, and larger by memory that is theirs anyway; it cannot make them wrong.

use std::io::{self, Read as _, Write as _};

use nix::fcntl::FlockArg;

use super::Store;
use super::dir::Dir;
use crate::workset::{MAX_WORKSET_LEN, WorksetError};
use crate::{Digest, Error, Snapshot, Workset};

/// The directory; not there before something was learned.
const FOLDER: &str = "learned";
/// What a file begins with.
const MAGIC: &str = "calve-learned";
/// The version that this crate reads and writes.
const VERSION: u32 = 1;
/// Longest first line, in bytes.
const MAX_HEADER_LEN: usize = 128;

/// What was learned of a snapshot's calls cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LearnedError {
    /// The system refused.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// It is something else.
    #[error("it is no working set that was learned")]
    Magic,
    /// Another version of Calve wrote it.
    #[error("it has format version {0}, this build reads {VERSION}")]
    Version(u32),
    /// Its digest is wrong.
    #[error("it is damaged, or of another snapshot")]
    Digest,
    /// It is none of this machine.
    #[error(transparent)]
    Workset(#[from] WorksetError),
}

impl Store {
    /// Keeps what was learned of the calls of a snapshot, in place of what was learned before. Of a snapshot that is gone,
    /// nothing is kept.
    ///
    /// # Errors
    ///
    /// When it cannot be written; what was there before stays.
    pub fn learn(&self, snapshot: &Snapshot, workset: &Workset) -> Result<(), Error> {
        let id = snapshot.id();
        let bytes = encode(id, workset);
        let _lock = self.lock(FlockArg::LockExclusive)?;
        if !self.live()?.contains(&id) {
            return Ok(());
        }
        let learned = self.root.subdir_or_create(FOLDER)?;
        // A dotted name is swept away if this process dies here.
        let draft = format!(".learned-{}", id.hex());
        self.tmp.unlink(&draft)?;
        // Not fsynced: what is torn has another digest, and is learned once more.
        let mut file = self.tmp.create(&draft)?;
        let written = file.write_all(&bytes).map_err(Error::io("write", self.tmp.path_of(&draft)));
        let kept = written.and_then(|()| self.tmp.rename(&draft, &learned, &id.hex()));
        if kept.is_err() {
            let _ = self.tmp.unlink(&draft);
        }
        kept
    }

    /// What was learned of the calls of a snapshot, if anything was.
    ///
    /// # Errors
    ///
    /// When what is there is not to be used: nobody is worse off than without it.
    pub fn learned(&self, snapshot: &Snapshot) -> Result<Option<Workset>, LearnedError> {
        let Some(learned) = self.learned_folder() else { return Ok(None) };
        let file = match learned.read(&snapshot.id().hex()) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(LearnedError::Magic);
        }
        let mut bytes = Vec::new();
        file.take(MAX_HEADER_LEN as u64 + MAX_WORKSET_LEN + 1).read_to_end(&mut bytes)?;
        decode(snapshot.id(), &bytes, snapshot.manifest().machine.memory.size()).map(Some)
    }

    /// Removes what was learned of snapshots that no name stands for. The caller holds the store lock exclusively.
    pub(super) fn unlearn(&self) -> Result<(), Error> {
        let Some(learned) = self.learned_folder() else { return Ok(()) };
        let live = self.live()?;
        let mut gone = learned.names()?;
        gone.retain(|hex| Digest::from_hex(hex).is_none_or(|id| !live.contains(&id)));
        gone.iter().try_for_each(|hex| learned.remove(hex))
    }

    fn learned_folder(&self) -> Option<Dir> {
        self.root.stat(FOLDER).ok()?;
        self.root.subdir(FOLDER).ok()
    }
}

/// The digest of a working set as one of this snapshot.
fn digest(id: Digest, workset: &[u8]) -> String {
    Digest::of(&[id.hex().as_bytes(), workset].concat()).hex()
}

fn encode(id: Digest, workset: &Workset) -> Vec<u8> {
    let workset = workset.encode();
    let header = format!("{MAGIC} {VERSION} {}\n", digest(id, &workset));
    [header.as_bytes(), &workset].concat()
}

fn decode(id: Digest, bytes: &[u8], memory: u64) -> Result<Workset, LearnedError> {
    let end = bytes.iter().take(MAX_HEADER_LEN).position(|b| *b == b'\n');
    let (header, rest) = bytes.split_at(end.ok_or(LearnedError::Magic)?);
    let workset = rest.get(1..).unwrap_or_default();
    let header = str::from_utf8(header).map_err(|_| LearnedError::Magic)?;
    let rest = header.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' '));
    let (version, found) = rest.and_then(|rest| rest.split_once(' ')).ok_or(LearnedError::Magic)?;
    match version.parse() {
        Ok(VERSION) => {}
        Ok(other) => return Err(LearnedError::Version(other)),
        Err(_) => return Err(LearnedError::Magic),
    }
    if found != digest(id, workset) {
        return Err(LearnedError::Digest);
    }
    Ok(Workset::decode(workset, memory)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::workset::MAX_RUNS;

    const MEMORY: u64 = 1 << 30;

    fn id() -> Digest {
        Digest::of(b"a snapshot")
    }

    #[test]
    fn the_longest_that_there_is_can_be_read_back() {
        let pages = (0..u32::try_from(MAX_RUNS).unwrap()).map(|n| (2 * n, n % 3 == 0));
        let set = Workset::of_pages(pages);
        assert_eq!(decode(id(), &encode(id(), &set), MEMORY).unwrap(), set);
    }

    #[test]
    fn what_is_right_by_its_digest_is_still_checked_as_a_plan() {
        let set = Workset::of_pages([(5, true), (9, false)]);
        let bytes = encode(id(), &set);
        assert!(matches!(decode(id(), &bytes, 9 * 4096), Err(LearnedError::Workset(_))));
        assert_eq!(decode(id(), &bytes, 10 * 4096).unwrap(), set);
        // Out of order, as nothing of ours writes it.
        let mut records = set.encode();
        records.rotate_left(8);
        let header = format!("{MAGIC} {VERSION} {}\n", digest(id(), &records));
        let bytes = [header.as_bytes(), &records].concat();
        assert!(matches!(decode(id(), &bytes, MEMORY), Err(LearnedError::Workset(_))));
    }

    #[test]
    fn what_a_later_version_has_written_is_refused_as_such() {
        let bytes = encode(id(), &Workset::default());
        let text = String::from_utf8(bytes).unwrap().replacen(" 1 ", " 2 ", 1);
        let error = decode(id(), text.as_bytes(), MEMORY).unwrap_err();
        assert_eq!(error.to_string(), "it has format version 2, this build reads 1");
    }

    proptest! {
        #[test]
        fn any_bit_or_length_that_is_wrong_is_an_error(bit in 0..8 * 200_usize, cut in 0..200_usize) {
            let set = Workset::of_pages((0..20).map(|n| (3 * n, true)));
            let whole = encode(id(), &set);
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(id(), &flipped, MEMORY).is_err());
            prop_assert!(decode(id(), &whole[..cut], MEMORY).is_err());
            prop_assert!(decode(Digest::of(b"another"), &whole, MEMORY).is_err());
        }

        #[test]
        fn any_bytes_are_a_set_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(id(), &bytes, MEMORY).is_err());
        }
    }
}
