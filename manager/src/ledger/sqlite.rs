//! The ledger in one SQLite file.
//!
//! One connection writes, its transactions one after the other; readers have connections of their own and, by SQLite's
//! write-ahead log, wait for nobody. Other processes may have the same file open.
//!
//! | module | what it has |
//! | --- | --- |
//! | `file` | how the file is made, opened and brought to the present format |
//! | `documents` | tenants, keys, functions: JSON beside the columns they are found by |
//! | `layers` | layer versions, and the numbers that were given |
//! | `queue` | messages and dead letters |
//! | `records` | records and claims |
//! | `sources` | event sources and their positions |

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, Transaction, TransactionBehavior};

use super::{DEAD_LETTER_AGE, DeadLetter, Ledger, LedgerError, Message, Record, Source};
use crate::model::{AccessKey, Function, LayerVersion, Millis, Tenant};

mod documents;
mod file;
mod layers;
mod queue;
mod records;
mod sources;
#[cfg(test)]
mod tests;

/// Readers' connections that are kept open while nobody needs them.
const READERS_KEPT: usize = 4;

/// The ledger in one SQLite file. Safe to share between threads, and the file between processes.
#[derive(Debug)]
pub struct SqliteLedger {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl SqliteLedger {
    /// Opens the file at `path`; makes it, for the owner alone, where there is none. Its directory must exist.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let (path, writer) = file::open(path)?;
        Ok(Self { path, writer: Mutex::new(writer), readers: Mutex::new(Vec::new()) })
    }

    /// Does `work` in one transaction, which is on disk when this returns and was never there if it fails.
    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let mut writer = lock(&self.writer);
        // At once for writing: a transaction that read first could not wait for another process's.
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Reads with one statement, which sees all that was written before.
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let kept = lock(&self.readers).pop();
        let reader = kept.map_or_else(|| file::reader(&self.path), Ok)?;
        let value = work(&reader);
        let mut readers = lock(&self.readers);
        if readers.len() < READERS_KEPT {
            readers.push(reader);
        }
        value
    }
}

impl Ledger for SqliteLedger {
    fn tenants(&self) -> Result<Vec<Tenant>, LedgerError> {
        self.read(documents::tenants)
    }

    fn put_tenant(&self, tenant: &Tenant) -> Result<(), LedgerError> {
        self.write(|t| documents::put_tenant(t, tenant))
    }

    fn keys(&self) -> Result<Vec<AccessKey>, LedgerError> {
        self.read(documents::keys)
    }

    fn add_key(&self, key: &AccessKey) -> Result<(), LedgerError> {
        self.write(|t| documents::add_key(t, key))
    }

    fn remove_key(&self, id: &str) -> Result<bool, LedgerError> {
        self.write(|t| documents::remove_key(t, id))
    }

    fn functions(&self) -> Result<Vec<Function>, LedgerError> {
        self.read(documents::functions)
    }

    fn put_function(&self, function: &Function) -> Result<(), LedgerError> {
        self.write(|t| documents::put_function(t, function))
    }

    fn remove_function(&self, tenant: &str, name: &str) -> Result<(), LedgerError> {
        self.write(|t| documents::remove_function(t, tenant, name))
    }

    fn layers(&self, tenant: &str) -> Result<Vec<LayerVersion>, LedgerError> {
        self.read(|c| layers::of_tenant(c, tenant))
    }

    fn layer(
        &self,
        tenant: &str,
        name: &str,
        number: u32,
    ) -> Result<Option<LayerVersion>, LedgerError> {
        self.read(|c| layers::one(c, tenant, name, number))
    }

    fn add_layer(&self, layer: &LayerVersion) -> Result<u32, LedgerError> {
        self.write(|t| layers::add(t, layer))
    }

    fn remove_layer(&self, tenant: &str, name: &str, number: u32) -> Result<bool, LedgerError> {
        self.write(|t| layers::remove(t, tenant, name, number))
    }

    fn enqueue(&self, message: &Message) -> Result<(), LedgerError> {
        self.write(|t| queue::enqueue(t, message))
    }

