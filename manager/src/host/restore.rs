//! Snapshots that cannot be opened any more: found at the start, by calls, and by machines that were to be made ahead.
//!
//! Their versions are marked as such in the ledger and built anew like any other; a host that dies in between goes on with
//! that at its next start.

use std::error::Error;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;

use super::Host;
use crate::api::ApiError;
use crate::engine::{EngineError, chain};

/// Looks at all snapshots once, one after the other, so that what another program or another processor has left is found
/// before somebody calls it; and hears of those that are `lost`.
pub(super) fn start(host: &Arc<Host>, mut lost: UnboundedReceiver<String>) {
    let (weak, names) = (Arc::downgrade(host), host.control.snapshots());
    tokio::spawn(async move {
        for name in names {
            let Some(host) = weak.upgrade().filter(|host| !host.is_draining()) else { return };
            if let Err(error) = spawn_blocking(move || host.check(&name)).await {
                tracing::error!(%error, "cannot look at a snapshot");
            }
        }
    });
    let weak = Arc::downgrade(host);
    tokio::spawn(async move {
        while let Some(name) = lost.recv().await {
            let Some(host) = weak.upgrade() else { return };
            let restored = spawn_blocking(move || host.check(&name)).await;
            if let Err(error) = restored {
                tracing::error!(%error, "cannot restore a snapshot");
            }
        }
    });
}

impl Host {
    /// Looks at a snapshot, and has it built anew if it cannot be opened any more. Blocks.
    fn check(&self, name: &str) {
        match self.engine.check(name) {
            Ok(()) => {}
            Err(error @ EngineError::Snapshot { .. }) => {
                // What cannot be written down now is found again by whoever calls it.
                let _ = self.restore(name, &error);
            }
            Err(error) => {
                tracing::warn!(snapshot = name, why = chain(&error), "cannot look at a snapshot");
            }
        }
    }

    /// Has a snapshot built anew that cannot be opened, if calls are answered from it. Blocks.
    ///
    /// # Errors
    ///
    /// When that cannot be taken down.
    pub(crate) fn restore(&self, name: &str, why: &dyn Error) -> Result<(), ApiError> {
        let why = why.source().map_or_else(|| why.to_string(), chain);
        match self.control.lose(name) {
            Ok(true) => {
                tracing::error!(snapshot = name, why, "a snapshot is lost; it is built anew");
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => {
                tracing::error!(snapshot = name, why, %error, "a snapshot is lost, and cannot be marked so");
                Err(error)
            }
        }
    }
}
