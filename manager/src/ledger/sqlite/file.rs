//! How the file is made, opened and brought to the present format.
//!
//! The file has secrets, so it has mode 0600 from its first byte; SQLite gives the log and the index beside it the
//! same. It comes into being under another name and gets its own when it is whole: nobody finds it without its tables.
//! (Nor may it be made with [`std::fs::File`] in place: closing any descriptor of the file ends the locks that SQLite has
//! on it in the whole process, as POSIX wants it. See "How To Corrupt An SQLite Database File", §2.2.)

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::ledger::LedgerError;

/// What makes each format of the one before it.
const MIGRATIONS: [(u32, &str); 2] =
    [(1, include_str!("schema-1.sql")), (2, include_str!("schema-2.sql"))];

/// The latest format.
pub(super) const KNOWN: u32 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

/// Statements a connection keeps prepared; more than there are.
const STATEMENTS: usize = 64;

/// Bytes that the write-ahead log is cut back to after a burst.
const LOG_KEPT: u32 = 64 << 20;

/// Opens the file for writing; makes it where there is none. Its path, which holds whatever the working directory.
pub(super) fn open(path: &Path) -> Result<(PathBuf, Connection), LedgerError> {
    let failed = |source| LedgerError::File { path: path.to_owned(), source };
    if !path.try_exists().map_err(failed)? {
        create(path)?;
    }
    let path = path.canonicalize().map_err(failed)?;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        make_private(Path::new(&name)).map_err(failed)?;
    }
    let mut connection = connect(&path)?;
    migrate(&mut connection)?;
    Ok((path, connection))
}

/// Opens the file for reading.
pub(super) fn reader(path: &Path) -> Result<Connection, LedgerError> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Makes the file. No error if somebody else does so first.
fn create(path: &Path) -> Result<(), LedgerError> {
    let failed = |source| LedgerError::File { path: path.to_owned(), source };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let draft = tempfile::Builder::new().prefix(".ledger-").tempfile_in(directory);
    let draft = draft.map_err(failed)?.into_temp_path();
    let mut connection = connect(&draft)?;
    migrate(&mut connection)?;
    connection.close().map_err(|(_, error)| error)?;
    match draft.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(error.error));
        }
        _ => {}
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

/// Takes from group and others what they may do with the file.
fn make_private(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(metadata) if metadata.permissions().mode() & 0o077 == 0 => Ok(()),
        Ok(_) => std::fs::set_permissions(path, Permissions::from_mode(0o600)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn connect(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A file system without shared memory keeps its old mode: slower, as safe.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_KEPT, |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// Brings the file to the latest format.
fn migrate(connection: &mut Connection) -> Result<(), LedgerError> {
    if version(connection)? == KNOWN {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again, as another process may just have done it.
    let found = version(&transaction)?;
    if found > KNOWN {
        return Err(LedgerError::Version { found, known: KNOWN });
    }
    for (_, migration) in MIGRATIONS.iter().filter(|(number, _)| *number > found) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", KNOWN)?;
    transaction.commit()?;
    Ok(())
}

fn version(connection: &Connection) -> Result<u32, LedgerError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}
