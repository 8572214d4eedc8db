//! The agent's executable, checked and put into a tree.

use super::RootError;
use crate::digest;
use crate::fsutil::{FileError, in_file};
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the agent is in the image; `/sbin` is a symlink to `/usr/sbin`.
const AGENT: &str = "usr/sbin/calve-agent";

/// The agent's executable.
pub(super) struct Agent {
    path: PathBuf,
    /// SHA-256 of the executable, in hex.
    pub(super) sha256: String,
}

impl Agent {
    /// Looks at the file before anything is built for it.
    pub(super) fn open(path: &Path) -> Result<Self, RootError> {
        let mut header = Vec::new();
        File::open(path)
            .and_then(|file| file.take(20).read_to_end(&mut header))
            .map_err(in_file("read agent", path))?;
        // ELF-64, little-endian, machine EM_X86_64 (System V ABI, chapter 4).
        if !header.starts_with(b"\x7fELF\x02\x01") || header.get(18..20) != Some(&[62, 0][..]) {
            return Err(RootError::Agent(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), sha256: digest::of_file(path)? })
    }

    /// Puts the agent into a tree, in place of any other.
    pub(super) fn install(&self, tree: &Path) -> Result<(), FileError> {
        let target = tree.join(AGENT);
        fs::copy(&self.path, &target).map_err(in_file("write", &target))?;
        fs::set_permissions(&target, Permissions::from_mode(0o755))
            .map_err(in_file("set the mode of", &target))
    }
}
