//! Where the store is.

use std::path::{Path, PathBuf};

use calve_snapshots::{Error, KeyError, Store, TrustedKeys};

use crate::failure::{Failure, Status, line};
use crate::near;

/// The store's place, as the command line or the environment says it.
#[derive(Debug)]
pub(crate) struct Place {
    given: Option<PathBuf>,
    trusted_keys: Option<PathBuf>,
}

impl Place {
    /// `given` is `--store` or `CALVE_STORE`, where empty means not given; whose snapshots to open is `--trusted-keys` or
    /// `CALVE_TRUSTED_KEYS`.
    pub(crate) fn new(given: Option<PathBuf>, trusted_keys: Option<PathBuf>) -> Self {
        Self { given: given_path(given), trusted_keys }
    }

    /// The same, with another folder where none is given.
    pub(crate) fn or(&self, usual: &Path) -> Self {
        let given = self.given.clone().or_else(|| Some(usual.to_owned()));
        Self { given, trusted_keys: self.trusted_keys.clone() }
    }

    /// The store's folder: the one given, else the user's data folder (XDG base directory specification).
    pub(crate) fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(given) = &self.given {
            return std::path::absolute(given)
                .map_err(|e| Failure::of(Status::Usage, &e).about(given.display()));
        }
        let from = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        from("XDG_DATA_HOME")
            .or_else(|| Some(from("HOME")?.join(".local/share")))
            .map(|data| data.join("calve"))
            .ok_or_else(|| Failure::usage("no store: HOME is not set; name one with --store"))
    }

    /// Opens the store; makes it where it does not exist.
    pub(crate) fn open(&self) -> Result<Store, Failure> {
        // First: a store is not touched where nobody's snapshots may be opened.
        let keys = self.trusted_keys.as_deref().map(trusted_keys).transpose()?;
        let store = Store::open(self.path()?).map_err(|error| match &error {
            // Another folder would do.
            Error::Io { .. } => {
                Failure::usage(format_args!("{}; choose another store with --store", line(&error)))
            }
            _ => error.into(),
        })?;
        Ok(match keys {
            Some(keys) => store.trusting(keys),
            None => store,
        })
    }
}

/// An empty path is no way to say that everybody is trusted: a variable that somebody forgot to fill looks the same.
fn trusted_keys(path: &Path) -> Result<TrustedKeys, Failure> {
    if path.as_os_str().is_empty() {
        let text = "--trusted-keys (CALVE_TRUSTED_KEYS) is empty: name a key or a folder of keys, or unset it";
        return Err(Failure::usage(text));
    }
    Ok(TrustedKeys::read(path)?)
}

/// A path that is set but empty counts as not given.
pub(crate) fn given_path(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::of(Status::Usage, &error)
    }
}

/// A failure of the store; an unknown name gets a suggestion instead of the whole list.
pub(crate) fn failure(error: Error) -> Failure {
    match &error {
        Error::NotFound { name, store, known } => match near::nearest(name, known) {
            Some(near) => Failure::usage(format_args!(
                "no snapshot `{name}` in {}; did you mean `{near}`?",
                store.display()
            )),
            None => Failure::usage(line(&error)),
        },
        _ => error.into(),
    }
}
