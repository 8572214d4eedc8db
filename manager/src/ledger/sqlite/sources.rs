//! Event sources and their positions. Putting a source leaves its position as it is.

use rusqlite::{Connection, OptionalExtension, params};

use super::At;
use crate::ledger::{LedgerError, Source};

pub(super) fn all(connection: &Connection) -> Result<Vec<Source>, LedgerError> {
    let sql = "SELECT id, tenant, function, qualifier, settings, enabled, modified
               FROM sources ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let At(modified) = row.get(6)?;
        Ok(Source {
            id: row.get(0)?,
            tenant: row.get(1)?,
            function: row.get(2)?,
            qualifier: row.get(3)?,
            settings: row.get(4)?,
            enabled: row.get(5)?,
            modified,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn put(connection: &Connection, source: &Source) -> Result<(), LedgerError> {
    let sql = "INSERT INTO sources (id, tenant, function, qualifier, settings, enabled, modified)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT DO UPDATE SET
                   tenant = excluded.tenant, function = excluded.function,
                   qualifier = excluded.qualifier, settings = excluded.settings,
                   enabled = excluded.enabled, modified = excluded.modified";
    connection.prepare_cached(sql)?.execute(params![
        source.id,
        source.tenant,
        source.function,
        source.qualifier,
        source.settings,
        source.enabled,
        At(source.modified),
    ])?;
    Ok(())
}

pub(super) fn remove(connection: &Connection, id: &str) -> Result<bool, LedgerError> {
    Ok(connection.prepare_cached("DELETE FROM sources WHERE id = ?1")?.execute([id])? > 0)
}

pub(super) fn move_to(
    connection: &Connection,
    id: &str,
    position: &str,
) -> Result<(), LedgerError> {
    let sql = "UPDATE sources SET position = ?2 WHERE id = ?1";
    match connection.prepare_cached(sql)?.execute([id, position])? {
        0 => Err(LedgerError::Missing { what: "event source" }),
        _ => Ok(()),
    }
}

pub(super) fn position(connection: &Connection, id: &str) -> Result<String, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT position FROM sources WHERE id = ?1")?;
    let position = statement.query_row([id], |row| row.get(0)).optional()?;
    Ok(position.unwrap_or_default())
}
