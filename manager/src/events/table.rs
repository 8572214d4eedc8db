//! Tables: a row that appears in one of a tenant's SQLite databases becomes a message.
//!
//! ```text
//!  look: the file has changed ─► locked: nobody writes ─► rows after the last one ─► deliver: messages, and the new last row
//! ```
//!
//! Rows are taken in the order of their rowid, which an INTEGER PRIMARY KEY is another name of. The last one that was taken is
//! the source's position, written in the transaction of its message: each row is one message, however often the host is killed.
//! A row whose rowid is smaller than that of one that was taken is not new: `AUTOINCREMENT` makes sure that there are none,
//! without it there are where the last row is removed and another is added. What becomes of a row after it was taken is not told.
//!
//! Nobody tells when a database changes, so that its file is looked at once a second, without opening it where nothing has
//! happened to it. `database` is about what the file may be, `rows` about what is in it: both are the tenant's, and not trusted.

mod database;
mod rows;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use self::database::{Opened, Stamp};
use self::rows::{Row, Table};
use super::cron::iso;
use super::deliver::{Identity, Undelivered};
use super::registry::Live;
use super::settings::Kind;
use super::target::Target;
use super::{Events, arn};
use crate::ledger::Message;

/// Rows of one look, and of one transaction.
const LOT: usize = 256;
/// Bytes of events of one look, about.
const LOT_BYTES: usize = 8 << 20;

/// How long a file must have been left alone for its times to tell the next change: they are those of the kernel's tick, or
/// whole seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// Why a table cannot be read.
#[derive(Debug, Error)]
pub(super) enum TableError {
    /// A link, a folder, a pipe.
    #[error("the database is no regular file")]
    NotAFile,
    /// Something else, or damaged.
    #[error("the file is no SQLite database")]
    Foreign,
    /// Reading it would mean to share memory with whoever can cut that short, which ends a process (SIGBUS).
    #[error(
        "the database is in write-ahead mode, which is not read: set its journal_mode to DELETE, TRUNCATE or PERSIST"
    )]
    WriteAhead,
    /// A program has ended in the middle of a change.
    #[error(
        "the database has a change that nobody has finished: open it once with a program that writes to it"
    )]
    Unfinished,
    /// There is none of that name that has rows of its own.
    #[error("the database has no such table; views and virtual tables are none")]
    NoTable,
    /// It cannot be told in which order rows came.
    #[error("the table has no rowid")]
    NoRowid,
    /// More columns than an event can have.
    #[error("the table has more than {} columns", rows::MOST_COLUMNS)]
    Wide,
    /// No database that SQLite has written is like this.
    #[error("the rows of the table are in disorder: the database is damaged")]
    Disorder,
    /// It takes more work than any table should.
    #[error("the table takes too long to read")]
    Slow,
    /// SQLite refuses.
    #[error("SQLite cannot read the database")]
    Sqlite(#[source] rusqlite::Error),
    /// The file cannot be opened or read.
    #[error("the database cannot be opened")]
    Io(#[from] std::io::Error),
}

/// What is known of a table between two looks at it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The last row that was taken; none before the ledger was asked.
    after: Option<Option<i64>>,
    /// The file as it was when all of its rows had been taken.
    drained: Option<Stamp>,
}

#[cfg(test)]
impl Memory {
    /// Whether the file need not be opened again before it changes.
    pub(super) fn is_drained(&self) -> bool {
        self.drained.is_some()
    }
}

/// A source's position. With names: those of a source can be changed.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    database: String,
    table: String,
    after: i64,
}

/// What became of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// All rows are delivered, or there is no database yet.
    All,
    /// There may be more.
    Some,
    /// Somebody is writing.
    Busy,
    /// The function has too much to do.
    Swamped,
}

