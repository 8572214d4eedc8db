//! File drops: a version of a file becomes a message, and is moved away or remembered.
//!
//! ```text
//!  look: regular file, complete, not remembered
//!    └─► read: SHA-256 ─► deliver: message, and "remembered" in the position ─► move to .done ─► forget
//! ```
//!
//! A version is a name with an inode, a size and a modification time. That it has been delivered is written in the
//! transaction of its message, and stays so until its file has been moved (which is on disk before the next position
//! is) or, where files stay, is gone. A host that is killed anywhere in between finds the file remembered and only
//! moves it. So each version makes one message, but for this:
//!
//! - A writer who puts one file in the place of another before that was looked at has replaced it.
//! - The same in the instant between look and move: the new file is moved, noticed, and moved back. A host that is killed
//!   in that instant leaves it in `.done` without a message.
//! - A file that is opened for writing again and kept open after its writer has closed it is taken as it was closed.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::deliver::{Identity, Undelivered};
use super::inbox::{Inbox, Moved, Stamp};
use super::registry::Live;
use super::settings::Kind;
use super::survey::Survey;
use super::watch::Watch;
use super::{Events, record, table};

/// Files of one transaction.
const LOT: usize = 256;
/// Bytes of events of one transaction, about.
const LOT_BYTES: usize = 8 << 20;

/// Files that can be remembered because they stay. More than that are not looked at until some are gone.
const MOST_KEPT: usize = 100_000;

/// What is known of a folder between two looks at it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Versions that have been delivered and are still there; none before the ledger was asked.
    taken: Option<BTreeSet<u64>>,
    /// Names of files that are complete.
    pub(super) ready: HashSet<OsString>,
    /// Of a table.
    pub(super) table: table::Memory,
}

/// A source's position.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Position {
    taken: BTreeSet<u64>,
}

/// What became of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Everything that is complete has been delivered.
    All,
    /// There are files of which that is not known yet.
    Unsettled,
    /// The function has too much to do.
    Swamped,
}

/// A file that is to become a message.
pub(super) struct Candidate {
    pub(super) name: OsString,
    pub(super) stamp: Stamp,
    pub(super) identity: Identity,
}

/// One look at a folder. Blocks.
struct Look<'a> {
    events: &'a Events,
    live: &'a Arc<Live>,
    inbox: Inbox,
    inline: bool,
    keep: bool,
    taken: BTreeSet<u64>,
}

/// Takes what is complete: the files that memory has as ready and, if `scan`, all others that are.
pub(super) fn take(
    events: &Events,
    live: &Arc<Live>,
    watch: &Watch,
    memory: &mut Memory,
    scan: bool,
) -> Result<Taken, Undelivered> {
    let Kind::FileDrop { folder, inline, keep } = &live.settings.source else {
        return Ok(Taken::All);
    };
    let inbox = Inbox::open(&events.parts.files, &live.source.tenant, folder)?;
    if scan {
        // Before looking: what is closed after the look is told.
        if let Err(error) = watch.add(&inbox, &live.source.id) {
            tracing::warn!(source = live.source.id, %error, "a folder cannot be watched: it is scanned only");
        }
    }
    let taken = match memory.taken.take() {
        Some(taken) => taken,
        None => position(events, live)?,
    };
    let mut look = Look { events, live, inbox, inline: *inline, keep: *keep, taken };
    let outcome = look.run(&mut memory.ready, scan);
    if !matches!(outcome, Err(Undelivered::Ledger(_))) {
        memory.taken = Some(look.taken);
    }
    outcome
}

fn position(events: &Events, live: &Live) -> Result<BTreeSet<u64>, Undelivered> {
    let text = events.parts.ledger.position(&live.source.id)?;
    Ok(serde_json::from_str::<Position>(&text).unwrap_or_default().taken)
}

