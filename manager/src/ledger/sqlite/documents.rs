//! Tenants, keys and functions: JSON beside the columns they are found by.

use rusqlite::{Connection, Params, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ledger::LedgerError;
use crate::model::{AccessKey, Function, Tenant};

pub(super) fn tenants(connection: &Connection) -> Result<Vec<Tenant>, LedgerError> {
    all(connection, "tenant", "SELECT document FROM tenants ORDER BY name", [])
}

pub(super) fn put_tenant(connection: &Connection, tenant: &Tenant) -> Result<(), LedgerError> {
    let sql = "INSERT INTO tenants (name, document) VALUES (?1, ?2)
               ON CONFLICT DO UPDATE SET document = excluded.document";
    let document = write("tenant", tenant)?;
    connection.prepare_cached(sql)?.execute(params![tenant.name, document])?;
    Ok(())
}

pub(super) fn keys(connection: &Connection) -> Result<Vec<AccessKey>, LedgerError> {
    all(connection, "key", "SELECT document FROM keys ORDER BY id", [])
}

pub(super) fn add_key(connection: &Connection, key: &AccessKey) -> Result<(), LedgerError> {
    let sql = "INSERT INTO keys (id, document) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![key.id, write("key", key)?])?;
    Ok(())
}

pub(super) fn remove_key(connection: &Connection, id: &str) -> Result<bool, LedgerError> {
    Ok(connection.prepare_cached("DELETE FROM keys WHERE id = ?1")?.execute([id])? > 0)
}

pub(super) fn functions(connection: &Connection) -> Result<Vec<Function>, LedgerError> {
    all(connection, "function", "SELECT document FROM functions ORDER BY tenant, name", [])
}

/// An update in place: a row that made way for another would take what belongs to the function with it.
pub(super) fn put_function(
    connection: &Connection,
    function: &Function,
) -> Result<(), LedgerError> {
    let sql = "INSERT INTO functions (tenant, name, document) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET document = excluded.document";
    let document = write("function", function)?;
    connection.prepare_cached(sql)?.execute(params![function.tenant, function.name, document])?;
    Ok(())
}

/// What belongs to it goes with it, by its foreign keys.
pub(super) fn remove_function(
    connection: &Connection,
    tenant: &str,
    name: &str,
) -> Result<(), LedgerError> {
    let sql = "DELETE FROM functions WHERE tenant = ?1 AND name = ?2";
    connection.prepare_cached(sql)?.execute([tenant, name])?;
    Ok(())
}

/// Documents of one kind, as a statement finds them.
pub(super) fn all<T: DeserializeOwned>(
    connection: &Connection,
    what: &'static str,
    sql: &str,
    parameters: impl Params,
) -> Result<Vec<T>, LedgerError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut documents = Vec::new();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let document = serde_json::from_str(text);
        documents.push(document.map_err(|source| LedgerError::Document { what, source })?);
    }
    Ok(documents)
}

/// A document as it is kept.
pub(super) fn write<T: Serialize>(what: &'static str, document: &T) -> Result<String, LedgerError> {
    serde_json::to_string(document).map_err(|source| LedgerError::Document { what, source })
}
