//! Why packages could not be had.

use super::KEYRING;
use crate::cache::CacheError;
use crate::command::CommandError;
use crate::fsutil::FileError;

/// Why packages could not be had.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// Nothing could be verified.
    #[error("{KEYRING} is missing: run `apt-get install debian-archive-keyring`")]
    NoKeyring,
    /// The index of a release could not be fetched or verified.
    #[error("cannot update the package index of Debian {suite}: check the network and {KEYRING}")]
    Update {
        /// The release.
        suite: &'static str,
        /// What apt-get said.
        source: CommandError,
    },
    /// Packages could not be resolved or downloaded.
    #[error("cannot download {what} from Debian {suite}")]
    Download {
        /// The release.
        suite: &'static str,
        /// What was wanted.
        what: String,
        /// What apt-get said.
        source: CommandError,
    },
    /// apt-get printed something that is no list of packages.
    #[error("apt-get named no package file in `{0}`")]
    Listing(String),
    /// The private folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The private folder cannot be locked.
    #[error(transparent)]
    Cache(#[from] CacheError),
}
