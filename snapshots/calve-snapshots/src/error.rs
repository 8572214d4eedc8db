//! What can go wrong, each with its remedy.

use std::io;
use std::path::PathBuf;

use crate::manifest::{MANIFEST_VERSION, ManifestError};
use crate::state::StateError;
use crate::workset::WorksetError;
use crate::{Architecture, Digest, MalformedSignature};

/// An operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that could not be a file name everywhere.
    #[error(
        "`{0}` is no snapshot name: use 1 to 64 letters, digits, `.`, `_` or `-`, the first a letter or digit"
    )]
    InvalidName(String),

    /// Another process, or another draft of this one, is building the name.
    #[error(
        "snapshot `{0}` is being built by another process; wait for it, or choose another name"
    )]
    NameBusy(String),

    /// No snapshot has the name.
    #[error("no snapshot `{name}` in {store}; {}", known_names(known))]
    NotFound {
        /// The name asked for.
        name: String,
        /// The store looked in.
        store: PathBuf,
        /// The names that exist.
        known: Vec<String>,
    },

    /// The file system is full, or the user's quota on it.
    #[error("no space left to write {path}; free some, or choose another store")]
    NoSpace {
        /// What was being written; it has been removed again.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The system refused an operation.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// Others could replace what the store holds.
    #[error(
        "store {0} can be written by other users; choose a directory of your own, or `chmod go-w` it"
    )]
    NotPrivate(PathBuf),

    /// Written by another version of Calve.
    #[error(
        "snapshot `{name}` has format version {found}, this build reads {MANIFEST_VERSION}; \
         rebuild it with `calve snapshot build`"
    )]
    FormatVersion {
        /// The snapshot.
        name: String,
        /// The version it has.
        found: u32,
    },

    /// Made on another architecture.
    #[error(
        "snapshot `{name}` is of a {found} machine, this host is {host}; \
         rebuild it here with `calve snapshot build`"
    )]
    Architecture {
        /// The snapshot.
        name: String,
        /// Its architecture.
        found: String,
        /// The host's.
        host: Architecture,
    },

    /// Made on a processor of another vendor.
    #[error(
        "snapshot `{name}` needs a CPU of {wanted}, this host has {host}; \
         rebuild it here with `calve snapshot build`"
    )]
    CpuVendor {
        /// The snapshot.
        name: String,
        /// The vendor it needs.
        wanted: String,
        /// The host's.
        host: String,
    },

    /// The guest may be using instructions that this processor does not have.
    #[error(
        "snapshot `{name}` needs CPU features that this host lacks ({}); \
         rebuild it here with `calve snapshot build`", missing.join(", ")
    )]
    CpuFeatures {
        /// The snapshot.
        name: String,
        /// The features that are missing.
        missing: Vec<String>,
    },

    /// This host goes by signatures, and nobody it trusts has signed.
    #[error(
        "snapshot `{name}` is not signed by anybody whom this host trusts; \
         sign it with `calve snapshot sign`, or add its signer's public key"
    )]
    Unsigned {
        /// The snapshot.
        name: String,
    },

    /// What stands under a trusted key's name is not its signature.
    #[error(
        "snapshot `{name}` has a forged signature of key {key}, which did not sign this snapshot under this name; \
         find out who put it there"
    )]
    WronglySigned {
        /// The snapshot.
        name: String,
        /// The key, in hex.
        key: String,
    },

    /// There is no room for one more signature.
    #[error(
        "snapshot `{name}` has as many signatures as can be; remove signatures/{name} from the store and sign it anew"
    )]
    TooManySigners {
        /// The snapshot.
        name: String,
    },

    /// Somebody else has built the name anew.
    #[error("snapshot `{name}` was replaced meanwhile; try again")]
    Replaced {
        /// The snapshot.
        name: String,
    },

    /// A file is not what the manifest says.
    #[error("snapshot `{name}`: {file} is damaged; rebuild it with `calve snapshot build`")]
    Damaged {
        /// The snapshot.
        name: String,
        /// The file, relative to the store.
        file: String,
        /// How it is damaged.
        #[source]
        damage: Damage,
    },

    /// An image given to a draft cannot be kept.
    #[error("{0} is not a regular file; give a kernel, root or code image")]
    NotAnImage(PathBuf),

    /// The machine's memory could not be read.
    #[error("cannot read the memory of the machine to be frozen")]
    ReadMemory(#[source] io::Error),

    /// A draft was committed too early.
    #[error("snapshot `{name}` has no {missing} yet; write it before committing the draft")]
    Incomplete {
        /// The draft.
        name: String,
        /// What it lacks.
        missing: &'static str,
    },

    /// What was to be written is no valid manifest.
    #[error("snapshot `{name}` cannot be described")]
    Describe {
        /// The draft.
        name: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
}

/// How a file of a snapshot differs from what was written.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is gone.
    #[error("it is missing")]
    Missing,
    /// It is a link, a directory or a device.
    #[error("it is not a regular file")]
    NotRegular,
    /// It was cut or grown.
    #[error("it has {found} bytes instead of {wanted}")]
    Length {
        /// Bytes promised.
        wanted: u64,
        /// Bytes there.
        found: u64,
    },
    /// Its content changed.
    #[error("its digest is {found} instead of {wanted}")]
    Digest {
        /// Digest promised.
        wanted: Digest,
        /// Digest of what is there.
        found: Digest,
    },
    /// It does not parse.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It does not parse.
    #[error(transparent)]
    State(#[from] StateError),
    /// It does not parse.
    #[error(transparent)]
    Workset(#[from] WorksetError),
    /// It does not parse.
    #[error(transparent)]
    Signatures(#[from] MalformedSignature),
    /// It holds a machine of another architecture than the manifest.
    #[error("its architecture is not the manifest's")]
    Architecture,
    /// The medium failed.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
}

impl Error {
    /// Wraps what the system said about `path`; a full disk gets its own variant.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }
}

/// Most names spelt out in a message; the variant carries all of them.
const NAMES_SHOWN: usize = 10;

fn known_names(known: &[String]) -> String {
    match known.len() {
        0 => "the store is empty, make one with `calve snapshot build`".into(),
        n if n > NAMES_SHOWN => {
            format!("it has {} and {} more", known[..NAMES_SHOWN].join(", "), n - NAMES_SHOWN)
        }
        _ => format!("it has {}", known.join(", ")),
    }
}
