//! What the supervisor knows of a source, and when that is to work next.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::Id;
use tokio::time::Instant;

use super::deliver::Undelivered;
use super::registry::Live;
use super::table::Looked;
use super::take::{Memory, Taken};
use super::tick::Ticked;

/// Folders are scanned so often, in case a sign got lost; and the clock is looked at, in case it was set.
pub(super) const SCAN: Duration = Duration::from_secs(30);
/// And so often while there are files that were there before anybody watched and that are not settled.
const HURRIED_SCAN: Duration = Duration::from_secs(2);
/// How many times: then somebody is writing for long, and will tell when it is done.
const HURRIES: u32 = 30;
/// How long signs are gathered: files often come together.
pub(super) const GATHER: Duration = Duration::from_millis(5);
/// Tables are looked at so often: nobody tells when they change.
const POLL: Duration = Duration::from_secs(1);
/// How long a source rests whose function has too much to do.
pub(super) const REST: Duration = Duration::from_secs(1);

/// What a source did.
pub(super) enum Outcome {
    Took(Taken),
    Ticked(Ticked),
    Looked(Looked),
}

/// Work that is done.
pub(super) struct Done {
    pub(super) live: Arc<Live>,
    pub(super) memory: Memory,
    pub(super) outcome: Result<Outcome, Undelivered>,
}

/// What the task knows of a source.
pub(super) struct Runner {
    pub(super) live: Arc<Live>,
    /// With the thread while there is one.
    pub(super) memory: Memory,
    /// What came meanwhile.
    pub(super) ready: HashSet<OsString>,
    pub(super) working: Option<Id>,
    pub(super) wake: Instant,
    pub(super) not_before: Instant,
    pub(super) next_scan: Instant,
    pub(super) hurries: u32,
    pub(super) failures: u32,
}

impl Runner {
    pub(super) fn new(live: Arc<Live>, now: Instant) -> Self {
        Self {
            live,
            memory: Memory::default(),
            ready: HashSet::new(),
            working: None,
            wake: now,
            not_before: now,
            next_scan: now,
            hurries: HURRIES,
            failures: 0,
        }
    }

    /// When it is to work next.
    pub(super) fn due(&self) -> Instant {
        self.wake.min(self.next_scan).max(self.not_before)
    }

    pub(super) fn look(&mut self, now: Instant) {
        self.next_scan = now;
        self.hurries = HURRIES;
    }

    /// Takes the result of its work.
    pub(super) fn finish(&mut self, done: Done, clock: u64) {
        let now = Instant::now();
        self.working = None;
        if !Arc::ptr_eq(&self.live, &done.live) {
            // It is another now, and knows nothing.
            self.look(now);
            return;
        }
        self.memory = done.memory;
        let failed = done.outcome.is_err();
        self.failures = if failed { self.failures + 1 } else { 0 };
        self.wake = now + SCAN;
        match done.outcome {
            Ok(Outcome::Took(Taken::Unsettled)) if self.hurries > 0 => {
                self.hurries -= 1;
                self.next_scan = now + HURRIED_SCAN;
            }
            Ok(Outcome::Took(Taken::All | Taken::Unsettled)) => {}
            Ok(
                Outcome::Took(Taken::Swamped)
                | Outcome::Ticked(Ticked::Swamped)
                | Outcome::Looked(Looked::Swamped),
            ) => {
                self.not_before = now + REST;
                self.wake = now;
            }
            Ok(Outcome::Looked(Looked::All | Looked::Busy)) => self.wake = now + POLL,
            Ok(Outcome::Looked(Looked::Some)) => self.wake = now,
            Ok(Outcome::Ticked(Ticked::Next(next))) => {
                let until = next.map(|next| Duration::from_millis(next.saturating_sub(clock)));
                self.wake = now + until.unwrap_or(SCAN).min(SCAN);
            }
            // It will be another in a moment.
            Err(Undelivered::Stale) => self.not_before = now + REST,
            Err(error) => {
                let id = self.live.source.id.as_str();
                tracing::warn!(
                    source = id,
                    error = &error as &dyn std::error::Error,
                    "an event source failed"
                );
                self.not_before = now + (REST * (1 << (self.failures - 1).min(5))).min(SCAN);
                self.look(now);
            }
        }
        if !self.ready.is_empty() || !self.memory.ready.is_empty() {
            self.wake = now + GATHER;
        }
    }
}
