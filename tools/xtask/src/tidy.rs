//! `cargo xtask tidy`: the rules of the house that no compiler knows. Each rule reports every
//! violation that it finds, with the remedy.

mod files;
mod rooms;

use anyhow::bail;

use crate::process::{command, output, step};
use crate::workspace::Workspace;

/// Applies all rules to what git tracks.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    step("tidy");
    let root = workspace.root();
    let tracked = output(command("git", &root).args(["ls-files", "-z"]))?;
    let mut paths: Vec<&str> = tracked.split_terminator('\0').collect();
    // What is deleted and not committed yet is still tracked.
    paths.retain(|path| root.join(path).is_file());

    let mut violations = rooms::check(&workspace.metadata, &paths)?;
    violations.extend(files::check(&root, &paths)?);
    for violation in &violations {
        eprintln!("tidy: {violation}");
    }
    if !violations.is_empty() {
        bail!("{} violations of the rules of the house", violations.len());
    }
    Ok(())
}
