//! Messages and dead letters.
//!
//! ```text
//!             enqueue                    lease
//!   (nothing) ───────► waiting, due ───────────────► leased ──► acknowledge: gone
//!                        ▲ leased_until = 0            │ leased_until > now
//!                        └── postpone, lease runs out ─┴──► bury: among the dead letters
//! ```
//!
//! Waiting and leased messages have an index each, and neither has the others in it: to lease is to look up the first
//! few of one, however many messages there are.

use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};

use super::{At, limit};
use crate::ledger::{DeadLetter, LedgerError, Message};
use crate::model::Millis;

/// Columns of a message, in the order that [`message`] reads them.
macro_rules! columns {
    () => {
        "id, tenant, function, qualifier, created, due, tries, source, trace, key, event"
    };
}

/// Dead letters that are swept away in one transaction.
const LUMP: usize = 1000;

/// Frees what leases that have run out hold.
pub(super) const END_LEASES: &str =
    "UPDATE messages SET leased_until = 0 WHERE leased_until > 0 AND leased_until <= ?1";

/// Leases what is free and due.
pub(super) const LEASE: &str = concat!(
    "UPDATE messages SET leased_until = ?2 WHERE number IN
         (SELECT number FROM messages WHERE leased_until = 0 AND due <= ?1
          ORDER BY due, number LIMIT ?3)
     RETURNING ",
    columns!(),
    ", number"
);

/// The same, but for some tenants: walks past what they have waiting.
pub(super) const LEASE_BUT: &str = concat!(
    "UPDATE messages SET leased_until = ?2 WHERE number IN
         (SELECT number FROM messages WHERE leased_until = 0 AND due <= ?1
          AND tenant NOT IN (SELECT value FROM json_each(?4))
          ORDER BY due, number LIMIT ?3)
     RETURNING ",
    columns!(),
    ", number"
);

/// When something can be leased.
pub(super) const NEXT_DUE: &str = "SELECT MIN(at) FROM (
         SELECT MIN(due) AS at FROM messages WHERE leased_until = 0 UNION ALL
         SELECT MIN(leased_until) FROM messages WHERE leased_until > 0)";

/// What a function has in the queue. Counting walks along the function's part of an index.
pub(super) const BACKLOG: &str =
    "SELECT COUNT(*), MIN(created) FROM messages WHERE tenant = ?1 AND function = ?2";

/// A function's dead letters.
pub(super) const DEAD_LETTERS: &str = concat!(
    "SELECT ",
    columns!(),
    ", buried, reason FROM dead_letters WHERE tenant = ?1 AND function = ?2
     ORDER BY buried DESC, number DESC LIMIT ?3"
);

pub(super) fn enqueue(connection: &Connection, message: &Message) -> Result<(), LedgerError> {
    let sql = concat!(
        "INSERT INTO messages (",
        columns!(),
        ") VALUES (:id, :tenant, :function, :qualifier, :created, :due, :tries, :source, :trace, :key, :event)"
    );
    insert(connection, sql, message)
}

/// Takes a message in unless one with its id waits or is among the dead letters.
pub(super) fn enqueue_new(connection: &Connection, message: &Message) -> Result<(), LedgerError> {
    let sql = concat!(
        "INSERT INTO messages (",
        columns!(),
        ") SELECT :id, :tenant, :function, :qualifier, :created, :due, :tries, :source, :trace, :key, :event
           WHERE NOT EXISTS (SELECT 1 FROM dead_letters WHERE id = :id)
           ON CONFLICT (id) DO NOTHING"
    );
    insert(connection, sql, message)
}

fn insert(connection: &Connection, sql: &str, message: &Message) -> Result<(), LedgerError> {
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": message.id,
        ":tenant": message.tenant,
        ":function": message.function,
        ":qualifier": message.qualifier,
        ":created": At(message.created),
        ":due": At(message.due),
        ":tries": message.tries,
        ":source": message.source,
        ":trace": message.trace,
        ":key": message.key,
        ":event": message.event,
    })?;
    Ok(())
}

pub(super) fn lease(
    connection: &Connection,
    now: Millis,
    until: Millis,
    most: usize,
    but: &[String],
) -> Result<Vec<Message>, LedgerError> {
    connection.prepare_cached(END_LEASES)?.execute([At(now)])?;
    let numbered = |row: &Row<'_>| Ok((row.get::<_, i64>("number")?, message(row)?));
    let mut leased = if but.is_empty() {
        let mut statement = connection.prepare_cached(LEASE)?;
        let rows = statement.query_map(params![At(now), At(until), limit(most)], numbered)?;
        rows.collect::<Result<Vec<_>, _>>()?
    } else {
        let but = serde_json::json!(but).to_string();
        let mut statement = connection.prepare_cached(LEASE_BUT)?;
        let rows = statement.query_map(params![At(now), At(until), limit(most), but], numbered)?;
        rows.collect::<Result<Vec<_>, _>>()?
    };
    // RETURNING knows no order.
    leased.sort_by_key(|(number, message)| (message.due, *number));
    Ok(leased.into_iter().map(|(_, message)| message).collect())
}

