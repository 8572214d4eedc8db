//! `cargo xtask deb`: the Debian package of `calve`, by cargo-deb.
//!
//! What it has, and where, is in `tools/calve/Cargo.toml`; its files are in `tools/calve/debian`. The same programs make the same
//! package: its times are that of the last commit.

mod notices;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::process::{command, output, run, step};
use crate::workspace::Workspace;
use crate::{binaries, packages, subcommands};

/// The version of `cargo deb` that is installed where there is none.
const CARGO_DEB: &str = "3.7.0";
/// Without a library for compression of its own: the program `xz` does.
const WITHOUT_LIBRARY: [&str; 1] = ["--no-default-features"];
/// What it runs: dpkg-shlibdeps, to learn which libraries programs need, and xz.
const PACKAGES: [&str; 2] = ["dpkg-dev", "xz-utils"];
/// Completion scripts: the shell, and the file's name.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "calve.bash"), ("zsh", "_calve"), ("fish", "calve.fish")];

/// The notices of others, beside our programs.
const NOTICES: &str = "THIRD-PARTY-NOTICES";

/// Builds our programs and the package, and prints where it is.
pub(crate) fn run_all(workspace: &Workspace) -> anyhow::Result<()> {
    binaries::build(workspace)?;
    println!("{}", build(workspace)?.display());
    Ok(())
}

/// Where the package is once it is built.
pub(crate) fn path(workspace: &Workspace) -> PathBuf {
    workspace.target().join("debian/calve.deb")
}

/// Builds the package of the programs that are there.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    packages::install(&PACKAGES)?;
    let cargo_deb = subcommands::ensure("deb", CARGO_DEB, &WITHOUT_LIBRARY)?;
    complete(&workspace.release())?;
    let notices = workspace.release().join(NOTICES);
    fs::write(&notices, notices::text(workspace)?)
        .with_context(|| format!("cannot write {}", notices.display()))?;
    step("building the Debian package");
    let package = path(workspace);
    let mut deb = command(cargo_deb, &workspace.root());
    deb.args(["deb", "--quiet", "--package", "calve", "--no-build"]);
    // The agent's bytes are part of what root images are found by; and symbols are what a panic is told with.
    deb.args(["--no-strip", "--output"]).arg(&package);
    if let Some(time) = last_commit(&workspace.root()) {
        deb.env("SOURCE_DATE_EPOCH", time);
    }
    run(&mut deb)?;
    Ok(package)
}

/// Has the command write its completion scripts where cargo-deb looks for them.
fn complete(release: &Path) -> anyhow::Result<()> {
    let folder = release.join("completions");
    let write = || format!("cannot write to {}", folder.display());
    fs::create_dir_all(&folder).with_context(write)?;
    for (shell, file) in COMPLETIONS {
        let mut calve = command(release.join("calve"), release);
        let script = output(calve.args(["completions", shell]))?;
        fs::write(folder.join(file), script).with_context(write)?;
    }
    Ok(())
}

/// When the last commit was made, in seconds since 1970; none outside of a repository.
fn last_commit(root: &Path) -> Option<String> {
    let time = output(command("git", root).args(["log", "-1", "--format=%ct"])).ok()?;
    Some(time.trim().to_owned()).filter(|time| !time.is_empty())
}
