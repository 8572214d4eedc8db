//! The names of functions' snapshots in the store, and whose they are.
//!
//! ```text
//! fn.<owner>.<digest>     owner: 16 hex digits, of one data folder      digest: 40, of tenant, function, version and revision
//! ```
//!
//! Hosts with data folders of their own may share a store, and a host may stop while another goes on: what a ledger does not
//! know is therefore not nobody's. The owner in a name says whose ledger knows it, and a host that looks for what nobody stands
//! for looks at its own alone.
//!
//! Who the owner is stands in the data folder's lock file, beside the machine's identity (machine-id(5)) and that file's own
//! inode number and time of birth. A copy of the folder has a lock file of its own and so becomes another owner, and so does a
//! folder that moves to another machine. Its ledger goes on to name snapshots of the first, and the host removes those when
//! their versions go, as its own: where the first still answers from them it builds them anew. Copies block by block, of a file
//! system or a virtual disk, that run on machines with one identity are the same owner: they must not share a store.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};

/// What names of functions' snapshots begin with.
const PREFIX: &str = "fn.";
/// Hex digits of an owner.
const OWNER: usize = 16;
/// Hex digits of what is the version's own.
const DIGEST: usize = 40;
/// More than there ever is in a lock file, in bytes.
const MOST: u64 = 256;

/// Whoever a data folder belongs to, in the names of snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner(String);

impl Owner {
    /// The owner of a data folder, by its lock file, which the caller holds. One that is new is written down.
    pub(super) fn of(lock: &File) -> io::Result<Self> {
        let place = place(&lock.metadata()?);
        let mut found = Vec::new();
        lock.take(MOST).read_to_end(&mut found)?;
        let found = String::from_utf8_lossy(&found);
        let known = found.strip_suffix('\n').and_then(|line| line.split_once(' '));
        if let Some((owner, _)) = known.filter(|(owner, at)| is_hex(owner, OWNER) && *at == place) {
            return Ok(Self(owner.to_owned()));
        }
        let owner = uuid::Uuid::new_v4().simple().to_string();
        let owner = Self(owner.get(..OWNER).unwrap_or(&owner).to_owned());
        if let Err(error) = write(lock, &format!("{} {place}\n", owner.0)) {
            // What it builds until it is stopped, its successor will take for another's: no reason not to start.
            tracing::warn!(%error, "cannot write down whose the data folder is");
        }
        Ok(owner)
    }

    /// The name of a version's snapshot: of nobody else's, and of no other revision's.
    pub(super) fn name(&self, [tenant, function, version, revision]: [&str; 4]) -> String {
        let mut hash = Sha256::new();
        for part in [tenant, function, version, revision] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let digest = hex::encode(hash.finalize());
        format!("{PREFIX}{}.{}", self.0, digest.get(..DIGEST).unwrap_or(&digest))
    }

    /// Whether a name is one that this owner gives.
    pub(super) fn gave(&self, name: &str) -> bool {
        let parts = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.'));
        parts.is_some_and(|(owner, digest)| owner == self.0 && is_hex(digest, DIGEST))
    }
}

/// What no copy of a file has, nor the file itself on another machine.
fn place(metadata: &Metadata) -> String {
    // Not every file system knows when a file was made.
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    format!("{} {} {}", metadata.ino(), born.unwrap_or_default().as_nanos(), machine.trim())
}

fn write(lock: &File, line: &str) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all_at(line.as_bytes(), 0)?;
    lock.sync_all()
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn owner(path: &Path) -> Owner {
        let mut options = File::options();
        let lock = options.create(true).truncate(false).read(true).write(true).open(path).unwrap();
        Owner::of(&lock).unwrap()
    }

    #[test]
    fn a_folder_has_one_owner_and_a_copy_of_it_another() {
        let folder = tempfile::tempdir().unwrap();
        let (lock, copy) = (folder.path().join("lock"), folder.path().join("copy"));
        let first = owner(&lock);
        assert_eq!(owner(&lock), first);
        std::fs::copy(&lock, &copy).unwrap();
        let second = owner(&copy);
        assert_ne!(second, first);
        assert_eq!((owner(&lock), owner(&copy)), (first.clone(), second));
        // It stays the folder's wherever that is moved to.
        let moved = folder.path().join("moved");
        std::fs::rename(&lock, &moved).unwrap();
        assert_eq!(owner(&moved), first);
    }

    #[test]
    fn what_is_no_owner_makes_way_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        let mut before = owner(&lock);
        let whole = std::fs::read(&lock).unwrap();
        for bad in [&b""[..], b"\n", b"\xff", &whole[1..], &whole[..whole.len() - 1], &[b'a'; 999]]
        {
            std::fs::write(&lock, bad).unwrap();
            let after = owner(&lock);
            assert_ne!(after, before);
            assert_eq!(owner(&lock), after);
            before = after;
        }
    }

    #[test]
    fn an_owner_knows_its_names_by_their_form() {
        let owner = Owner("0123456789abcdef".into());
        let name = owner.name(["acme", "f", "$LATEST", "r"]);
        assert!(name.len() <= 64, "the store allows no more");
        assert!(owner.gave(&name));
        assert_ne!(owner.name(["acme", "f$", "LATEST", "r"]), name);
        assert!(!Owner("0123456789abcdee".into()).gave(&name));
        let digest = &name[name.len() - DIGEST..];
        for other in [
            "fn.mine".to_owned(),
            "hello".to_owned(),
            format!("fn.{digest}"),
            format!(
                "fn.0123456789abcdef.{}",
                digest.to_uppercase().replace(|c: char| c.is_numeric(), "A")
            ),
            format!("{name}0"),
            format!("x{name}"),
            name[..name.len() - 1].to_owned(),
        ] {
            assert!(!owner.gave(&other), "{other}");
        }
    }
}
