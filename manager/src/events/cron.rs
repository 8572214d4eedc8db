//! Schedule expressions: `rate(…)` and `cron(…)` as Amazon EventBridge has them, and the five fields of Unix.
//!
//! See "Schedule types in EventBridge Scheduler" of its user guide. Times are in UTC.

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use thiserror::Error;

use crate::model::Millis;

/// When a schedule is due.
#[derive(Clone, Debug)]
pub(super) enum Timetable {
    /// Every so often since a start.
    Rate(Millis),
    /// At certain times.
    Cron(Box<Cron>),
}

/// The text is no schedule.
#[derive(Debug, Error)]
#[error(
    "`{shown}` is no schedule ({why}): it is rate(5 minutes), cron(minutes hours day month weekday year) or the five fields of Unix"
)]
pub(super) struct NoSchedule {
    shown: String,
    why: String,
}

impl Timetable {
    /// Reads an expression.
    pub(super) fn parse(text: &str) -> Result<Self, NoSchedule> {
        let read = if let Some(inner) = within("rate(", text) {
            rate(inner).map(Self::Rate)
        } else if let Some(inner) = within("cron(", text) {
            aws(inner).map(|cron| Self::Cron(Box::new(cron)))
        } else {
            unix(text).map(|cron| Self::Cron(Box::new(cron)))
        };
        read.map_err(|why| NoSchedule { shown: text.chars().take(100).collect(), why })
    }

    /// The first tick after `after`; a rate counts from `start`.
    pub(super) fn next_after(&self, start: Millis, after: Millis) -> Option<Millis> {
        match self {
            Self::Rate(period) => {
                let passed = after.saturating_sub(start) / period;
                start.checked_add(passed.checked_add(1)?.checked_mul(*period)?)
            }
            Self::Cron(cron) => to_millis(cron.find_next_occurrence(&to_time(after)?, false).ok()?),
        }
    }

    /// The last tick after `last` that is not later than `now`, if there was any: what is due.
    pub(super) fn due(&self, last: Millis, now: Millis) -> Option<Millis> {
        let next = self.next_after(last, last).filter(|next| *next <= now)?;
        match self {
            Self::Rate(period) => Some(now - (now - last) % period),
            // There is one, so this does not search the centuries.
            Self::Cron(cron) => {
                let found = cron.find_previous_occurrence(&to_time(now)?, true).ok();
                Some(found.and_then(to_millis).unwrap_or(next).max(next))
            }
        }
    }
}

fn within<'a>(start: &str, text: &'a str) -> Option<&'a str> {
    text.trim().strip_prefix(start)?.strip_suffix(')')
}

fn rate(text: &str) -> Result<Millis, String> {
    let (count, unit) = text.trim().split_once(' ').ok_or("a rate is a number and a unit")?;
    let count: Millis = count.parse().map_err(|_| "a rate begins with a whole number")?;
    let unit: Millis = match unit.trim() {
        "second" | "seconds" => 1000,
        "minute" | "minutes" => 60_000,
        "hour" | "hours" => 3_600_000,
        "day" | "days" => 86_400_000,
        _ => return Err("its unit is seconds, minutes, hours or days".to_owned()),
    };
    // A century is as good as never.
    match count.checked_mul(unit) {
        Some(period) if (1..=100 * 366 * 86_400_000).contains(&period) => Ok(period),
        _ => Err("it is 1 second to 100 years".to_owned()),
    }
}

fn aws(text: &str) -> Result<Cron, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [_, _, day, _, weekday, _] = fields.as_slice() else {
        return Err("cron(…) has six fields".to_owned());
    };
    if (*day == "?") == (*weekday == "?") {
        return Err("either the day or the weekday is ?".to_owned());
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Required)
        // 1 is Sunday.
        .alternative_weekdays(true)
        // `0/15` is every 15 from 0 on.
        .sloppy_ranges(true)
        .build();
    parser.parse(&format!("0 {}", fields.join(" "))).map_err(|error| error.to_string())
}

fn unix(text: &str) -> Result<Cron, String> {
    if text.split_whitespace().count() != 5 {
        return Err("it has not five fields".to_owned());
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| error.to_string())
}

fn to_time(at: Millis) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(at).ok()?)
}

fn to_millis(time: DateTime<Utc>) -> Option<Millis> {
    u64::try_from(time.timestamp_millis()).ok()
}

/// A time as events and logs have it.
pub(super) fn iso(at: Millis) -> String {
    let time = to_time(at).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Millis {
        u64::try_from(text.parse::<DateTime<Utc>>().unwrap().timestamp_millis()).unwrap()
    }

    fn next(expression: &str, after: &str) -> String {
        let after = at(after);
        iso(Timetable::parse(expression).unwrap().next_after(after, after).unwrap())
    }

    #[test]
    fn knows_when_the_next_tick_is() {
        let after = "2026-11-28T12:00:00Z"; // A Saturday.
        for (expression, expected) in [
            ("rate(5 minutes)", "2026-11-28T12:05:00.000Z"),
            ("rate(1 hour)", "2026-11-28T13:00:00.000Z"),
            ("cron(0 12 * * ? *)", "2026-11-29T12:00:00.000Z"),
            ("cron(15 10 ? * 2 *)", "2026-11-30T10:15:00.000Z"),
            ("cron(15 10 ? * MON-FRI *)", "2026-11-30T10:15:00.000Z"),
            ("cron(0 8 1 * ? 2030)", "2030-01-01T08:00:00.000Z"),
            ("cron(0/15 * L * ? *)", "2026-11-30T00:00:00.000Z"),
            ("*/10 * * * *", "2026-11-28T12:10:00.000Z"),
            ("30 6 * * 1", "2026-11-30T06:30:00.000Z"),
        ] {
            assert_eq!(next(expression, after), expected, "{expression}");
        }
    }

    #[test]
    fn many_missed_ticks_are_one() {
        let (last, now) = (at("2026-11-01T00:00:00Z"), at("2026-11-28T12:34:56Z"));
        for (expression, expected) in [
            ("rate(1 hour)", Some("2026-11-28T12:00:00.000Z")),
            ("cron(0 12 * * ? *)", Some("2026-11-28T12:00:00.000Z")),
            ("*/10 * * * *", Some("2026-11-28T12:30:00.000Z")),
            ("rate(30 days)", None),
            ("cron(0 0 1 1 ? 2030)", None),
        ] {
            let due = Timetable::parse(expression).unwrap().due(last, now).map(iso);
            assert_eq!(due.as_deref(), expected, "{expression}");
        }
    }

    #[test]
    fn a_tick_is_due_once() {
        for expression in ["rate(1 minute)", "* * * * *"] {
            let timetable = Timetable::parse(expression).unwrap();
            let start = at("2026-11-28T12:00:00Z");
            assert_eq!(timetable.due(start, start + 59_999), None);
            assert_eq!(timetable.due(start, start + 60_000), Some(start + 60_000));
            assert_eq!(timetable.due(start + 60_000, start + 60_000), None);
        }
    }

    #[test]
    fn refuses_what_is_no_schedule() {
        for text in [
            "",
            "rate(0 minutes)",
            "rate(5 fortnights)",
            "rate(99999999999999999999 days)",
            "rate(5 minutes",
            "cron(0 12 * * *)",
            "cron(0 12 * * * *)",
            "cron(0 12 ? * ? *)",
            "cron(0 25 * * ? *)",
            "0 12 * * * *",
            "@daily",
        ] {
            assert!(Timetable::parse(text).is_err(), "{text}");
        }
    }
}
