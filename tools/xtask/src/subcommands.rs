//! Subcommands of cargo that are not cargo's own: built once, in the version that is known to do, and kept in the cache.

use std::path::{Path, PathBuf};

use crate::process::{command, run, step, succeeds};

/// The path of `cargo-NAME` in this version, built with `options` of `cargo install` if it is not there.
pub(crate) fn ensure(name: &str, version: &str, options: &[&str]) -> anyhow::Result<PathBuf> {
    let package = format!("cargo-{name}");
    let root = calve_lab::cache_dir().join("tools").join(format!("{package}-{version}"));
    let program = root.join("bin").join(&package);
    if succeeds(command(&program, Path::new("/")).args([name, "--version"])) {
        return Ok(program);
    }
    step(&format!("installing {package} {version}"));
    let mut install = command("cargo", Path::new("/"));
    install.args(["install", "--quiet", "--locked", &package, "--version", version]);
    run(install.args(options).arg("--root").arg(&root))?;
    Ok(program)
}
