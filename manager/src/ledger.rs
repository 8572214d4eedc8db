//! What survives a crash: one trait, so that a cluster's store can stand here one day, and SQLite behind it.
//!
//! Every method is one transaction: it is done and on disk when it returns, or nothing of it is. All block.
//!
//! A message, a record and an event source belong to a function: there are none of a function that the ledger does not
//! have ([`LedgerError::Missing`]), so that nothing of a removed function comes back with the next one of its name.

use std::path::PathBuf;

use rusqlite::ffi;
use thiserror::Error;

use crate::model::{AccessKey, Function, LayerVersion, Millis, Tenant};

mod sqlite;

pub use sqlite::SqliteLedger;

/// How long dead letters are kept: 14 days, the longest that AWS's queues keep anything.
pub const DEAD_LETTER_AGE: Millis = 14 * 24 * 60 * 60 * 1000;

/// The host's memory.
pub trait Ledger: Send + Sync + 'static {
    /// All tenants.
    fn tenants(&self) -> Result<Vec<Tenant>, LedgerError>;
    /// Adds a tenant, or puts another in the place of the one with its name.
    fn put_tenant(&self, tenant: &Tenant) -> Result<(), LedgerError>;

    /// All keys.
    fn keys(&self) -> Result<Vec<AccessKey>, LedgerError>;
    /// Adds a key; [`LedgerError::Exists`] if there is one with its id.
    fn add_key(&self, key: &AccessKey) -> Result<(), LedgerError>;
    /// Removes a key; whether there was one.
    fn remove_key(&self, id: &str) -> Result<bool, LedgerError>;

    /// All functions.
    fn functions(&self) -> Result<Vec<Function>, LedgerError>;
    /// Adds a function, or puts another in the place of the one with its tenant and name.
    fn put_function(&self, function: &Function) -> Result<(), LedgerError>;
    /// Removes a function with everything that is only its own: settings, messages that wait, records, sources.
    fn remove_function(&self, tenant: &str, name: &str) -> Result<(), LedgerError>;

    /// The layer versions of a tenant, by name and number.
    fn layers(&self, tenant: &str) -> Result<Vec<LayerVersion>, LedgerError>;
    /// A layer version, if there is one.
    fn layer(
        &self,
        tenant: &str,
        name: &str,
        number: u32,
    ) -> Result<Option<LayerVersion>, LedgerError>;
    /// Adds a layer version under the next number of its layer, whatever it says: one above the highest that there ever
    /// was.
    fn add_layer(&self, layer: &LayerVersion) -> Result<u32, LedgerError>;
    /// Removes a layer version; whether there was one.
    fn remove_layer(&self, tenant: &str, name: &str, number: u32) -> Result<bool, LedgerError>;

    /// Takes a message in; [`LedgerError::Exists`] if one with its id waits.
    fn enqueue(&self, message: &Message) -> Result<(), LedgerError>;
    /// Up to `most` messages that are due and that nobody has a lease on, oldest due first, leased until `until`.
    fn lease(&self, now: Millis, until: Millis, most: usize) -> Result<Vec<Message>, LedgerError> {
        self.lease_but(now, until, most, &[])
    }
    /// The same, of other tenants than these.
    fn lease_but(
        &self,
        now: Millis,
        until: Millis,
        most: usize,
        tenants: &[String],
    ) -> Result<Vec<Message>, LedgerError>;
    /// Removes a message that is done with. Here and below no error if there is none: its function may have been removed.
    fn acknowledge(&self, id: &str) -> Result<(), LedgerError>;
    /// Ends the lease on a message, which is due again at `due` with `tries` made.
    fn postpone(&self, id: &str, due: Millis, tries: u32) -> Result<(), LedgerError>;
    /// Puts a message among the dead letters, with the reason.
    fn bury(&self, id: &str, now: Millis, reason: &str) -> Result<(), LedgerError>;
    /// Ends every lease: nobody who had one lives.
    fn release_all(&self) -> Result<(), LedgerError>;
    /// When there will be something to lease: when the next message that nobody has a lease on is due, or the next lease
    /// runs out.
    fn next_due(&self) -> Result<Option<Millis>, LedgerError>;
    /// Messages of a function that wait or are being delivered, and the time at which the oldest was taken in.
    fn backlog(&self, tenant: &str, function: &str) -> Result<(u64, Option<Millis>), LedgerError>;
    /// Messages of all functions that wait or are being delivered, and the time at which the oldest was taken in.
    fn length(&self) -> Result<(u64, Option<Millis>), LedgerError>;
    /// Messages of a tenant that wait or are being delivered.
    fn length_of(&self, tenant: &str) -> Result<u64, LedgerError>;
    /// How many dead letters a function has.
    fn dead(&self, tenant: &str, function: &str) -> Result<u64, LedgerError>;
    /// Dead letters of a function, newest first, at most `most`.
    fn dead_letters(
        &self,
        tenant: &str,
        function: &str,
        most: usize,
    ) -> Result<Vec<DeadLetter>, LedgerError>;

    /// The record of a key, unless it has run out.
    fn record(&self, tenant: &str, key: &str, now: Millis) -> Result<Option<Record>, LedgerError>;
    /// Keeps a record, in place of an older one of its key.
    fn put_record(&self, record: &Record) -> Result<(), LedgerError>;
    /// Takes the lease on running `key`, unless somebody else has one at `now`; whether it is ours.
    fn claim(
        &self,
        tenant: &str,
        key: &str,
        owner: &str,
        now: Millis,
        until: Millis,
    ) -> Result<bool, LedgerError>;
    /// Gives that lease up.
    fn unclaim(&self, tenant: &str, key: &str, owner: &str) -> Result<(), LedgerError>;

    /// All event sources.
    fn sources(&self) -> Result<Vec<Source>, LedgerError>;
    /// Adds an event source, or puts another in the place of the one with its id.
    fn put_source(&self, source: &Source) -> Result<(), LedgerError>;
    /// Removes an event source; whether there was one.
    fn remove_source(&self, id: &str) -> Result<bool, LedgerError>;
    /// Takes messages in and the source's new position, in one transaction; a message with an id that waits or is among
    /// the dead letters is left out. [`LedgerError::Missing`] if there is no such source.
    fn deliver(
        &self,
        source: &str,
        position: &str,
        messages: &[Message],
    ) -> Result<(), LedgerError>;
    /// A source's position, or empty.
    fn position(&self, source: &str) -> Result<String, LedgerError>;

    /// Removes what nobody will ask for: records and claims that have run out, dead letters of [`DEAD_LETTER_AGE`]. How
    /// many there were. More than one transaction, so that others get their turn in between.
    fn sweep(&self, now: Millis) -> Result<u64, LedgerError>;
}