    fn lease_but(
        &self,
        now: Millis,
        until: Millis,
        most: usize,
        tenants: &[String],
    ) -> Result<Vec<Message>, LedgerError> {
        self.write(|c| queue::lease(c, now, until, most, tenants))
    }

    fn acknowledge(&self, id: &str) -> Result<(), LedgerError> {
        self.write(|t| queue::acknowledge(t, id))
    }

    fn postpone(&self, id: &str, due: Millis, tries: u32) -> Result<(), LedgerError> {
        self.write(|t| queue::postpone(t, id, due, tries))
    }

    fn bury(&self, id: &str, now: Millis, reason: &str) -> Result<(), LedgerError> {
        self.write(|t| queue::bury(t, id, now, reason))
    }

    fn release_all(&self) -> Result<(), LedgerError> {
        self.write(|t| queue::release_all(t))
    }

    fn next_due(&self) -> Result<Option<Millis>, LedgerError> {
        self.read(queue::next_due)
    }

    fn backlog(&self, tenant: &str, function: &str) -> Result<(u64, Option<Millis>), LedgerError> {
        self.read(|c| queue::backlog(c, tenant, function))
    }

    fn length(&self) -> Result<(u64, Option<Millis>), LedgerError> {
        self.read(queue::length)
    }

    fn length_of(&self, tenant: &str) -> Result<u64, LedgerError> {
        self.read(|c| queue::length_of(c, tenant))
    }

    fn dead(&self, tenant: &str, function: &str) -> Result<u64, LedgerError> {
        self.read(|c| queue::dead(c, tenant, function))
    }

    fn dead_letters(
        &self,
        tenant: &str,
        function: &str,
        most: usize,
    ) -> Result<Vec<DeadLetter>, LedgerError> {
        self.read(|c| queue::dead_letters(c, tenant, function, most))
    }

    fn record(&self, tenant: &str, key: &str, now: Millis) -> Result<Option<Record>, LedgerError> {
        self.read(|c| records::record(c, tenant, key, now))
    }

    fn put_record(&self, record: &Record) -> Result<(), LedgerError> {
        self.write(|t| records::put(t, record))
    }

    fn claim(
        &self,
        tenant: &str,
        key: &str,
        owner: &str,
        now: Millis,
        until: Millis,
    ) -> Result<bool, LedgerError> {
        self.write(|t| records::claim(t, tenant, key, owner, now, until))
    }

    fn unclaim(&self, tenant: &str, key: &str, owner: &str) -> Result<(), LedgerError> {
        self.write(|t| records::unclaim(t, tenant, key, owner))
    }

    fn sources(&self) -> Result<Vec<Source>, LedgerError> {
        self.read(sources::all)
    }

    fn put_source(&self, source: &Source) -> Result<(), LedgerError> {
        self.write(|t| sources::put(t, source))
    }

    fn remove_source(&self, id: &str) -> Result<bool, LedgerError> {
        self.write(|t| sources::remove(t, id))
    }

    fn deliver(
        &self,
        source: &str,
        position: &str,
        messages: &[Message],
    ) -> Result<(), LedgerError> {
        self.write(|t| {
            sources::move_to(t, source, position)?;
            messages.iter().try_for_each(|message| queue::enqueue_new(t, message))
        })
    }

    fn position(&self, source: &str) -> Result<String, LedgerError> {
        self.read(|c| sources::position(c, source))
    }

    fn sweep(&self, now: Millis) -> Result<u64, LedgerError> {
        let buried = now.saturating_sub(DEAD_LETTER_AGE);
        let mut swept = 0;
        loop {
            let some = self.write(|t| Ok(records::sweep(t, now)? + queue::sweep(t, buried)?))?;
            swept += some;
            if some == 0 {
                return Ok(swept);
            }
        }
    }
}

/// Whoever panicked with the lock has had its transaction rolled back on the way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A time in a column. SQLite's integers have a sign: what is later than their last is kept as their last.
struct At(Millis);

impl ToSql for At {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}

impl FromSql for At {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(|at| Self(u64::try_from(at).unwrap_or(0)))
    }
}

/// A limit in a statement.
fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}
