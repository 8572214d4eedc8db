//! Our programs, built for release and laid side by side, as each looks for the others there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::process::{cargo, command, output, run, step, succeeds};
use crate::workspace::Workspace;

/// The agent is PID 1 of a guest that may have no libc: it is linked statically. So is a test's `bootstrap`.
const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";
/// Where the target above cannot be had: glibc, linked statically.
const FALLBACK_TARGET: &str = "x86_64-unknown-linux-gnu";
const AGENT: &str = "calve-agent";

/// Builds `calve`, `calve-worker`, `calve-lab` and the guest's `calve-agent`.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<()> {
    step("building calve, calve-worker and calve-lab");
    let mut build = cargo(&workspace.root());
    build.args(["build", "--quiet", "--release", "--bins"]);
    run(build.args(["-p", "calve", "-p", "calve-worker", "-p", "calve-lab"]))?;
    build_agent(workspace)
}

/// Builds `calve-lab` alone and returns its path.
pub(crate) fn build_lab(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let mut build = cargo(&workspace.root());
    run(build.args(["build", "--quiet", "--release", "--bins", "-p", "calve-lab"]))?;
    Ok(workspace.release().join("calve-lab"))
}

fn build_agent(workspace: &Workspace) -> anyhow::Result<()> {
    step("building calve-agent");
    let root = workspace.root();
    let (target, mut flags) = static_target(&root)?;
    flags.extend(remap_flags(workspace)?);
    // As an option and not by RUSTFLAGS, which would apply to build scripts as well.
    let flags = format!("target.{target}.rustflags={}", serde_json::to_string(&flags)?);
    let mut build = cargo(&root);
    build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    build.args(["build", "--quiet", "--release", "-p", AGENT, "--bin", AGENT]);
    run(build.args(["--target", target, "--config", &flags]))?;
    let built = workspace.target().join(target).join("release").join(AGENT);
    place(&built, &workspace.release().join(AGENT))
}

/// The target for which a program is linked statically, and the compiler's flags for that.
pub(crate) fn static_target(root: &Path) -> anyhow::Result<(&'static str, Vec<String>)> {
    if has_static_target(root)? {
        return Ok((STATIC_TARGET, Vec::new()));
    }
    step(&format!("no {STATIC_TARGET} to be had: linking with a static glibc"));
    Ok((FALLBACK_TARGET, vec!["-Ctarget-feature=+crt-static".to_owned()]))
}

/// Takes the paths of this machine out of the agent: the same source gives the same bytes anywhere,
/// and so the same root images.
fn remap_flags(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = Vec::new();
    // The last match wins, and the target folder is usually below the root.
    let places = [
        (Some(workspace.root()), "/calve"),
        (Some(workspace.target()), "/target"),
        (home, "/cargo"),
    ];
    for (from, to) in places {
        let Some(from) = from else { continue };
        let from = from.to_str().context("a path of this workspace is not UTF-8")?;
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    Ok(flags)
}

/// Whether Rust's standard library for the static target is here, after an attempt to get it.
fn has_static_target(root: &Path) -> anyhow::Result<bool> {
    if is_installed(root)? {
        return Ok(true);
    }
    step(&format!("adding the Rust target {STATIC_TARGET}"));
    Ok(succeeds(command("rustup", root).args(["target", "add", STATIC_TARGET]))
        && is_installed(root)?)
}

fn is_installed(root: &Path) -> anyhow::Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut rustc = command(rustc, root);
    let folder = output(rustc.args(["--print", "target-libdir", "--target", STATIC_TARGET]))?;
    let Ok(mut files) = fs::read_dir(folder.trim()) else { return Ok(false) };
    Ok(files.any(|file| {
        file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
    }))
}

/// Copies `from` to `to` unless they are equal already; never leaves half a file.
fn place(from: &Path, to: &Path) -> anyhow::Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let beside = to.with_extension("new");
    fs::copy(from, &beside).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, to).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placing_keeps_what_is_equal_and_replaces_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "1").unwrap();
        place(&from, &to).unwrap();
        let first = fs::metadata(&to).unwrap().modified().unwrap();
        place(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), first);
        fs::write(&from, "2").unwrap();
        place(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "2");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
