//! Why a snapshot cannot be opened: for good, or because of what this host lacks at the moment.
//!
//! The difference matters. What is lost for good is built anew, which takes minutes and stops the function meanwhile; what
//! fails for want of descriptors or memory is as good as ever when others have let go of theirs.

use std::io;

use calve_fleet::OpenError;
use calve_snapshots::{Damage, Error as StoreError};
use nix::errno::Errno;

use crate::engine::EngineError;

/// The engine's error for it.
pub(super) fn unopened(snapshot: &str, error: OpenError) -> EngineError {
    if passes(&error) {
        return EngineError::Machine(error.into());
    }
    EngineError::Snapshot { snapshot: snapshot.to_owned(), source: error.into() }
}

/// Whether the same snapshot may be opened later.
fn passes(error: &OpenError) -> bool {
    match error {
        OpenError::Host(_) | OpenError::Memory { .. } => true,
        OpenError::State { .. } | OpenError::Runtime { .. } => false,
        OpenError::Store(error) => match error {
            StoreError::Io { source, .. } => is_want(source),
            StoreError::Damaged { damage: Damage::Read(source), .. } => is_want(source),
            // The store's permissions are wrong; or somebody is at it in this moment.
            StoreError::NotPrivate(_)
            | StoreError::NoSpace { .. }
            | StoreError::NameBusy(_)
            | StoreError::Replaced { .. } => true,
            _ => false,
        },
    }
}

/// Whether the system refuses for want of something, not for what the file is.
fn is_want(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(
            Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOMEM
                | Errno::EAGAIN
                | Errno::EINTR
                | Errno::EACCES
                | Errno::EPERM
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io_error(errno: Errno) -> StoreError {
        StoreError::Io { action: "open", path: "/store".into(), source: errno.into() }
    }

    fn damaged(damage: Damage) -> StoreError {
        StoreError::Damaged { name: "s".into(), file: "state".into(), damage }
    }

    #[test]
    fn what_is_wrong_with_the_snapshot_is_for_good() {
        let none = StoreError::NotFound { name: "s".into(), store: "/".into(), known: vec![] };
        for error in [
            none,
            StoreError::FormatVersion { name: "s".into(), found: 1 },
            StoreError::CpuFeatures { name: "s".into(), missing: vec!["avx".into()] },
            StoreError::Unsigned { name: "s".into() },
            damaged(Damage::Missing),
            damaged(Damage::Length { wanted: 1, found: 0 }),
            damaged(Damage::Read(Errno::EIO.into())),
            io_error(Errno::ENOENT),
        ] {
            let said = error.to_string();
            let error = unopened("s", error.into());
            assert!(matches!(error, EngineError::Snapshot { .. }), "{said}");
        }
        let source = "another map".into();
        let error = unopened("s", OpenError::State { name: "s".into(), source });
        assert!(matches!(error, EngineError::Snapshot { snapshot, .. } if snapshot == "s"));
    }

    #[test]
    fn what_the_host_lacks_is_not() {
        for error in [
            io_error(Errno::EMFILE),
            damaged(Damage::Read(Errno::ENFILE.into())),
            damaged(Damage::Read(Errno::ENOMEM.into())),
            StoreError::NotPrivate("/store".into()),
        ] {
            let said = error.to_string();
            assert!(matches!(unopened("s", error.into()), EngineError::Machine(_)), "{said}");
        }
        let source = Errno::EMFILE.into();
        let error = unopened("s", OpenError::Memory { name: "s".into(), source });
        assert!(matches!(error, EngineError::Machine(_)));
    }
}
