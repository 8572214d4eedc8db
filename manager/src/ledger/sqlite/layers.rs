//! Layer versions: JSON beside the columns they are found by, and the numbers that were given.

use rusqlite::{Connection, params};

use super::documents::{all, write};
use crate::ledger::LedgerError;
use crate::model::LayerVersion;

/// A kind of document, in errors.
const WHAT: &str = "layer version";

pub(super) fn of_tenant(
    connection: &Connection,
    tenant: &str,
) -> Result<Vec<LayerVersion>, LedgerError> {
    let sql = "SELECT document FROM layer_versions WHERE tenant = ?1 ORDER BY name, number";
    all(connection, WHAT, sql, params![tenant])
}

pub(super) fn one(
    connection: &Connection,
    tenant: &str,
    name: &str,
    number: u32,
) -> Result<Option<LayerVersion>, LedgerError> {
    let sql = "SELECT document FROM layer_versions WHERE tenant = ?1 AND name = ?2 AND number = ?3";
    Ok(all(connection, WHAT, sql, params![tenant, name, number])?.pop())
}

/// Adds it under the next number of its layer.
pub(super) fn add(connection: &Connection, layer: &LayerVersion) -> Result<u32, LedgerError> {
    let LayerVersion { tenant, name, .. } = layer;
    let sql = "INSERT INTO layers (tenant, name, last) VALUES (?1, ?2, 1)
               ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last";
    let number =
        connection.prepare_cached(sql)?.query_row(params![tenant, name], |row| row.get(0))?;
    let document = write(WHAT, &LayerVersion { number, ..layer.clone() })?;
    let sql = "INSERT INTO layer_versions (tenant, name, number, document) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![tenant, name, number, document])?;
    Ok(number)
}

pub(super) fn remove(
    connection: &Connection,
    tenant: &str,
    name: &str,
    number: u32,
) -> Result<bool, LedgerError> {
    let sql = "DELETE FROM layer_versions WHERE tenant = ?1 AND name = ?2 AND number = ?3";
    Ok(connection.prepare_cached(sql)?.execute(params![tenant, name, number])? > 0)
}
