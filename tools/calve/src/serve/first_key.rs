//! A host that nobody can use gets a key for its owner: shown once on standard output, or left in a file.
//!
//! The file is for services. What they print is kept in a log that others may read; the file is its owner's alone, as the ledger
//! is that has the key as well.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use calve_manager::auth::Keyring;

use crate::failure::{Failure, Status};
use crate::stdio;

/// The tenant of the key.
const OWNER: &str = "root";

/// Makes a root key where there is none.
pub(super) fn ensure(keyring: &Keyring, file: Option<&Path>) -> Result<(), Failure> {
    let tenants = keyring.tenants();
    let has_root =
        tenants.iter().any(|tenant| keyring.list_keys(&tenant.name).iter().any(|key| key.root));
    if has_root {
        return Ok(());
    }
    let key = keyring.create_key(OWNER, true);
    let key = key.map_err(|e| Failure::of(Status::Host, &e).about("root key"))?;
    let Some(path) = file else {
        return stdio::print_line(format!("root key: {} {}", key.id, key.secret));
    };
    // In the form of CALVE_KEY.
    match leave(path, &format!("{}:{}\n", key.id, key.secret)) {
        Ok(()) => {
            stdio::say(format_args!("a first root key is in {}", path.display()));
            Ok(())
        }
        Err(error) => {
            // Nobody knows it: the next start makes another.
            let _ = keyring.remove_key(&key.id);
            Err(Failure::of(Status::Usage, &error).about(path.display()))
        }
    }
}

/// Writes a new file, on disk when this returns. One that is there already is an older key's: somebody may still need it.
fn leave(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key would keep the next start from leaving a whole one.
        let _ = fs::remove_file(path);
    }
    written
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
    fn a_key_that_cannot_be_left_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (keyring, file) = (keyring(folder.path()), folder.path().join("root-key"));
        fs::write(&file, "older").unwrap();
        let failure = ensure(&keyring, Some(&file)).unwrap_err();
        assert!(failure.line().contains("root-key"), "{}", failure.line());
        assert!(keyring.list_keys(OWNER).is_empty());
        assert_eq!(fs::read_to_string(&file).unwrap(), "older");
    }
}
