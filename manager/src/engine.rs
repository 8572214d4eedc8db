//! What runs functions. The host knows it by these traits alone, so that its decisions can be tested without machines.

mod fleet;

pub(crate) use fleet::chain;
pub use fleet::{FleetEngine, Images};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::full::is_full;

/// Builds snapshots and starts machines from them. Everything here blocks.
pub trait Engine: Send + Sync + 'static {
    /// Builds the snapshot of a version.
    ///
    /// # Errors
    ///
    /// What the owner of the function is to read.
    fn build(&self, blueprint: &Blueprint<'_>) -> Result<(), BuildFailure>;

    /// Starts a machine from a snapshot.
    ///
    /// # Errors
    ///
    /// When there is no such snapshot or no machine can be had.
    fn start(&self, snapshot: &str) -> Result<Box<dyn Instance>, EngineError>;

    /// Whether machines can be started from a snapshot, as far as that can be told without one. An engine whose snapshots
    /// cannot go bad need not look.
    ///
    /// # Errors
    ///
    /// [`EngineError::Snapshot`] where it has to be built anew; others where it could not be looked at.
    fn check(&self, _snapshot: &str) -> Result<(), EngineError> {
        Ok(())
    }

    /// Removes a snapshot that nobody will start machines from; one that is gone is no error.
    ///
    /// # Errors
    ///
    /// When it is still there.
    fn remove(&self, snapshot: &str) -> Result<(), EngineError>;

    /// The names of all snapshots that there are, whoever made them. An engine that cannot tell has none to be tidied up.
    ///
    /// # Errors
    ///
    /// When it cannot look.
    fn snapshots(&self) -> Result<Vec<String>, CollectError> {
        Ok(Vec::new())
    }

    /// Removes what it keeps to build on, and on which neither a snapshot stands nor a build that is under way or
    /// `wanted`, which is asked right before something is removed. The names of what was removed. An engine that keeps
    /// nothing of the kind has nothing to do.
    ///
    /// # Errors
    ///
    /// When it cannot tell, or cannot remove it; it stays then.
    fn collect(&self, _wanted: &dyn Fn() -> BTreeSet<Need>) -> Result<Vec<String>, CollectError> {
        Ok(Vec::new())
    }
}

/// What a build needs to stand on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The client's name for the runtime.
    pub runtime: String,
    /// Guest memory, MiB.
    pub memory_mib: u32,
}

/// What no function needs any more cannot be told or removed.
#[derive(Debug, Error)]
#[error("what no function needs any more cannot be removed")]
pub struct CollectError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A machine that runs a function. Dropping it ends it.
pub trait Instance: Send {
    /// Calls its function; one at a time.
    ///
    /// # Errors
    ///
    /// When no answer came: the machine is to be dropped.
    fn call(&mut self, call: Call<'_>) -> Result<Answer, EngineError>;

    /// Makes it as it was when it started.
    ///
    /// # Errors
    ///
    /// When it has ended.
    fn reset(self: Box<Self>) -> Result<Box<dyn Instance>, EngineError>;

    /// Ends it, when nobody waits for anything any more: the engine may look first at what the calls have made of it.
    fn end(self: Box<Self>) {}

    /// Whether it has ended by itself, or was ended.
    fn has_ended(&self) -> bool;

    /// Its identity: no two machines have the same.
    fn machine(&self) -> &str;

    /// What ends it from another thread, in the middle of a call.
    fn killer(&self) -> Option<Arc<dyn Killer>>;
}

/// Ends a machine.
pub trait Killer: Send + Sync {
    /// Ends it. No effect on one that has ended.
    fn kill(&self);
}

/// A call.
pub struct Call<'a> {
    /// Its id.
    pub request: &'a str,
    /// JSON.
    pub event: &'a [u8],
    /// The function's deadline.
    pub timeout: Duration,
    /// X-Ray trace header, or empty.
    pub trace: &'a str,
    /// Takes what the function prints, as it comes.
    pub logs: &'a mut (dyn FnMut(&[u8]) + Send),
    /// Takes the result as it comes, all of it: that of the answer is then empty, and a failure may come after a part.
    pub results: Option<&'a mut ResultSink<'a>>,
}

/// Takes the next bytes of a result, and what a function that streams says that they are, in its first part. While it
/// waits, so does the function.
pub type ResultSink<'a> = dyn FnMut(&[u8], &str) + Send + 'a;

/// What came of a call that reached the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its result as JSON, or its error.
    pub result: Result<Vec<u8>, FunctionFailure>,
    /// From the request for a machine to its first output, µs.
    pub first_output_us: u64,
    /// Private memory of the machine afterwards, KiB, where it is known.
    pub private_kib: Option<u64>,
}

/// A function's own failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionFailure {
    /// Whether it ran out of time.
    pub timed_out: bool,
    /// The error object that clients get, JSON: `errorType`, `errorMessage`, `stackTrace`.
    pub body: Vec<u8>,
    /// Whether the machine can be called again.
    pub usable: bool,
}

/// What a snapshot is built from.
#[derive(Clone, Debug)]
pub struct Blueprint<'a> {
    /// Its name in the store.
    pub snapshot: &'a str,
    /// The function's name.
    pub function: &'a str,
    /// Its version number, or `$LATEST`.
    pub version: &'a str,
    /// ARN of the version.
    pub arn: &'a str,
    /// The client's name for the runtime.
    pub runtime: &'a str,
    /// `module.function`.
    pub handler: &'a str,
    /// Environment variables.
    pub environment: &'a BTreeMap<String, String>,
    /// Guest memory, MiB.
    pub memory_mib: u32,
    /// The longest call.
    pub timeout: Duration,
    /// The unpacked code.
    pub code: &'a Path,
    /// The unpacked layers, lowest first: a later one's files take the place of an earlier one's.
    pub layers: &'a [PathBuf],
}

/// Why a snapshot could not be built, for the owner of the function.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code}: {reason}")]
pub struct BuildFailure {
    /// Lambda's reason code: `InvalidRuntime`, `FunctionError`, `InternalError`, …
    pub code: String,
    /// What went wrong.
    pub reason: String,
}

impl BuildFailure {
    /// The code of a build for which there was no room on a disk: it is made again later.
    pub const NO_SPACE: &str = "InternalError.NoSpace";

    /// A failure that is not the function's.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let code = if is_full(error) { Self::NO_SPACE } else { "InternalError" };
        Self { code: code.into(), reason: chain(error) }
    }
}

/// Why there is no machine or no answer.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The snapshot cannot be opened, nor will it be: only another one helps.
    #[error("snapshot `{snapshot}` cannot be opened")]
    Snapshot {
        /// Its name.
        snapshot: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The machine failed, or there is none to be had.
    #[error("the machine failed")]
    Machine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The call was out of bounds; the machine is as it was.
    #[error("the call cannot be made")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The guest did not answer in time, nor did its agent.
    #[error("no answer in time")]
    TimedOut,
}
