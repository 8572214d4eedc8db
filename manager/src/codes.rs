//! The code store: each tenant's packages, as they were uploaded, below a folder of its own.
//!
//! ```text
//! <folder>/<tenant>/<sha256>     a zip file
//! <folder>/<tenant>/.new-…       one on its way
//! ```
//!
//! A package is there whole or not at all: it is written under another name, synced and renamed. Equal packages of a
//! tenant are one file and count once; tenants share nothing, so that none can tell what another has.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::model::Code;

#[cfg(test)]
mod tests;

/// How the name of a package that is not whole starts.
const UNFINISHED: &str = ".new-";

/// Sizes of the packages that are there, by tenant and digest.
type Sizes = HashMap<String, HashMap<String, u64>>;

/// The packages of all tenants. Safe to share between threads, not between processes.
#[derive(Debug)]
pub struct CodeStore {
    folder: PathBuf,
    sizes: Mutex<Sizes>,
}

/// The code store cannot do as told.
#[derive(Debug, Error)]
pub enum CodesError {
    /// The file system refuses.
    #[error("code packages in {} cannot be read or written", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tenant may not have more.
    #[error("{used} of {most} bytes of code packages are used")]
    Full {
        /// Bytes that it has.
        used: u64,
        /// Bytes that it may have.
        most: u64,
    },
    /// A tenant or a digest that cannot be a file's name.
    #[error("`{0}` cannot be the name of a file")]
    Name(String),
    /// A package is not what it was.
    #[error("package {0} is damaged: update the function's code")]
    Damaged(String),
}

impl CodeStore {
    /// Opens the store, makes it where there is none, and sweeps away what was left half-written.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, CodesError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let mut sizes = Sizes::new();
        for entry in fs::read_dir(&folder).map_err(io_error(&folder))? {
            let entry = entry.map_err(io_error(&folder))?;
            let Ok(tenant) = entry.file_name().into_string() else { continue };
            if entry.path().is_dir() {
                sizes.insert(tenant, survey(&entry.path())?);
            }
        }
        Ok(Self { folder, sizes: Mutex::new(sizes) })
    }

    /// What `package` is called in the store, without putting it there.
    pub fn describe(package: &[u8]) -> Code {
        Code { sha256: hex::encode(Sha256::digest(package)), size: package.len() as u64 }
    }

    /// Keeps a package, of a tenant that may have `most` bytes of them. Blocks.
    ///
    /// # Errors
    ///
    /// When that is too much, or when it cannot be written.
    pub fn put(&self, tenant: &str, package: &[u8], most: u64) -> Result<Code, CodesError> {
        let code = Self::describe(package);
        let path = self.path(tenant, &code.sha256)?;
        if !self.has_room(&self.sizes(), tenant, &code, most)? {
            return Ok(code);
        }

        // The lock is not held while the disk works; what may have changed meanwhile is looked at again.
        let folder = self.folder.join(tenant);
        fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&folder);
        let mut file = unfinished.map_err(io_error(&folder))?;
        file.write_all(package).map_err(io_error(&path))?;
        file.as_file().sync_all().map_err(io_error(&path))?;

        let mut sizes = self.sizes();
        if self.has_room(&sizes, tenant, &code, most)? {
            file.persist(&path).map_err(|error| io_error(&path)(error.error))?;
            let synced = File::open(&folder).and_then(|folder| folder.sync_all());
            synced.map_err(io_error(&folder))?;
            sizes.entry(tenant.to_owned()).or_default().insert(code.sha256.clone(), code.size);
        }
        Ok(code)
    }

    /// A package, if it is still what it was when it came. Blocks.
    ///
    /// # Errors
    ///
    /// When it is not there, or is damaged.
    pub fn read(&self, tenant: &str, code: &Code) -> Result<Vec<u8>, CodesError> {
        let path = self.path(tenant, &code.sha256)?;
        let package = fs::read(&path).map_err(io_error(&path))?;
        if Self::describe(&package) != *code {
            return Err(CodesError::Damaged(code.sha256.clone()));
        }
        Ok(package)
    }

    /// Bytes of a tenant's packages.
    pub fn used(&self, tenant: &str) -> u64 {
        used(&self.sizes(), tenant)
    }

    /// The tenants that have packages.
    pub fn tenants(&self) -> Vec<String> {
        self.sizes().keys().cloned().collect()
    }

    /// Removes a tenant's packages but for those whose digests are in `kept`. Blocks.
    ///
    /// # Errors
    ///
    /// When a file cannot be removed.
    pub fn collect(&self, tenant: &str, kept: &BTreeSet<&str>) -> Result<(), CodesError> {
        let mut sizes = self.sizes();
        let Some(of_tenant) = sizes.get_mut(tenant) else { return Ok(()) };
        let known: Vec<String> = of_tenant.keys().cloned().collect();
        for digest in known.into_iter().filter(|digest| !kept.contains(digest.as_str())) {
            let path = self.path(tenant, &digest)?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(&path)(error));
                }
                _ => of_tenant.remove(&digest),
            };
        }
        Ok(())
    }

    /// Whether the package is to be written; an error if there is no room for it.
    fn has_room(
        &self,
        sizes: &Sizes,
        tenant: &str,
        code: &Code,
        most: u64,
    ) -> Result<bool, CodesError> {
        if sizes.get(tenant).is_some_and(|of_tenant| of_tenant.contains_key(&code.sha256)) {
            return Ok(false);
        }
        let used = used(sizes, tenant);
        if used.saturating_add(code.size) > most {
            return Err(CodesError::Full { used, most });
        }
        Ok(true)
    }

    fn path(&self, tenant: &str, digest: &str) -> Result<PathBuf, CodesError> {
        let plain = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        match [tenant, digest].into_iter().find(|name| !plain(name)) {
            Some(name) => Err(CodesError::Name(name.to_owned())),
            None => Ok(self.folder.join(tenant).join(digest)),
        }
    }

    fn sizes(&self) -> MutexGuard<'_, Sizes> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn used(sizes: &Sizes, tenant: &str) -> u64 {
    sizes.get(tenant).map_or(0, |of_tenant| of_tenant.values().sum())
}

/// The packages in a tenant's folder.
fn survey(folder: &Path) -> Result<HashMap<String, u64>, CodesError> {
    let mut sizes = HashMap::new();
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let entry = entry.map_err(io_error(folder))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with(UNFINISHED) {
            fs::remove_file(entry.path()).map_err(io_error(folder))?;
        } else {
            sizes.insert(name, entry.metadata().map_err(io_error(folder))?.len());
        }
    }
    Ok(sizes)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CodesError {
    let path = path.to_owned();
    move |source| CodesError::Io { path, source }
}
