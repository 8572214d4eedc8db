//! The time of this machine.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::Millis;

/// What tells the time. All hosts with one ledger must have the same, or nearly.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// Milliseconds since 1970. A clock that is set before that stands still.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
