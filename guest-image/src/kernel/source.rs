//! Debian's kernel source: the installed one, else the newest of Debian's archive.

use super::KernelError;
use crate::apt::Apt;
use crate::cache::Cache;
use crate::command;
use crate::digest;
use crate::fsutil::{self, in_file};
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's package of the long-term kernel this fragment is written for; Debian 12 has it in its security archive.
const PACKAGE: &str = "linux-source-6.12";

/// The file in it.
const TARBALL: &str = "usr/src/linux-source-6.12.tar.xz";

/// The release whose archive is asked.
const SUITE: &str = "bookworm";

/// Which source it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SourceId {
    /// Version of the Debian package.
    pub(super) version: String,
    /// SHA-256 of the tarball.
    pub(super) sha256: String,
}

/// A kernel source at hand.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: SourceId,
    pub(super) tarball: PathBuf,
}

impl Source {
    /// Finds the source on this host, or downloads it into `work`.
    pub(super) fn get(
        cache: &Cache,
        work: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Self, KernelError> {
        let installed = Path::new("/").join(TARBALL);
        if let Some(version) = installed_version(progress).filter(|_| installed.is_file()) {
            return Self::new(version, installed);
        }
        let apt = Apt::open(cache, SUITE, &[], progress)?;
        let version = apt.candidate(PACKAGE, progress)?;
        let deb = apt.fetch_alone(PACKAGE, work, progress)?;
        drop(apt);
        progress.stage("Unpacking the kernel source package");
        let unpacked = work.join("package");
        command::quietly(
            Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&unpacked),
            progress,
        )?;
        fs::remove_file(&deb).map_err(in_file("remove", &deb))?;
        let tarball = unpacked.join(TARBALL);
        if fsutil::file_len(&tarball).is_none() {
            return Err(KernelError::NoTarball { package: PACKAGE, version, file: TARBALL });
        }
        Self::new(version, tarball)
    }

    fn new(version: String, tarball: PathBuf) -> Result<Self, KernelError> {
        let sha256 = digest::of_file(&tarball)?;
        Ok(Self { id: SourceId { version, sha256 }, tarball })
    }
}

/// The version [`Source::get`] would choose now.
pub(super) fn newest_version(
    cache: &Cache,
    progress: &mut dyn Progress,
) -> Result<String, KernelError> {
    if let Some(version) = installed_version(progress) {
        return Ok(version);
    }
    Ok(Apt::open(cache, SUITE, &[], progress)?.candidate(PACKAGE, progress)?)
}

/// The version of the package on this host, if it is installed.
fn installed_version(progress: &mut dyn Progress) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status} ${Version}", PACKAGE]);
    let answer = command::output(&mut query, progress).ok()?;
    Some(answer.first()?.strip_prefix("installed ")?.to_owned())
}
