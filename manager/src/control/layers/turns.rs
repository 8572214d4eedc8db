//! Whose package is unpacked to be looked at: one at a time, as each may take 250 MiB of the disk and seconds of a
//! processor. Those that wait hold a thread each, so that a tenant may have few of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::{ApiError, ThrottleReason};

/// Packages of one tenant that are unpacked or wait for it.
const MOST: usize = 16;

/// Turns to unpack something.
#[derive(Debug, Default)]
pub(in crate::control) struct Turns {
    /// By tenant; no entry is zero.
    waiting: Mutex<HashMap<String, usize>>,
    gate: Mutex<()>,
}

/// A turn, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _gate: MutexGuard<'a, ()>,
    _place: Place<'a>,
}

/// A place among those that wait.
#[derive(Debug)]
struct Place<'a> {
    turns: &'a Turns,
    tenant: &'a str,
}

impl Turns {
    /// Waits for a turn. Refused to a tenant that has many waiting already.
    pub(super) fn take<'a>(&'a self, tenant: &'a str) -> Result<Turn<'a>, ApiError> {
        let place = self.queue(tenant)?;
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Turn { _gate: gate, _place: place })
    }

    fn queue<'a>(&'a self, tenant: &'a str) -> Result<Place<'a>, ApiError> {
        let mut waiting = self.waiting();
        let count = waiting.entry(tenant.to_owned()).or_default();
        if *count >= MOST {
            let text = format!("{MOST} layers of the tenant are being published: try again");
            return Err(ApiError::throttled(ThrottleReason::CallerRate, text, 1));
        }
        *count += 1;
        Ok(Place { turns: self, tenant })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.turns.waiting();
        if let Some(count) = waiting.get_mut(self.tenant) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_few_that_wait_and_others_have_theirs() {
        let turns = Turns::default();
        let places: Vec<_> = (0..MOST).map(|_| turns.queue("one").unwrap()).collect();
        assert_eq!(turns.take("one").unwrap_err().name, "TooManyRequestsException");
        drop(turns.take("two").unwrap());
        drop(places);
        drop(turns.take("one").unwrap());
        assert!(turns.waiting().is_empty());
    }
}
