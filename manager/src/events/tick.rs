//! Schedules: a tick becomes a message.
//!
//! A source's position is its last tick, written with that tick's message: each tick is delivered once, however often
//! the host stops in between. Of the ticks that passed while it was down, or while the function's queue was full, the
//! latest is delivered.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Events;
use super::arn;
use super::cron::{Timetable, iso};
use super::deliver::{Identity, Undelivered};
use super::registry::Live;
use super::settings::Kind;
use crate::model::Millis;

/// Delivers what is due; when the next tick is, if there will be one. `None` as well for other kinds of source.
pub(super) fn tick(events: &Events, live: &Arc<Live>) -> Result<Ticked, Undelivered> {
    let Kind::Schedule { expression, input, .. } = &live.settings.source else {
        return Ok(Ticked::Next(None));
    };
    // It was checked when it was set.
    let Ok(timetable) = Timetable::parse(expression) else {
        return Ok(Ticked::Next(None));
    };
    let position = events.parts.ledger.position(&live.source.id)?;
    let mut last = position.parse().unwrap_or(0).max(live.settings.since);
    if let Some(due) = timetable.due(last, events.now()) {
        if events.is_swamped(live)? {
            return Ok(Ticked::Swamped);
        }
        let id = Identity::of(&live.source.id, &[&due.to_be_bytes()]).id();
        let event = event(events, live, &id, due, input.as_ref());
        let message = events.message(live, id, event.to_string().into_bytes());
        events.deliver(live, &due.to_string(), &[message])?;
        last = due;
    }
    Ok(Ticked::Next(timetable.next_after(last, last)))
}

/// What became of a look at the clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ticked {
    /// What was due is delivered; the next tick.
    Next(Option<Millis>),
    /// The function has too much to do.
    Swamped,
}

/// The input, or what Amazon EventBridge sends without one.
fn event(events: &Events, live: &Live, id: &str, due: Millis, input: Option<&Value>) -> Value {
    if let Some(input) = input {
        return input.clone();
    }
    let account = events.account(&live.source.tenant);
    json!({
        "version": "0",
        "id": id,
        "detail-type": "Scheduled Event",
        "source": "calve.schedule",
        "account": account,
        "time": iso(due),
        "region": events.parts.region,
        "resources": [arn::of(&events.parts.region, &account, &live.source.id, &live.settings.source)],
        "detail": {},
    })
}
