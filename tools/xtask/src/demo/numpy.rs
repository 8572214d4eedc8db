//! The folder of the Python function: `app.py` and numpy from PyPI, made once for each version of both.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::packages;
use crate::process::{command, run, step, succeeds};

/// The demo's function.
const APP: &str = include_str!("../../demo/py/app.py");
/// What it imports.
const NUMPY: &str = "numpy==2.3.5";

/// The demo's folder, made if it is not there.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    folder_of(APP)
}

/// The folder of a function that imports numpy, made if it is not there.
pub(crate) fn folder_of(app: &str) -> anyhow::Result<PathBuf> {
    let key = Sha256::new().chain_update(NUMPY).chain_update(app).finalize();
    let key: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let demo = calve_lab::cache_dir().join("demo");
    let folder = demo.join(format!("python-{key}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    fs::create_dir_all(&demo).with_context(|| format!("cannot create {}", demo.display()))?;
    let work = tempfile::Builder::new().prefix(".making-").tempdir_in(&demo);
    let work = work.with_context(|| format!("cannot create a folder in {}", demo.display()))?;
    let made = work.path().join("code");
    make(&made, app)?;
    // Whoever was faster has made the same.
    if let Err(error) = fs::rename(&made, &folder)
        && !folder.is_dir()
    {
        return Err(error).with_context(|| format!("cannot create {}", folder.display()));
    }
    Ok(folder)
}

fn make(folder: &Path, text: &str) -> anyhow::Result<()> {
    let here = Path::new("/");
    if !succeeds(command("python3", here).args(["-m", "pip", "--version"])) {
        packages::install(&["python3", "python3-pip"])?;
    }
    step(&format!("fetching {NUMPY}"));
    let mut pip = command("python3", here);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]);
    pip.args(["--root-user-action=ignore", "--only-binary=:all:", "--implementation=cp"]);
    // For the guest's Python, whatever this machine's is.
    pip.args(["--python-version=3.11", "--target"]).arg(folder).arg(NUMPY);
    run(&mut pip)?;
    let app = folder.join("app.py");
    fs::write(&app, text).with_context(|| format!("cannot write {}", app.display()))?;
    // Compiled by the same version if it is here, so that a cold boot is not slower than it must be.
    // By hash, as an image need not keep the times of files.
    let mut compile = command("python3.11", here);
    compile.args(["-m", "compileall", "-qq", "--invalidation-mode=unchecked-hash", "-j0"]);
    if !succeeds(compile.arg(folder)) {
        step("no python3.11 here: the function is compiled at each cold boot");
    }
    Ok(())
}
