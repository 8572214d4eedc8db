//! Functions as the host knows them: one aggregate for each, with its versions, aliases and settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::idempotent::Idempotency;

mod url;

pub use url::{Cors, FunctionUrl, UrlAuth, UrlMode};

/// Milliseconds since 1970, UTC.
pub type Millis = u64;

/// The qualifier of what is not published.
pub const LATEST: &str = "$LATEST";

/// Who owns functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Name: `[a-z0-9][a-z0-9-]{0,62}`.
    pub name: String,
    /// Twelve digits, as ARNs have them.
    pub account: String,
    /// What it may use.
    pub quota: Quota,
    /// When it was made.
    pub created: Millis,
}

/// What a tenant may use. Each is checked before the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Functions.
    pub functions: u32,
    /// Calls at the same time.
    pub concurrency: u32,
    /// Memory of machines at the same time, MiB of guest RAM.
    pub memory_mib: u64,
    /// Calls a second, on average; bursts of as many.
    pub rate: u32,
    /// Bytes of code packages, of functions and layers.
    pub storage: u64,
}

impl Default for Quota {
    /// 1,000 functions, 1,000 calls at once, 64 GiB, 1,000 calls a second, 75 GiB of code (AWS Lambda's).
    fn default() -> Self {
        Self {
            functions: 1000,
            concurrency: 1000,
            memory_mib: 64 << 10,
            rate: 1000,
            storage: 75 << 30,
        }
    }
}

/// An access key of a tenant.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// `AKIA` and 16 letters and digits.
    pub id: String,
    /// 40 characters: signs requests, and is the bearer token of our own routes.
    pub secret: String,
    /// Whose it is.
    pub tenant: String,
    /// Whether it may act on all tenants.
    pub root: bool,
    /// When it was made.
    pub created: Millis,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// A function with all its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Whose it is.
    pub tenant: String,
    /// Its name, without ARN or qualifier.
    pub name: String,
    /// `$LATEST`.
    pub latest: Version,
    /// What is published, by number.
    pub versions: BTreeMap<u32, Version>,
    /// The highest number ever given; none is given twice.
    pub last_number: u32,
    /// Aliases by name.
    pub aliases: BTreeMap<String, Alias>,
    /// Calls at the same time that are kept for it, and the most it may have; none: what the tenant has left.
    pub reserved: Option<u32>,
    /// Machines that are kept ready, by version number or alias.
    pub provisioned: BTreeMap<String, u32>,
    /// How asynchronous calls are made, by qualifier; [`LATEST`] where none was given.
    pub event_invoke: BTreeMap<String, EventInvoke>,
    /// Its own addresses, by alias; [`LATEST`] where none was given.
    #[serde(default)]
    pub urls: BTreeMap<String, FunctionUrl>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// What machines may be used for, of all versions.
    pub policy: Policy,
}

/// A version of a function, or `$LATEST`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// `None` for `$LATEST`.
    pub number: Option<u32>,
    /// What it is configured as.
    pub configuration: Configuration,
    /// Its code.
    pub code: Code,
    /// Whether it can be called.
    pub state: State,
    /// How its last update went; of `$LATEST` only.
    pub update: Update,
    /// Changes with every change (a UUID).
    pub revision: String,
    /// Changes where the code or the configuration of its machines does (a UUID), and not where the same is built anew. Empty in
    /// documents of before there was one.
    #[serde(default)]
    pub lineage: String,
    /// When it was last changed.
    pub modified: Millis,
    /// The snapshot that calls are answered from: of the last build that succeeded, which during an update is the one before.
    pub snapshot: Option<Snapshot>,
}

impl Version {
    /// Its number, or `$LATEST`.
    pub fn qualifier(&self) -> String {
        self.number.map_or_else(|| LATEST.to_owned(), |number| number.to_string())
    }
}

/// A snapshot of a version, and what of its configuration decides about its calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name in the store.
    pub name: String,
    /// Guest memory, MiB.
    pub memory_mib: u32,
    /// The longest call, seconds.
    pub timeout_s: u32,
    /// The lineage of the version that it was built from.
    #[serde(default)]
    pub lineage: String,
}

impl Snapshot {
    /// What stays when the snapshot is lost and the same is built anew. Of one from before there were lineages: its name, which
    /// [the version inherits](Version::lineage) when that happens.
    pub fn lineage(&self) -> &str {
        if self.lineage.is_empty() { &self.name } else { &self.lineage }
    }
}

