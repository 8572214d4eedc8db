//! What is checked without running anything of ours.

use crate::process::{cargo, run, step, succeeds};
use crate::tidy;
use crate::workspace::Workspace;

/// Format, lints, rules of the house, licences and advisories. Returns what is violated.
pub(crate) fn run_all(workspace: &Workspace) -> Vec<String> {
    let root = workspace.root();
    let mut failures: Vec<_> =
        tidy::run(workspace).err().map(|error| error.to_string()).into_iter().collect();
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
        if let Err(error) = run(cargo(&root).arg(component).args(arguments)) {
            failures.push(format!("{error:#}"));
        }
    }
    failures
}