impl Look<'_> {
    fn run(&mut self, ready: &mut HashSet<OsString>, scan: bool) -> Result<Taken, Undelivered> {
        let (mut candidates, mut outcome) = (Vec::new(), Taken::All);
        if scan {
            if self.scan(ready, &mut candidates)? {
                outcome = Taken::Unsettled;
            }
        } else {
            for name in ready.iter() {
                if let Some(stamp) = self.inbox.stamp(name)? {
                    candidates.push(self.candidate(name.clone(), stamp));
                }
            }
        }
        // What is ready stays so until it is delivered: this may end early.
        let ready_now = std::mem::take(ready);
        let mut rest = candidates.into_iter().peekable();
        while rest.peek().is_some() {
            if self.events.is_swamped(self.live)? {
                *ready = rest.map(|candidate| candidate.name).collect();
                return Ok(Taken::Swamped);
            }
            if let Err(error) = self.lot(&mut rest, ready) {
                *ready = ready_now;
                return Err(error);
            }
        }
        Ok(outcome)
    }

    fn candidate(&self, name: OsString, stamp: Stamp) -> Candidate {
        let identity = Identity::of(
            &self.live.source.id,
            &[
                name.as_bytes(),
                &stamp.file.1.to_be_bytes(),
                &stamp.size.to_be_bytes(),
                &stamp.modified.0.to_be_bytes(),
                &stamp.modified.1.to_be_bytes(),
            ],
        );
        Candidate { name, stamp, identity }
    }

    /// Lists the folder, and forgets what is not there any more. Whether there is anything that cannot be judged yet.
    fn scan(
        &mut self,
        ready: &HashSet<OsString>,
        candidates: &mut Vec<Candidate>,
    ) -> Result<bool, Undelivered> {
        let listed = self.inbox.list()?;
        let listed: Vec<_> =
            listed.into_iter().map(|(name, stamp)| self.candidate(name, stamp)).collect();
        let there: BTreeSet<u64> = listed.iter().map(|found| found.identity.short()).collect();
        self.taken.retain(|taken| there.contains(taken));
        let mut survey = None;
        let mut unsettled = false;
        for found in listed {
            let is_taken = self.taken.contains(&found.identity.short());
            if is_taken && self.keep {
                continue;
            }
            let known = is_taken || ready.contains(&found.name);
            let mut is_settled = || {
                let survey = survey.get_or_insert_with(Survey::take);
                survey.is_settled(&found.stamp, self.events.now())
            };
            if known || is_settled() {
                candidates.push(found);
            } else {
                unsettled = true;
            }
        }
        Ok(unsettled)
    }

    /// Takes some of the candidates. Those that turn out to be another version are ready again.
    fn lot(
        &mut self,
        rest: &mut impl Iterator<Item = Candidate>,
        ready: &mut HashSet<OsString>,
    ) -> Result<(), Undelivered> {
        let (mut lot, mut messages, mut bytes) = (Vec::new(), Vec::new(), 0);
        while lot.len() < LOT && bytes < LOT_BYTES {
            let Some(candidate) = rest.next() else { break };
            if self.taken.contains(&candidate.identity.short()) {
                // Delivered, but not moved yet.
                lot.push(candidate);
                continue;
            }
            if self.keep && self.taken.len() + messages.len() >= MOST_KEPT {
                tracing::warn!(source = self.live.source.id, "too many files stay: the rest waits");
                rest.for_each(drop);
                break;
            }
            match self.inbox.read(&candidate.name, &candidate.stamp, self.inline) {
                Ok(Some(content)) => {
                    let message = record::message(self.events, self.live, &candidate, &content);
                    bytes += message.event.len();
                    messages.push(message);
                    lot.push(candidate);
                }
                // Its writer will close it again, or a scan finds it.
                Ok(None) => {}
                // The others go on.
                Err(error) => {
                    let source = self.live.source.id.as_str();
                    tracing::warn!(source, name = ?candidate.name, %error, "a file cannot be read");
                }
            }
        }
        if !messages.is_empty() {
            let taken = &self.taken | &lot.iter().map(|one| one.identity.short()).collect();
            let position = json!(Position { taken: taken.clone() }).to_string();
            self.events.deliver(self.live, &position, &messages)?;
            self.taken = taken;
        }
        if !self.keep {
            self.put_away(&lot, ready)?;
        }
        Ok(())
    }

    fn put_away(
        &mut self,
        lot: &[Candidate],
        ready: &mut HashSet<OsString>,
    ) -> Result<(), Undelivered> {
        let mut gone = Vec::new();
        for Candidate { name, stamp, identity } in lot {
            match self.inbox.put_away(name, stamp, &format!("{:016x}", identity.short())) {
                Ok(moved) => {
                    gone.push(identity.short());
                    if moved == Moved::Replaced {
                        ready.insert(name.clone());
                    }
                }
                // It is remembered, and moved when that can be done.
                Err(error) => {
                    let source = self.live.source.id.as_str();
                    tracing::warn!(source, ?name, %error, "a file cannot be moved to .done");
                }
            }
        }
        if !gone.is_empty() {
            self.inbox.sync()?;
        }
        for identity in gone {
            self.taken.remove(&identity);
        }
        Ok(())
    }
}