/// What a version is configured as. Field names are those of AWS Lambda.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// `python3.11`, `nodejs20.x`, `provided.al2023` and their like, as the client named it.
    pub runtime: String,
    /// `module.function`.
    pub handler: String,
    /// ARN of a role; kept, not interpreted.
    pub role: String,
    /// What people wrote about it.
    pub description: String,
    /// The longest call, seconds: 1 to 900.
    pub timeout_s: u32,
    /// Guest memory, MiB: 128 to 10,240.
    pub memory_mib: u32,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Layers, lowest first. (Under a name of its own: documents of when layers were kept and not mounted have `layers`, of
    /// ARNs that nobody had looked at.)
    #[serde(default, rename = "layer_versions")]
    pub layers: Vec<Layer>,
    /// ARN of a function or of a queue that takes asynchronous calls that failed, or empty.
    pub dead_letter: String,
    /// `PassThrough` or `Active`; kept, not interpreted.
    pub tracing: String,
    /// `/tmp`, MiB: 512 to 10,240; kept, not interpreted.
    pub ephemeral_mib: u32,
    /// `None` or `PublishedVersions`; kept, not interpreted: every function starts from a snapshot.
    pub snap_start: String,
}

/// A layer version as a function has it: also when it has been deleted since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// ARN of the version.
    pub arn: String,
    /// Its package.
    pub code: Code,
    /// Bytes of its files together.
    pub unzipped: u64,
}

/// A version of a layer, as it was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerVersion {
    /// Whose it is.
    pub tenant: String,
    /// The layer's name.
    pub name: String,
    /// Its number: from 1, none twice.
    pub number: u32,
    /// Its package, in the code store.
    pub code: Code,
    /// Bytes of its files together.
    pub unzipped: u64,
    /// What people wrote about it.
    pub description: String,
    /// Its licence, in whatever words.
    pub license: String,
    /// The client's names for the runtimes that it is for; kept, not interpreted.
    pub runtimes: Vec<String>,
    /// The processors that it is for; kept, not interpreted.
    pub architectures: Vec<String>,
    /// When it was published.
    pub created: Millis,
}

/// A code package in the code store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// SHA-256 of the zip file, hex: its name in the code store.
    pub sha256: String,
    /// Bytes of the zip file.
    pub size: u64,
}

/// Whether a version can be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Its first snapshot is being built.
    Pending,
    /// It can.
    Active,
    /// It could: its snapshot cannot be opened any more, and another is being built.
    Restoring,
    /// It has no snapshot, and none could be built.
    Failed {
        /// Lambda's `StateReasonCode`, such as `InvalidRuntime` or `FunctionError.InitError`.
        code: String,
        /// What went wrong.
        reason: String,
    },
}

/// How the last update went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Update {
    /// Well.
    Successful,
    /// A snapshot is being built.
    InProgress,
    /// Its snapshot could not be built: calls go to the one of before, if there is one.
    Failed {
        /// Lambda's `LastUpdateStatusReasonCode`.
        code: String,
        /// What went wrong.
        reason: String,
    },
}

/// A name for a version, or for two of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// Where calls go: a version number or `$LATEST`.
    pub version: String,
    /// Part of them go there instead: version number and weight, 0 to 1. At most one.
    pub weights: BTreeMap<String, Weight>,
    /// What people wrote about it.
    pub description: String,
    /// Changes with every change (a UUID).
    pub revision: String,
}

/// A part of all calls, in millionths: 0 to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight(pub u32);

/// How asynchronous calls are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventInvoke {
    /// Tries after the first: 0 to 2.
    pub retries: u32,
    /// Seconds after which a call is given up: 60 to 21,600.
    pub max_age_s: u32,
    /// ARN of a function that is told of successes, or empty.
    pub on_success: String,
    /// ARN of a function that is told of failures, or empty.
    pub on_failure: String,
    /// When it was last changed.
    pub modified: Millis,
}

impl Default for EventInvoke {
    /// AWS Lambda's: two retries within six hours.
    fn default() -> Self {
        Self {
            retries: 2,
            max_age_s: 21_600,
            on_success: String::new(),
            on_failure: String::new(),
            modified: 0,
        }
    }
}

/// What machines may be used for. Ours: AWS Lambda has no word for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// What becomes of a machine after a call.
    pub reuse: Reuse,
    /// What a routed call does when its machine is busy.
    pub routing: Routing,
    /// Whether unchanged work is answered from its record, and what it depends on; none: every call runs.
    #[serde(default)]
    pub idempotency: Option<Idempotency>,
}

/// What becomes of a machine after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reuse {
    /// It ends: each call has a fresh clone.
    #[default]
    Fresh,
    /// It is reset to its snapshot.
    Reset,
    /// It stays as it is, as AWS Lambda's do.
    Keep,
}

/// What a routed call does when the machine of its routing value is busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Routing {
    /// It takes another machine.
    #[default]
    Preferred,
    /// It waits; too many that wait are refused.
    Strict,
}
