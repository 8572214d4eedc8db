//! Full disks: the one failure of a host's own that passes as soon as somebody makes room, so that it is told apart from
//! all others, to clients too.

use std::error::Error;
use std::io;

use crate::ledger::LedgerError;

/// Whether there was no room on a disk, or none that this user may have: said by the error itself or by any of its causes.
pub(crate) fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let system = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(system, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
            || matches!(error.downcast_ref(), Some(LedgerError::Full(_)))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::CodesError;

    fn io_error(kind: io::ErrorKind) -> CodesError {
        CodesError::Io { path: "/data".into(), source: kind.into() }
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        assert!(is_full(&io_error(io::ErrorKind::StorageFull)));
        assert!(is_full(&io_error(io::ErrorKind::QuotaExceeded)));
        assert!(!is_full(&io_error(io::ErrorKind::PermissionDenied)));
        let sqlite = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        assert!(is_full(&LedgerError::from(sqlite(rusqlite::ffi::SQLITE_FULL))));
        assert!(is_full(&LedgerError::from(sqlite(rusqlite::ffi::SQLITE_IOERR_SHMSIZE))));
        assert!(!is_full(&LedgerError::from(sqlite(rusqlite::ffi::SQLITE_IOERR))));
        let store = calve_snapshots::Error::NoSpace {
            path: "/store".into(),
            source: io::ErrorKind::StorageFull.into(),
        };
        assert!(is_full(&calve_fleet::BuildError::from(store)));
    }
}