/// Takes rows that have come, as many as one look may. Blocks.
pub(super) fn look(
    events: &Events,
    live: &Arc<Live>,
    memory: &mut Memory,
) -> Result<Looked, Undelivered> {
    let Kind::Table { database, table, .. } = &live.settings.source else {
        return Ok(Looked::All);
    };
    // Gone unless this ends well: then the ledger is asked again.
    let Memory { after, drained } = std::mem::take(memory);
    let after = match after {
        Some(after) => after,
        None => position(events, live, database, table)?,
    };
    let opened = database::open(&events.parts.files, &live.source.tenant, database, drained)?;
    let found = match opened {
        Opened::There(found) => found,
        Opened::Absent | Opened::Unchanged => {
            *memory = Memory { after: Some(after), drained };
            return Ok(Looked::All);
        }
        Opened::Busy => {
            memory.after = Some(after);
            return Ok(Looked::Busy);
        }
    };
    if events.is_swamped(live)? {
        memory.after = Some(after);
        return Ok(Looked::Swamped);
    }
    let (rows, all) = Table::open(found.path(), table)?.after(after, LOT, LOT_BYTES)?;
    // What was read is what was locked, or nothing is known of it.
    if !found.is_still_there() {
        memory.after = Some(after);
        return Ok(Looked::Busy);
    }
    let last = rows.last().map(|row| row.rowid);
    if let Some(last) = last {
        let messages: Vec<_> = rows.into_iter().map(|row| message(events, live, row)).collect();
        let (database, table) = (database.clone(), table.clone());
        let position = json!(Position { database, table, after: last }).to_string();
        events.deliver(live, &position, &messages)?;
    }
    memory.after = Some(last.or(after));
    if !all {
        return Ok(Looked::Some);
    }
    memory.drained =
        Some(found.stamp()).filter(|stamp| stamp.is_settled(SystemTime::now(), SETTLED));
    Ok(Looked::All)
}

/// The last row that is none of the source's business: taken, or there before.
fn position(
    events: &Events,
    live: &Live,
    database: &str,
    table: &str,
) -> Result<Option<i64>, Undelivered> {
    let text = events.parts.ledger.position(&live.source.id)?;
    let position = serde_json::from_str::<Position>(&text).ok();
    // As SQLite has it: in whatever case a table's name is written, it is the same one.
    let is_same = |it: &Position| it.database == database && it.table.eq_ignore_ascii_case(table);
    let position = position.filter(is_same);
    Ok(position.map(|it| it.after).max(live.settings.after))
}

impl Events {
    /// The last row that a table has now; none where there is no such table yet. `Err(None)` while somebody writes. Blocks.
    pub(super) fn last_row(
        &self,
        tenant: &str,
        database: &str,
        table: &str,
    ) -> Result<Option<i64>, Option<TableError>> {
        match database::open(&self.parts.files, tenant, database, None)? {
            Opened::Absent | Opened::Unchanged => Ok(None),
            Opened::Busy => Err(None),
            Opened::There(found) => {
                let last = Table::open(found.path(), table).and_then(|table| table.last());
                match last {
                    Err(TableError::NoTable) => Ok(None),
                    Ok(last) if found.is_still_there() => Ok(last),
                    Ok(_) => Err(None),
                    Err(error) => Err(Some(error)),
                }
            }
        }
    }
}

/// The message of a row.
fn message(events: &Events, live: &Live, row: Row) -> Message {
    let source = &live.source;
    let (region, account) = (&events.parts.region, events.account(&source.tenant));
    let (database, table) = match &live.settings.source {
        Kind::Table { database, table, .. } => (database.as_str(), table.as_str()),
        _ => ("", ""),
    };
    let lower = table.to_ascii_lowercase();
    let parts = [database.as_bytes(), lower.as_bytes(), &row.rowid.to_be_bytes()];
    let id = Identity::of(&source.id, &parts).id();
    let mut told = json!({
        "database": database,
        "name": table,
        "rowid": row.rowid,
        "row": row.values,
    });
    if !row.base64.is_empty() {
        told["base64"] = row.base64.into();
    }
    if !row.omitted.is_empty() {
        told["omitted"] = row.omitted.into();
    }
    let record = json!({
        "eventVersion": "1.0",
        "eventID": id,
        "eventSource": "calve:table",
        "eventSourceARN": arn::of(region, &account, &source.id, &live.settings.source),
        "awsRegion": region,
        "eventTime": iso(events.now()),
        "eventName": "INSERT",
        "account": account,
        "functionArn": Target::arn(&source.function, &source.qualifier, region, &account),
        "table": told,
    });
    events.message(live, id, json!({ "Records": [record] }).to_string().into_bytes())
}
