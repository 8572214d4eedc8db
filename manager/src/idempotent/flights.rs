//! Runs that are under way in this process, and those who wait for them.
//!
//! ```text
//!  first ──► lead ── land ──► everybody who joined has the outcome
//!              └──── dropped ──► everybody who joined comes back: the first of them leads
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::watch;

use super::Key;

/// What came of a flight.
#[derive(Clone, Debug)]
pub(super) struct Outcome<F> {
    /// The result, or the failure.
    pub(super) result: Result<Bytes, F>,
    /// Whether it came from a record.
    pub(super) hit: bool,
    /// It is right for all who came until then; whoever came later may have seen a resource change first.
    pub(super) right_until: Instant,
}

/// All flights.
#[derive(Debug)]
pub(super) struct Flights<F>(Mutex<HashMap<Key, watch::Receiver<Option<Outcome<F>>>>>);

impl<F> Default for Flights<F> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A place in a flight.
pub(super) enum Seat<F> {
    /// The first: it is to do the work.
    Lead(Flight<F>),
    /// It is being done.
    Join(Joined<F>),
}

impl<F> Flights<F> {
    /// Joins the flight of a key, or begins one.
    pub(super) fn board(self: &Arc<Self>, key: &Key) -> Seat<F> {
        let mut flights = self.lock();
        if let Some(outcome) = flights.get(key) {
            return Seat::Join(Joined(outcome.clone()));
        }
        let (land, outcome) = watch::channel(None);
        flights.insert(key.clone(), outcome);
        Seat::Lead(Flight { flights: self.clone(), key: key.clone(), land })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Receiver<Option<Outcome<F>>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A flight, in the hands of its leader. Dropping it makes one of those who joined the leader of another.
pub(super) struct Flight<F> {
    flights: Arc<Flights<F>>,
    key: Key,
    land: watch::Sender<Option<Outcome<F>>>,
}

impl<F> Flight<F> {
    /// Ends it: who joined has the outcome, and who comes later begins another.
    pub(super) fn land(self, outcome: Outcome<F>) {
        self.land.send_replace(Some(outcome));
    }
}

impl<F> Drop for Flight<F> {
    fn drop(&mut self) {
        // Before the sender goes: who finds it gone must not find this flight again.
        self.flights.lock().remove(&self.key);
    }
}

/// A seat in somebody else's flight.
pub(super) struct Joined<F>(watch::Receiver<Option<Outcome<F>>>);

impl<F: Clone> Joined<F> {
    /// Waits for what comes of it; none if its leader has given it up.
    pub(super) async fn outcome(mut self) -> Option<Outcome<F>> {
        let outcome = self.0.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }
}
