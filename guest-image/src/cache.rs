//! Where built images are kept, and the locks that keep two builders from doing one thing twice.
//!
//! ```text
//! <cache>/kernel/<key>/{vmlinux,bzImage,System.map,config,manifest.json}
//!         kernel/source.json                    the kernel source chosen last
//!         root/<runtime>-<key>/{root.erofs,manifest.json}
//!         root/base/<runtime>-<key>/tree        the unpacked packages, without the agent
//!         root/base/<runtime>.json              the packages chosen last
//!         apt/<suite>/                          a private apt
//! ```

use crate::fsutil::{FileError, create_dir, in_file};
use crate::progress::Progress;
use std::env;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a builder that waits for another one asks whether it should give up.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// The folder of built images.
#[derive(Debug, Clone)]
pub struct Cache {
    path: PathBuf,
}

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Neither the cache nor a home folder is named by the environment.
    #[error("no cache folder: set CALVE_CACHE or HOME")]
    NoHome,
    /// A path of the environment is not absolute, so what it means depends on where one stands.
    #[error("cache folder `{}` is not absolute: set {variable} to an absolute path", path.display())]
    Relative {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// A folder or lock file in it cannot be made.
    #[error(transparent)]
    File(#[from] FileError),
    /// The caller gave up while another process was building.
    #[error("interrupted while waiting for another build")]
    Interrupted,
}

impl Cache {
    /// The cache in a folder of the caller's choice; it is created when something is built.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The user's cache: `$CALVE_CACHE`, else `$XDG_CACHE_HOME/calve`, else `~/.cache/calve`.
    pub fn from_env() -> Result<Self, CacheError> {
        Self::from_variables(|name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
    }

    fn from_variables(get: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, CacheError> {
        let absolute = |variable, path: PathBuf| match path.is_absolute() {
            true => Ok(path),
            false => Err(CacheError::Relative { variable, path }),
        };
        let path = if let Some(path) = get("CALVE_CACHE") {
            absolute("CALVE_CACHE", path)?
        } else if let Some(path) = get("XDG_CACHE_HOME").filter(|p| p.is_absolute()) {
            // The XDG base directory specification: a relative path is to be ignored.
            path.join("calve")
        } else {
            absolute("HOME", get("HOME").ok_or(CacheError::NoHome)?)?.join(".cache/calve")
        };
        Ok(Self::at(path))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of the kernels.
    pub(crate) fn kernels(&self) -> PathBuf {
        self.path.join("kernel")
    }

    /// Folder of the root images.
    pub(crate) fn roots(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Folder of the unpacked package trees that root images are made of.
    pub(crate) fn bases(&self) -> PathBuf {
        self.roots().join("base")
    }

    /// Folder of the private apt of one Debian release.
    pub(crate) fn apt(&self, suite: &str) -> PathBuf {
        self.path.join("apt").join(suite)
    }
}

/// An exclusive lock on one folder of the cache, held until it is dropped; the kernel drops it for a killed process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Creates `dir` and locks it, waiting for whoever builds there now.
    pub(crate) fn take(dir: &Path, progress: &mut dyn Progress) -> Result<Self, CacheError> {
        create_dir(dir)?;
        let path = dir.join(".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(in_file("open", &path))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(source)) => {
                    return Err(in_file("lock", &path)(source).into());
                }
                Err(TryLockError::WouldBlock) if progress.cancelled() => {
                    return Err(CacheError::Interrupted);
                }
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        progress.stage("Waiting for another build");
                        told = true;
                    }
                    // flock has no time-out, and the caller must stay interruptible.
                    std::thread::sleep(LOCK_POLL);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn cache_of(variables: &[(&str, &str)]) -> Result<PathBuf, CacheError> {
        let get = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value))
        };
        Cache::from_variables(get).map(|cache| cache.path)
    }

    #[test]
    fn the_nearest_variable_names_the_cache() {
        let home = ("HOME", "/root");
        let xdg = ("XDG_CACHE_HOME", "/x");
        let own = ("CALVE_CACHE", "/c");
        assert_eq!(cache_of(&[home]).unwrap(), Path::new("/root/.cache/calve"));
        assert_eq!(cache_of(&[home, xdg]).unwrap(), Path::new("/x/calve"));
        assert_eq!(cache_of(&[home, xdg, own]).unwrap(), Path::new("/c"));
        assert_eq!(
            cache_of(&[home, ("XDG_CACHE_HOME", "x")]).unwrap(),
            Path::new("/root/.cache/calve")
        );
    }

    #[test]
    fn no_home_and_relative_paths_are_refused_by_name() {
        assert!(matches!(cache_of(&[]), Err(CacheError::NoHome)));
        let error = cache_of(&[("CALVE_CACHE", "here")]).unwrap_err().to_string();
        assert!(error.contains("`here`") && error.contains("CALVE_CACHE"), "{error}");
    }

    struct GiveUp {
        told: Vec<String>,
    }

    impl Progress for GiveUp {
        fn stage(&mut self, what: &str) {
            self.told.push(what.to_owned());
        }
        fn cancelled(&self) -> bool {
            !self.told.is_empty()
        }
    }

    #[test]
    fn a_second_builder_waits_is_told_why_and_can_give_up() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path(), &mut Silent).unwrap();
        let mut second = GiveUp { told: Vec::new() };
        assert!(matches!(Lock::take(dir.path(), &mut second), Err(CacheError::Interrupted)));
        assert_eq!(second.told, ["Waiting for another build"]);
        drop(held);
        Lock::take(dir.path(), &mut second).unwrap();
    }
}
