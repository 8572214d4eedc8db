//! The fleet's checks of this host, in the words of `calve doctor`.

use calve_fleet::host::{self, State};

use super::{Check, Verdict};

/// All of them, most important first.
pub(super) fn checks() -> Vec<Check> {
    host::survey().into_iter().map(Check::from).collect()
}

impl From<host::Check> for Check {
    fn from(check: host::Check) -> Self {
        let status = match check.state {
            State::Good => Verdict::Ok,
            State::Poor => Verdict::Warn,
            State::Bad => Verdict::Missing,
        };
        Self { name: check.name, status, found: check.found, remedy: check.remedy }
    }
}
