//! A private apt: resolves and downloads Debian packages without touching the host's package state.
//!
//! Lists, cache and status file live in our cache folder, so any Debian release can be resolved on any host, and the
//! host's apt.conf (proxies, certificates) still applies. Signatures are checked against Debian's archive keyring
//! only; nothing here can turn that off. Packages are never installed and their maintainer scripts never run.

mod deb;
mod error;
mod sources;
mod stand_in;

pub(crate) use deb::Deb;
pub use deb::Package;
pub use error::AptError;
use sources::Mirrors;
pub(crate) use stand_in::StandIn;

use crate::cache::{Cache, Lock};
use crate::command::{self, CommandError};
use crate::digest;
use crate::fsutil;
use crate::progress::Progress;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The keys Debian signs its releases with (package debian-archive-keyring).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One release's private apt, locked.
pub(crate) struct Apt {
    suite: &'static str,
    dir: PathBuf,
    _lock: Lock,
}

impl Apt {
    /// Sets up the private folder for a release, with nothing but `stand_ins` installed, and fetches its index.
    pub(crate) fn open(
        cache: &Cache,
        suite: &'static str,
        stand_ins: &[StandIn],
        progress: &mut dyn Progress,
    ) -> Result<Self, AptError> {
        command::require(&["apt-get"]).map_err(|source| AptError::Update { suite, source })?;
        if !Path::new(KEYRING).exists() {
            return Err(AptError::NoKeyring);
        }
        let dir = cache.apt(suite);
        let apt = Self { suite, _lock: Lock::take(&dir, progress)?, dir };
        for folder in ["lists/partial", "archives/partial", "none/partial"] {
            fsutil::create_dir(&apt.dir.join(folder))?;
        }
        let sources = Mirrors::of_host(Path::new("/etc/apt")).sources(suite, KEYRING);
        fsutil::write_atomically(&apt.dir.join("debian.sources"), sources.as_bytes())?;
        fsutil::write_atomically(&apt.dir.join("status"), stand_in::status(stand_ins).as_bytes())?;

        progress.stage(&format!("Reading the package index of Debian {suite}"));
        command::quietly(apt.get().args(["-qq", "update"]), progress)
            .map_err(|source| AptError::Update { suite, source })?;
        Ok(apt)
    }

    /// Downloads packages with everything they depend on; sorted by name.
    pub(crate) fn fetch(
        &self,
        packages: &[&str],
        progress: &mut dyn Progress,
    ) -> Result<Vec<Deb>, AptError> {
        let install = |more: &[&str]| {
            let mut command = self.get();
            command.args(["-y", "-qq", "install"]).args(more).args(packages);
            command
        };
        let files = self.list(install(&["--print-uris"]), &packages.join(" "), progress)?;
        progress.stage(&format!("Downloading {} packages of Debian {}", files.len(), self.suite));
        command::quietly(&mut install(&["--download-only"]), progress)
            .map_err(self.download_error(&packages.join(" ")))?;
        let mut debs = Vec::with_capacity(files.len());
        for file in files {
            let path = self.archives().join(&file);
            let sha256 = digest::of_file(&path)?;
            debs.push(Deb::new(&file, path, sha256).ok_or(AptError::Listing(file))?);
        }
        debs.sort();
        Ok(debs)
    }

    /// The candidate version of one package, nothing downloaded.
    pub(crate) fn candidate(
        &self,
        package: &str,
        progress: &mut dyn Progress,
    ) -> Result<String, AptError> {
        let mut command = self.get();
        command.args(["-qq", "download", "--print-uris", package]);
        let files = self.list(command, package, progress)?;
        let file = files.first().map_or("", String::as_str);
        deb::parse_file_name(file)
            .map(|(_, version, _)| version)
            .ok_or_else(|| AptError::Listing(file.to_owned()))
    }

    /// Downloads one package alone into `dir`; its file.
    pub(crate) fn fetch_alone(
        &self,
        package: &str,
        dir: &Path,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, AptError> {
        let mut list = self.get();
        list.args(["-qq", "download", "--print-uris", package]);
        let files = self.list(list, package, progress)?;
        progress.stage(&format!("Downloading {package}"));
        let mut download = self.get();
        download.args(["-qq", "download", package]).current_dir(dir);
        command::quietly(&mut download, progress).map_err(self.download_error(package))?;
        files
            .first()
            .map(|file| dir.join(file))
            .filter(|path| path.is_file())
            .ok_or_else(|| AptError::Listing(files.join(" ")))
    }

    /// The file names that a command with `--print-uris` would download.
    fn list(
        &self,
        mut command: Command,
        what: &str,
        progress: &mut dyn Progress,
    ) -> Result<Vec<String>, AptError> {
        // With an archive folder that stays empty apt also lists what is downloaded already.
        command.arg("-o").arg(option("Dir::Cache::archives", &self.dir.join("none")));
        let lines = command::output(&mut command, progress).map_err(self.download_error(what))?;
        lines.iter().map(|line| deb::listed_file(line)).collect()
    }

    fn download_error(&self, what: &str) -> impl FnOnce(CommandError) -> AptError {
        let (suite, what) = (self.suite, what.to_owned());
        move |source| AptError::Download { suite, what, source }
    }

    fn archives(&self) -> PathBuf {
        self.dir.join("archives")
    }

    /// `apt-get` confined to the private folder.
    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env_remove("APT_CONFIG");
        let paths = [
            ("Dir::State", self.dir.clone()),
            ("Dir::State::lists", self.dir.join("lists")),
            ("Dir::State::status", self.dir.join("status")),
            ("Dir::Cache", self.dir.clone()),
            ("Dir::Cache::archives", self.archives()),
            ("Dir::Etc::sourcelist", self.dir.join("debian.sources")),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::Etc::preferences", "/dev/null".into()),
            ("Dir::Etc::preferencesparts", "/dev/null".into()),
            ("Dir::Etc::trusted", "/dev/null".into()),
            ("Dir::Etc::trustedparts", "/dev/null".into()),
        ];
        for (name, path) in &paths {
            command.arg("-o").arg(option(name, path));
        }
        for word in [
            "APT::Architecture=amd64",
            "APT::Architectures::=amd64",
            "APT::Install-Recommends=false",
            "APT::Install-Suggests=false",
            // The cache is in the user's home, where apt's own user has no access.
            "APT::Sandbox::User=root",
            "Acquire::Languages=none",
            "Acquire::Retries=3",
        ] {
            command.args(["-o", word]);
        }
        command
    }
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push("=");
    option.push(path);
    option
}
