//! Packages of PyPI that tests need, in folders of the cache: fetched once, and found without a network from then on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::packages;
use crate::process::{command, run, step, succeeds};

/// Python 3.11 with pip: what is missing of it is installed.
pub(super) fn ensure_pip() -> anyhow::Result<()> {
    if !succeeds(command("python3.11", Path::new("/")).args(["-m", "pip", "--version"])) {
        packages::install(&["python3", "python3-pip"])?;
    }
    Ok(())
}

/// The folder `name` with these requirements and nothing that they in turn require, made if it is not there. `trim`
/// takes out what no test reads.
pub(super) fn folder(
    name: &str,
    requirements: &[&str],
    trim: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let tools = calve_lab::cache_dir().join("tools");
    let folder = tools.join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    step(&format!("fetching {}", requirements.join(" ")));
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    // Made beside and renamed: half an install is not taken for a whole one.
    let work = tempfile::Builder::new().prefix(".making-").tempdir_in(&tools);
    let work = work.with_context(|| format!("cannot create a folder in {}", tools.display()))?;
    let made = work.path().join("packages");
    let mut pip = command("python3.11", Path::new("/"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--root-user-action=ignore", "--only-binary=:all:", "--no-deps", "--target"]);
    run(pip.arg(&made).args(requirements))?;
    trim(&made)?;
    fs::rename(&made, &folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}
