//! Records of runs, and claims: who runs a key at present.

use rusqlite::{Connection, OptionalExtension, params};

use super::{At, limit};
use crate::ledger::{LedgerError, Record};
use crate::model::Millis;

/// Rows of each kind that are swept away in one transaction.
const LUMP: usize = 1000;

pub(super) fn record(
    connection: &Connection,
    tenant: &str,
    key: &str,
    now: Millis,
) -> Result<Option<Record>, LedgerError> {
    let sql = "SELECT tenant, function, key, resources, version, created, expires, result
               FROM records WHERE tenant = ?1 AND key = ?2 AND expires > ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let record = statement.query_row(params![tenant, key, At(now)], |row| {
        let (At(created), At(expires)) = (row.get(5)?, row.get(6)?);
        Ok(Record {
            tenant: row.get(0)?,
            function: row.get(1)?,
            key: row.get(2)?,
            resources: row.get(3)?,
            version: row.get(4)?,
            created,
            expires,
            result: row.get(7)?,
        })
    });
    Ok(record.optional()?)
}

pub(super) fn put(connection: &Connection, record: &Record) -> Result<(), LedgerError> {
    let sql = "INSERT OR REPLACE INTO records
                   (tenant, function, key, resources, version, created, expires, result)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    connection.prepare_cached(sql)?.execute(params![
        record.tenant,
        record.function,
        record.key,
        record.resources,
        record.version,
        At(record.created),
        At(record.expires),
        record.result,
    ])?;
    Ok(())
}

/// Whoever has the claim may have it for longer.
pub(super) fn claim(
    connection: &Connection,
    tenant: &str,
    key: &str,
    owner: &str,
    now: Millis,
    until: Millis,
) -> Result<bool, LedgerError> {
    let sql = "INSERT INTO claims (tenant, key, owner, until) VALUES (?1, ?2, ?3, ?5)
               ON CONFLICT DO UPDATE SET owner = excluded.owner, until = excluded.until
               WHERE claims.owner = excluded.owner OR claims.until <= ?4";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.execute(params![tenant, key, owner, At(now), At(until)])? > 0)
}

pub(super) fn unclaim(
    connection: &Connection,
    tenant: &str,
    key: &str,
    owner: &str,
) -> Result<(), LedgerError> {
    let sql = "DELETE FROM claims WHERE tenant = ?1 AND key = ?2 AND owner = ?3";
    connection.prepare_cached(sql)?.execute([tenant, key, owner])?;
    Ok(())
}

/// Removes some of the records and claims that have run out. How many.
pub(super) fn sweep(connection: &Connection, now: Millis) -> Result<u64, LedgerError> {
    let records = "DELETE FROM records WHERE rowid IN
                       (SELECT rowid FROM records WHERE expires <= ?1 LIMIT ?2)";
    let claims = "DELETE FROM claims WHERE rowid IN
                      (SELECT rowid FROM claims WHERE until <= ?1 LIMIT ?2)";
    let mut swept = 0;
    for sql in [records, claims] {
        swept += connection.prepare_cached(sql)?.execute(params![At(now), limit(LUMP)])? as u64;
    }
    Ok(swept)
}