pub(super) fn acknowledge(connection: &Connection, id: &str) -> Result<(), LedgerError> {
    connection.prepare_cached("DELETE FROM messages WHERE id = ?1")?.execute([id])?;
    Ok(())
}

pub(super) fn postpone(
    connection: &Connection,
    id: &str,
    due: Millis,
    tries: u32,
) -> Result<(), LedgerError> {
    let sql = "UPDATE messages SET due = ?2, tries = ?3, leased_until = 0 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, At(due), tries])?;
    Ok(())
}

pub(super) fn bury(
    connection: &Connection,
    id: &str,
    now: Millis,
    reason: &str,
) -> Result<(), LedgerError> {
    // In place of an older one: a dead letter may have been sent again under its id.
    let sql = concat!(
        "INSERT OR REPLACE INTO dead_letters (",
        columns!(),
        ", buried, reason) SELECT ",
        columns!(),
        ", ?2, ?3 FROM messages WHERE id = ?1"
    );
    connection.prepare_cached(sql)?.execute(params![id, At(now), reason])?;
    acknowledge(connection, id)
}

pub(super) fn release_all(connection: &Connection) -> Result<(), LedgerError> {
    let sql = "UPDATE messages SET leased_until = 0 WHERE leased_until > 0";
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

pub(super) fn next_due(connection: &Connection) -> Result<Option<Millis>, LedgerError> {
    let next: Option<At> = connection.prepare_cached(NEXT_DUE)?.query_row([], |row| row.get(0))?;
    Ok(next.map(|At(at)| at))
}

pub(super) fn backlog(
    connection: &Connection,
    tenant: &str,
    function: &str,
) -> Result<(u64, Option<Millis>), LedgerError> {
    let mut statement = connection.prepare_cached(BACKLOG)?;
    let (count, oldest) = statement.query_row([tenant, function], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Option<At>>(1)?))
    })?;
    Ok((count.unsigned_abs(), oldest.map(|At(at)| at)))
}

pub(super) fn length(connection: &Connection) -> Result<(u64, Option<Millis>), LedgerError> {
    let mut count = connection.prepare_cached("SELECT count(*) FROM messages")?;
    let count: i64 = count.query_row([], |row| row.get(0))?;
    // Numbers are given in the order in which messages come.
    let sql = "SELECT created FROM messages ORDER BY number LIMIT 1";
    let oldest = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok((count.unsigned_abs(), oldest.map(|At(at)| at)))
}

pub(super) fn length_of(connection: &Connection, tenant: &str) -> Result<u64, LedgerError> {
    let sql = "SELECT COUNT(*) FROM messages WHERE tenant = ?1";
    let count: i64 = connection.prepare_cached(sql)?.query_row([tenant], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

pub(super) fn dead(
    connection: &Connection,
    tenant: &str,
    function: &str,
) -> Result<u64, LedgerError> {
    let sql = "SELECT COUNT(*) FROM dead_letters WHERE tenant = ?1 AND function = ?2";
    let count: i64 =
        connection.prepare_cached(sql)?.query_row([tenant, function], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

pub(super) fn dead_letters(
    connection: &Connection,
    tenant: &str,
    function: &str,
    most: usize,
) -> Result<Vec<DeadLetter>, LedgerError> {
    let mut statement = connection.prepare_cached(DEAD_LETTERS)?;
    let rows = statement.query_map(params![tenant, function, limit(most)], |row| {
        let At(buried) = row.get("buried")?;
        Ok(DeadLetter { message: message(row)?, buried, reason: row.get("reason")? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes some of the dead letters that were buried at `buried` or before. How many.
pub(super) fn sweep(connection: &Connection, buried: Millis) -> Result<u64, LedgerError> {
    let sql = "DELETE FROM dead_letters WHERE number IN
                   (SELECT number FROM dead_letters WHERE buried <= ?1 LIMIT ?2)";
    let swept = connection.prepare_cached(sql)?.execute(params![At(buried), limit(LUMP)])?;
    Ok(swept as u64)
}

/// A row that begins with the [`columns`].
fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let (At(created), At(due)) = (row.get(4)?, row.get(5)?);
    Ok(Message {
        id: row.get(0)?,
        tenant: row.get(1)?,
        function: row.get(2)?,
        qualifier: row.get(3)?,
        created,
        due,
        tries: row.get(6)?,
        source: row.get(7)?,
        trace: row.get(8)?,
        key: row.get(9)?,
        event: row.get(10)?,
    })
}
