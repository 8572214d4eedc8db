//! What is in a database that a tenant has made, read by SQLite with little allowed ("Defense Against The Dark Arts" of its
//! documentation): nothing of the schema is executed, sizes are bounded, and so is the work.
//!
//! Only tables with rows of their own are read, and only columns that are stored: a view, a virtual table, a generated column
//! are expressions of the tenant's.

#[cfg(test)]
mod tests;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use serde_json::{Map, Number, Value};

use super::TableError;

/// Columns of a table that is read.
pub(super) const MOST_COLUMNS: usize = 128;
/// Bytes of a value that an event has; of a larger one it has the name alone. As of a file's content.
const MOST_VALUE: usize = 256 << 10;
/// Bytes of all values of an event, as JSON: with the rest no more than a message of a queue may have.
const MOST_ROW: usize = (1 << 20) - (64 << 10);

/// How long one look may work.
const LONGEST: Duration = Duration::from_secs(2);
/// After how many instructions of SQLite's machine to look at the clock.
const INSTRUCTIONS: i32 = 1000;

/// What a schema, a statement and a value may be like: what tables have, several times over.
const LIMITS: [(Limit, i32); 12] = [
    (Limit::SQLITE_LIMIT_LENGTH, 1 << 20),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 256 << 10),
    (Limit::SQLITE_LIMIT_COLUMN, 1000),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
    (Limit::SQLITE_LIMIT_VDBE_OP, 100_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 100),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// Kept of a path in a URI.
const PLAIN: AsciiSet =
    NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The names of a rowid ("Rowid Tables"): one of them, unless a column has it.
const ROWID: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// A row.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) rowid: i64,
    /// By column.
    pub(super) values: Map<String, Value>,
    /// Columns whose values are no text, or none that can be read: they are base64.
    pub(super) base64: Vec<String>,
    /// Columns whose values are too large: they are null.
    pub(super) omitted: Vec<String>,
}

/// A table that can be read.
pub(super) struct Table {
    connection: Connection,
    name: String,
    rowid: &'static str,
    columns: Vec<String>,
}

impl Table {
    /// Opens the table of a file that nobody changes meanwhile.
    pub(super) fn open(path: &Path, name: &str) -> Result<Self, TableError> {
        Self::open_until(path, name, Instant::now() + LONGEST)
    }

    /// The same, for no longer than until then.
    fn open_until(path: &Path, name: &str, until: Instant) -> Result<Self, TableError> {
        let connection = connect(path, until)?;
        let sql = "SELECT name FROM sqlite_schema
                   WHERE type = 'table' AND rootpage > 0 AND name = ?1 COLLATE NOCASE";
        let name = connection.query_row(sql, [name], |row| row.get(0)).optional();
        let name: String = name?.ok_or(TableError::NoTable)?;
        // Those that are hidden are generated, or a virtual table's.
        let mut statement =
            connection.prepare("SELECT name, hidden FROM pragma_table_xinfo(?1) LIMIT ?2")?;
        let one_too_many = i64::try_from(MOST_COLUMNS + 1).unwrap_or(i64::MAX);
        let all = statement.query_map((&name, one_too_many), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?;
        let all = all.collect::<Result<Vec<_>, _>>()?;
        drop(statement);
        if all.len() > MOST_COLUMNS {
            return Err(TableError::Wide);
        }
        let taken = |rowid: &&str| all.iter().any(|(column, _)| column.eq_ignore_ascii_case(rowid));
        let rowid = ROWID.into_iter().find(|rowid| !taken(rowid)).ok_or(TableError::NoRowid)?;
        let columns = all.into_iter().filter(|(_, hidden)| *hidden == 0).map(|(name, _)| name);
        Ok(Self { columns: columns.collect(), connection, name, rowid })
    }

    /// The largest rowid.
    pub(super) fn last(&self) -> Result<Option<i64>, TableError> {
        let (table, rowid) = (quoted(&self.name), self.rowid);
        let sql = format!("SELECT {rowid} FROM {table} NOT INDEXED ORDER BY {rowid} DESC LIMIT 1");
        let mut statement = self.prepare(&sql)?;
        Ok(statement.query_row([], |row| row.get(0)).optional()?)
    }

    /// The rows after one, up to so many and about so many bytes; and whether that is all of them.
    pub(super) fn after(
        &self,
        after: Option<i64>,
        most: usize,
        bytes: usize,
    ) -> Result<(Vec<Row>, bool), TableError> {
        let first = match after.map(|after| after.checked_add(1)) {
            None => i64::MIN,
            Some(Some(first)) => first,
            // Nothing comes after the last.
            Some(None) => return Ok((Vec::new(), true)),
        };
        let mut statement = self.prepare(&self.statement())?;
        let mut found = statement.query((first, i64::try_from(most).unwrap_or(i64::MAX)))?;
        let (mut rows, mut size) = (Vec::<Row>::new(), 0);
        while size < bytes {
            let Some(next) = found.next()? else {
                let all = rows.len() < most;
                return Ok((rows, all));
            };
            let (row, row_size) = self.read(next)?;
            let before = rows.last().map(|row| row.rowid).or(after);
            if before.is_some_and(|before| before >= row.rowid) {
                return Err(TableError::Disorder);
            }
            rows.push(row);
            size += row_size;
        }
        Ok((rows, false))
    }

    /// Of each column its value, unless that is too large, and whether it is: its size is known without reading it.
    fn statement(&self) -> String {
        let (table, rowid) = (quoted(&self.name), self.rowid);
        let columns = self.columns.iter().map(|column| {
            let column = quoted(column);
            format!(
                ", CASE WHEN octet_length({column}) <= {MOST_VALUE} THEN {column} END, \
                 octet_length({column}) > {MOST_VALUE}"
            )
        });
        let columns: String = columns.collect();
        format!(
            "SELECT {rowid}{columns} FROM {table} NOT INDEXED WHERE {rowid} >= ?1 \
             ORDER BY {rowid} LIMIT ?2"
        )
    }

    fn prepare(&self, sql: &str) -> Result<rusqlite::Statement<'_>, TableError> {
        self.connection.prepare(sql).map_err(|error| {
            // All else that it names is there.
            let no_rowid = error.to_string().contains(&format!("no such column: {}", self.rowid));
            if no_rowid { TableError::NoRowid } else { error.into() }
        })
    }

