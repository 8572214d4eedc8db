//! The states of files that results depend on. Everything here blocks.
//!
//! A tenant's files are in the folder of its name. Names are the tenant's, and so may be what is in its folder: the
//! kernel resolves them beneath that folder, through no symbolic link (openat2(2), `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`), and only regular files have a state.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use sha2::{Digest, Sha256};

use super::policy::{MOST_RESOURCES, check_name};

/// Bytes of a file that has a state.
pub const LARGEST_RESOURCE: u64 = 256 << 20;

/// Hashes that are remembered.
const REMEMBERED: usize = 16 << 10;

/// How long a file must have been left alone for its hash to be remembered. Its times are those of the kernel's tick:
/// a second change within one (10 ms at most) leaves no trace. With room for file systems that count whole seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// Bytes that are hashed at once.
const CHUNK: usize = 256 << 10;

/// The folder with the tenants' folders.
#[derive(Debug)]
pub struct Resources {
    folder: OwnedFd,
    hashes: Mutex<HashMap<Stamp, String>>,
}

/// What changes when a file's content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Resources {
    /// Takes the folder that has a folder for each tenant, by the tenant's name. It is the operator's: links on the way to
    /// it are followed.
    ///
    /// # Errors
    ///
    /// When there is no such folder.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = nix::fcntl::open(folder, flags, nix::sys::stat::Mode::empty())?;
        Ok(Self { folder, hashes: Mutex::default() })
    }

    /// The state of a tenant's file: its content's SHA-256, as hex. None if it cannot be told: there is no such file, the
    /// name is none, it is no regular file, it is too large, or somebody is writing it.
    ///
    /// What is written through a memory mapping counts from when the kernel notes the file as changed.
    pub fn state(&self, tenant: &str, name: &str) -> Option<String> {
        check_name(name).ok()?;
        check_name(tenant).ok().filter(|()| !tenant.contains('/'))?;
        let file = self.file(tenant, name).ok()?;
        let stamp = stamp(&file)?;
        if let Some(hash) = self.hashes().get(&stamp) {
            return Some(hash.clone());
        }
        let hash = hash(&file, stamp.size)?;
        // Of a file that was written meanwhile this is the hash of nothing that ever was.
        if self::stamp(&file)? != stamp {
            return None;
        }
        if settled(stamp, SystemTime::now()) {
            let mut hashes = self.hashes();
            if hashes.len() >= REMEMBERED {
                hashes.clear();
            }
            hashes.insert(stamp, hash.clone());
        }
        Some(hash)
    }

    /// The states of all `names` as one JSON object, to be compared as text. None if one of them cannot be told, or if
    /// they are more than a function may have.
    pub fn states(&self, tenant: &str, names: &[String]) -> Option<String> {
        if names.len() > MOST_RESOURCES {
            return None;
        }
        let state = |name: &String| Some((name.clone(), self.state(tenant, name)?));
        let states: BTreeMap<_, _> = names.iter().map(state).collect::<Option<_>>()?;
        serde_json::to_string(&states).ok()
    }

    fn file(&self, tenant: &str, name: &str) -> Result<File, Errno> {
        // In two steps, so that "beneath" is the tenant's folder and not everybody's.
        let tenant = beneath(&self.folder, tenant, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        // Opening a pipe must not wait for its writer, nor make a terminal ours.
        beneath(&tenant, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .map(File::from)
    }

    /// How many hashes are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.hashes().len()
    }

    fn hashes(&self) -> std::sync::MutexGuard<'_, HashMap<Stamp, String>> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn beneath(folder: impl AsFd, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(folder, name, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

/// None of what is no regular file, or too large.
pub(super) fn stamp(file: &File) -> Option<Stamp> {
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && metadata.size() <= LARGEST_RESOURCE).then(|| Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Whether the next change is sure to show. The change time alone says: a program can set the other.
pub(super) fn settled(stamp: Stamp, now: SystemTime) -> bool {
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(stamp.changed.0), u32::try_from(stamp.changed.1))
    else {
        return false;
    };
    let changed = Duration::new(seconds, nanos);
    now.duration_since(UNIX_EPOCH).is_ok_and(|now| now > changed + SETTLED)
}

/// Hashes `size` bytes, no more and no less.
fn hash(file: &File, size: u64) -> Option<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut content = file.take(size + 1);
    let mut read = 0;
    loop {
        match content.read(&mut chunk) {
            Ok(0) => break,
            Ok(some) => {
                hash.update(chunk.get(..some)?);
                read += some as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    (read == size).then(|| hex::encode(hash.finalize()))
}
