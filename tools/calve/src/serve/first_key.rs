//! A host that nobody can use gets a key for its owner: shown once on standard output, or left in a file.
//!
//! The file is for services. What they print is kept in a log that others may read; the file is its owner's alone, as the ledger
//! is that has the key as well.
//!
//! The key is told first and goes into the ledger then: a host that is killed between the two has left a key that opens nothing,
//! and its next start leaves another in its place. The other way round there would be a root key that nobody knows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use calve_manager::auth::Keyring;
use calve_manager::model::AccessKey;
use nix::fcntl::OFlag;

use crate::failure::{Failure, Status};
use crate::stdio;

/// The tenant of the key.
const OWNER: &str = "root";

/// Bytes of a key in a file: id, colon, secret, line feed.
const LENGTH: usize = 20 + 1 + 40 + 1;

/// Makes a root key where there is none.
pub(super) fn ensure(keyring: &Keyring, file: Option<&Path>) -> Result<(), Failure> {
    let tenants = keyring.tenants();
    let has_root =
        tenants.iter().any(|tenant| keyring.list_keys(&tenant.name).iter().any(|key| key.root));
    if has_root {
        return Ok(());
    }
    let refused = |error: &_| Failure::of(Status::Host, error).about("root key");
    let key = Keyring::mint_key(OWNER, true).map_err(|error| refused(&error))?;
    let Some(path) = file else {
        stdio::print_line(format!("root key: {} {}", key.id, key.secret))?;
        return keyring.add_key(&key).map_err(|error| refused(&error));
    };
    leave(path, &key).map_err(|error| Failure::of(Status::Usage, &error).about(path.display()))?;
    keyring.add_key(&key).map_err(|error| refused(&error))?;
    stdio::say(format_args!("a first root key is in {}", path.display()));
    Ok(())
}

/// Writes a key into a file, on disk when this returns: as a whole, in the form of `CALVE_KEY`. A key that is there already
/// opens nothing, as there is no root key, and makes way; what is no key was not left here, and stays.
fn leave(path: &Path, key: &AccessKey) -> io::Result<()> {
    match is_key(path) {
        Ok(true) => {}
        Ok(false) => return Err(ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // For its owner alone; removed again unless it comes to its place.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(format!("{}:{}\n", key.id, key.secret).as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

/// Whether a file holds a key, and nothing else. No symlink is followed and no pipe waited for: the place may be one where
/// others write.
fn is_key(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(false);
    }
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let mut bytes = Vec::new();
    file.take(LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    let colon = bytes.get(20) == Some(&b':');
    Ok(bytes.len() == LENGTH && colon && bytes.starts_with(b"AKIA") && bytes.ends_with(b"\n"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use calve_manager::ledger::SqliteLedger;

    use super::*;

    fn keyring(folder: &Path) -> Keyring {
        let ledger = SqliteLedger::open(&folder.join("host.db")).unwrap();
        Keyring::open(Arc::new(ledger)).unwrap()
    }

    #[test]
    fn the_first_key_is_left_in_a_file_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let (keyring, file) = (keyring(folder.path()), folder.path().join("root-key"));
        ensure(&keyring, Some(&file)).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let (id, secret) = text.strip_suffix('\n').unwrap().split_once(':').unwrap();
        let keys = keyring.list_keys(OWNER);
        assert_eq!((keys.len(), &*keys[0].id, &*keys[0].secret), (1, id, secret));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // Once.
        fs::remove_file(&file).unwrap();
        ensure(&keyring, Some(&file)).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn a_key_that_was_made_before_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let (keyring, file) = (keyring(folder.path()), folder.path().join("root-key"));
        keyring.create_key("ops", true).unwrap();
        ensure(&keyring, Some(&file)).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn a_key_that_a_killed_start_has_left_makes_way() {
        let folder = tempfile::tempdir().unwrap();
        let (keyring, file) = (keyring(folder.path()), folder.path().join("root-key"));
        leave(&file, &Keyring::mint_key(OWNER, true).unwrap()).unwrap();
        let before = fs::read_to_string(&file).unwrap();
        assert_eq!(before.len(), LENGTH);
        ensure(&keyring, Some(&file)).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_ne!(text, before);
        let keys = keyring.list_keys(OWNER);
        assert_eq!(keys.len(), 1);
        assert_eq!(text, format!("{}:{}\n", keys[0].id, keys[0].secret));
    }

    #[test]
    fn a_key_that_cannot_be_left_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (keyring, file) = (keyring(folder.path()), folder.path().join("root-key"));
        fs::write(&file, "older").unwrap();
        let failure = ensure(&keyring, Some(&file)).unwrap_err();
        assert!(failure.line().contains("root-key"), "{}", failure.line());
        assert!(keyring.list_keys(OWNER).is_empty());
        assert_eq!(fs::read_to_string(&file).unwrap(), "older");
        // Nor where nothing can be written; nothing is left behind.
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(ensure(&keyring, Some(&file)).is_err());
        assert!(ensure(&keyring, Some(&folder.path().join("none/root-key"))).is_err());
        assert!(keyring.list_keys(OWNER).is_empty());
    }
}
