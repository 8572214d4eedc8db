//! What is checked without running anything of ours.

use crate::process::{cargo, run, step, succeeds};
use crate::tidy;
use crate::workspace::Workspace;

/// Format, lints, rules of the house, licences and advisories.
pub(crate) fn run_all(workspace: &Workspace) -> anyhow::Result<()> {
    let root = workspace.root();
    tidy::run(workspace)?;
    for (component, arguments) in [
        ("fmt", &["--all", "--check"][..]),
        ("clippy", &["--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        ("deny", &["--log-level", "error", "check"]),
    ] {
        if !succeeds(cargo(&root).args([component, "--version"])) {
            step(&format!("NOT CHECKED: there is no cargo {component} here"));
            continue;
        }
        step(&format!("cargo {component}"));
        run(cargo(&root).arg(component).args(arguments))?;
    }
    Ok(())
}