/// An asynchronous call that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The call's request id.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// Which function.
    pub function: String,
    /// Qualifier as the caller gave it: version, alias or `$LATEST`.
    pub qualifier: String,
    /// JSON.
    pub event: Vec<u8>,
    /// When it was taken in.
    pub created: Millis,
    /// When it may be tried.
    pub due: Millis,
    /// Tries that were made.
    pub tries: u32,
    /// The event source that it came from, or empty for an asynchronous call.
    pub source: String,
    /// X-Ray trace header, or empty.
    pub trace: String,
    /// The caller's idempotency key, or empty.
    pub key: String,
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message as it was last.
    pub message: Message,
    /// When it was given up.
    pub buried: Millis,
    /// Why.
    pub reason: String,
}

/// The result of a run that need not be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub tenant: String,
    /// Which function.
    pub function: String,
    /// The key of the run.
    pub key: String,
    /// States of the resources that it depended on, JSON.
    pub resources: String,
    /// The result's bytes.
    pub result: Vec<u8>,
    /// Version that ran.
    pub version: String,
    /// When it was made.
    pub created: Millis,
    /// When it runs out.
    pub expires: Millis,
}

/// What events come from, and which function they go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// A UUID.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// Which function.
    pub function: String,
    /// Version, alias or `$LATEST`.
    pub qualifier: String,
    /// What kind of source it is and how it is set up, JSON.
    pub settings: String,
    /// Whether it delivers.
    pub enabled: bool,
    /// When it was last changed.
    pub modified: Millis,
}

/// The ledger cannot do as told. Nothing has been changed.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// There is no room for it.
    #[error("the ledger's disk is full")]
    Full(#[source] rusqlite::Error),
    /// There is one with this id.
    #[error("the ledger has one of this id")]
    Exists(#[source] rusqlite::Error),
    /// It belongs to something that is not there, or not any more.
    #[error("the ledger has no such {what}")]
    Missing {
        /// What it belongs to.
        what: &'static str,
    },
    /// The file cannot be made or made private.
    #[error("{} cannot be made the ledger", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database refuses: the file is damaged, or somebody else keeps it locked.
    #[error("the ledger cannot be read or written")]
    Database(#[source] rusqlite::Error),
    /// A document in it is none of ours.
    #[error("the ledger has a {what} that cannot be read")]
    Document {
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        source: serde_json::Error,
    },
    /// It was made by a later version of this program.
    #[error(
        "the ledger has format {found}, this program knows {known}: use the program that made it, or a later one"
    )]
    Version {
        /// Of the file.
        found: u32,
        /// The latest that is known.
        known: u32,
    },
}

impl From<rusqlite::Error> for LedgerError {
    /// Tells apart what callers act on.
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error().map(|error| error.extended_code) {
            // The second is of the index to the write-ahead log.
            Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE) => Self::Full(error),
            Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE) => {
                Self::Exists(error)
            }
            // All foreign keys of the schema are functions.
            Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => Self::Missing { what: "function" },
            _ => Self::Database(error),
        }
    }
}
