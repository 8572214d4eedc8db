//! The kinds of event source, and what they may be set to.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cron::Timetable;
use crate::api::ApiError;
use crate::model::Millis;

/// Bytes of a file up to which its content may be part of the event.
pub const MOST_INLINE: u64 = 256 << 10;

/// The largest batch (`service-2.json`, `BatchSize`).
pub(super) const MOST_BATCH: u32 = 10_000;

/// Bytes of a schedule's input: what AWS allows for an asynchronous call's event.
const MOST_INPUT: usize = 256 << 10;

/// The longest name of a folder, and of a queue.
const LONGEST_NAME: usize = 80;

/// Folders within folders.
const DEEPEST: usize = 8;

/// What kind of source it is, and how it is set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// Each file that appears in a folder is an event.
    FileDrop {
        /// The folder, below the tenant's.
        folder: String,
        /// Whether events have the content of files of up to [`MOST_INLINE`], base64.
        #[serde(default)]
        inline: bool,
        /// Whether files stay where they are; otherwise they are moved to `.done` in the folder.
        #[serde(default)]
        keep: bool,
    },
    /// The clock.
    Schedule {
        /// `rate(5 minutes)`, `cron(0 12 * * ? *)` or `0 12 * * *`, in UTC.
        expression: String,
        /// The event; without, one like Amazon EventBridge's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
        /// `UTC`, the only one there is.
        #[serde(default = "utc")]
        timezone: String,
    },
    /// Messages that clients put.
    Queue {
        /// Its name: unique within the tenant.
        name: String,
        /// The most messages of one event.
        #[serde(default = "one")]
        batch_size: u32,
    },
    /// Each row that appears in a table is an event.
    Table {
        /// The SQLite database: a file in the tenant's folder.
        database: String,
        /// The table.
        table: String,
        /// Whether rows that are there already when the source is made are events, too.
        #[serde(default)]
        existing: bool,
    },
}

fn utc() -> String {
    "UTC".to_owned()
}

fn one() -> u32 {
    1
}

/// What the ledger keeps as a source's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What the client has set.
    pub source: Kind,
    /// What was due before then is none of its business: when it was made or last enabled, or got another timetable.
    pub since: Millis,
    /// Nor are a table's rows up to this one: they were there when it was made, or got another table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}

impl Kind {
    /// Refuses what cannot be.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        match self {
            Self::FileDrop { folder, .. } => check_folder(folder),
            Self::Schedule { expression, input, timezone } => {
                if timezone != "UTC" {
                    return Err(ApiError::invalid("timezone has to be UTC, or left out"));
                }
                let bytes = input.as_ref().map_or(0, |input| input.to_string().len());
                if bytes > MOST_INPUT {
                    return Err(ApiError::invalid(format!(
                        "input has {bytes} bytes: {MOST_INPUT} are the most"
                    )));
                }
                let timetable = Timetable::parse(expression)
                    .map_err(|error| ApiError::invalid(error.to_string()))?;
                // 2026: what has no time after that has none at all.
                timetable.next_after(1_767_225_600_000, 1_767_225_600_000).map(|_| ()).ok_or_else(
                    || ApiError::invalid(format!("the time of `{expression}` never comes")),
                )
            }
            Self::Queue { name, batch_size } => {
                if !is_name(name) {
                    return Err(ApiError::invalid(format!(
                        "the name of a queue has 1 to {LONGEST_NAME} letters, digits, - and _"
                    )));
                }
                if !(1..=MOST_BATCH).contains(batch_size) {
                    return Err(ApiError::invalid(format!(
                        "BatchSize has to be 1 to {MOST_BATCH}"
                    )));
                }
                Ok(())
            }
            Self::Table { database, table, .. } => check_table(database, table),
        }
    }

    /// Whether both are the same folder, queue or table: that can have one function only, as each event goes to one.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::FileDrop { folder, .. }, Self::FileDrop { folder: other, .. }) => {
                folder == other
            }
            (Self::Queue { name, .. }, Self::Queue { name: other, .. }) => name == other,
            (
                Self::Table { database, table, .. },
                Self::Table { database: other, table: other_table, .. },
            ) => database == other && table.eq_ignore_ascii_case(other_table),
            _ => false,
        }
    }
}

fn check_folder(folder: &str) -> Result<(), ApiError> {
    let parts: Vec<&str> = folder.split('/').collect();
    if parts.len() <= DEEPEST && parts.iter().all(|part| is_file_name(part)) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "a folder is 1 to {DEEPEST} names with / between them; a name has 1 to {LONGEST_NAME} letters, digits, -, _ and \
         dots, and does not begin with a dot"
    )))
}

fn check_table(database: &str, table: &str) -> Result<(), ApiError> {
    if !is_file_name(database) {
        return Err(ApiError::invalid(format!(
            "`{database}` is no database: that is a file right in the tenant's folder, 1 to {LONGEST_NAME} letters, \
             digits, -, _ and dots, the first of them no dot"
        )));
    }
    // SQLite's own begin like this.
    if !is_name(table) || table.to_ascii_lowercase().starts_with("sqlite_") {
        return Err(ApiError::invalid(format!(
            "the name of a table has 1 to {LONGEST_NAME} letters, digits, - and _, and does not begin with sqlite_"
        )));
    }
    Ok(())
}

fn is_file_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=LONGEST_NAME).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed)
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Kind> {
        serde_json::from_str::<Kind>(text).ok().filter(|kind| kind.check().is_ok())
    }

    #[test]
    fn reads_every_kind() {
        for text in [
            r#"{"kind":"file-drop","folder":"in/box.d","inline":true,"keep":true}"#,
            r#"{"kind":"schedule","expression":"rate(5 minutes)","input":{"a":1}}"#,
            r#"{"kind":"schedule","expression":"cron(0 12 * * ? *)","timezone":"UTC"}"#,
            r#"{"kind":"queue","name":"orders","batch_size":10000}"#,
            r#"{"kind":"table","database":"shop.db","table":"orders","existing":true}"#,
        ] {
            let kind = read(text).unwrap();
            let again = serde_json::to_string(&kind).unwrap();
            assert_eq!(read(&again), Some(kind), "{text}");
        }
    }

    #[test]
    fn refuses_what_cannot_be() {
        for text in [
            r#"{"kind":"file-drop","folder":"../x"}"#,
            r#"{"kind":"file-drop","folder":"/x"}"#,
            r#"{"kind":"file-drop","folder":"x/.done"}"#,
            r#"{"kind":"file-drop","folder":""}"#,
            r#"{"kind":"file-drop","folder":"x","kepe":true}"#,
            r#"{"kind":"schedule","expression":"hourly"}"#,
            r#"{"kind":"schedule","expression":"0 0 31 2 *"}"#,
            r#"{"kind":"schedule","expression":"rate(1 day)","timezone":"Europe/Berlin"}"#,
            r#"{"kind":"queue","name":"a/b"}"#,
            r#"{"kind":"queue","name":"a","batch_size":0}"#,
            r#"{"kind":"table"}"#,
            r#"{"kind":"table","database":"in/shop.db","table":"orders"}"#,
            r#"{"kind":"table","database":"..","table":"orders"}"#,
            r#"{"kind":"table","database":"shop.db","table":"a\"b"}"#,
            r#"{"kind":"table","database":"shop.db","table":"SQLITE_schema"}"#,
            r#"{"kind":"view","database":"shop.db","table":"orders"}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