    /// A row, and how large it is.
    fn read(&self, found: &rusqlite::Row<'_>) -> Result<(Row, usize), TableError> {
        let mut row = Row {
            rowid: found.get(0)?,
            values: Map::new(),
            base64: Vec::new(),
            omitted: Vec::new(),
        };
        let mut size = 0;
        for (number, column) in self.columns.iter().enumerate() {
            let (mut value, base64) = json(found.get_ref(1 + 2 * number)?);
            let is_large = found.get::<_, Option<bool>>(2 + 2 * number)?.unwrap_or(false);
            let bytes = value.to_string().len();
            if is_large || size + bytes > MOST_ROW {
                row.omitted.push(column.clone());
                value = Value::Null;
            } else {
                size += bytes;
                row.base64.extend(base64.then(|| column.clone()));
            }
            size += column.len();
            row.values.insert(column.clone(), value);
        }
        Ok((row, size))
    }
}

/// A value, and whether it is base64. JSON has no infinity: that is a text.
fn json(value: ValueRef<'_>) -> (Value, bool) {
    match value {
        ValueRef::Null => (Value::Null, false),
        ValueRef::Integer(number) => (number.into(), false),
        ValueRef::Real(number) => {
            let known = Number::from_f64(number).map(Value::Number);
            (known.unwrap_or_else(|| number.to_string().into()), false)
        }
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => (text.into(), false),
            Err(_) => (STANDARD.encode(bytes).into(), true),
        },
        ValueRef::Blob(bytes) => (STANDARD.encode(bytes).into(), true),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn connect(path: &Path, until: Instant) -> Result<Connection, TableError> {
    let path = percent_encode(path.as_os_str().as_bytes(), &PLAIN);
    let uri = format!("file:{path}?mode=ro&immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(uri, flags)?;
    for (limit, most) in LIMITS {
        connection.set_limit(limit, most)?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        // A name in quotes that is no column must not become a text.
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    ] {
        connection.set_db_config(config, on)?;
    }
    // Also while it reads the schema, which is when it first reads anything.
    connection.progress_handler(INSTRUCTIONS, Some(move || Instant::now() > until))?;
    // Pages that are damaged are found before they are used, a mapped file cannot be cut short, and 2 MiB are kept.
    connection.execute_batch(
        "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA cache_size = -2048;
         PRAGMA query_only = ON;",
    )?;
    Ok(connection)
}

impl From<rusqlite::Error> for TableError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::Slow,
            Some(ErrorCode::NotADatabase) => Self::Foreign,
            _ => Self::Sqlite(error),
        }
    }
}
