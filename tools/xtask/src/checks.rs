//! What is checked without running anything of ours.

use std::process::Stdio;

use anyhow::bail;

use crate::process::{cargo, run, step, succeeds};
use crate::test::bootstrap;
use crate::tidy;
use crate::workspace::Workspace;

/// Format, lints, rules of the house, licences and advisories. Returns what is violated.
pub(crate) fn run_all(workspace: &Workspace) -> Vec<String> {
    let root = workspace.root();
    let mut failures: Vec<_> =
        tidy::run(workspace).err().map(|error| error.to_string()).into_iter().collect();
    let target = workspace.target().display().to_string();
    let fixtures = workspace.target().join("fixtures").display().to_string();
    let licences = ["--log-level", "error", "check", "bans", "licenses", "sources"];
    let mut checks = vec![
        ("fmt", ["--all", "--check"].to_vec()),
        ("clippy", ["--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"].to_vec()),
        ("deny", licences.to_vec()),
    ];
    // The fuzz targets and the bootstrap for tests are workspaces of their own.
    for (manifest, target) in [("tools/fuzz/Cargo.toml", &target), (bootstrap::MANIFEST, &fixtures)]
    {
        let manifest = ["--manifest-path", manifest];
        let lints = ["--target-dir", target, "--all-targets", "--", "-D", "warnings"];
        checks.extend([
            ("fmt", [&manifest[..], &["--check"]].concat()),
            ("clippy", [&["--quiet"], &manifest[..], &lints].concat()),
            ("deny", [&manifest[..], &["--config", "deny.toml"], &licences].concat()),
        ]);
    }
    for (component, arguments) in checks {
        if !succeeds(cargo(&root).args([component, "--version"])) {
            step(&format!("NOT CHECKED: there is no cargo {component} here"));
            continue;
        }
        step(&format!("cargo {component}"));
        if let Err(error) = run(cargo(&root).arg(component).args(arguments)) {
            failures.push(format!("{error:#}"));
        }
    }
    failures.extend(advisories(workspace).err().map(|error| error.to_string()));
    failures
}

/// Known flaws of what we depend on. Their list is on the network, which a build machine may not have:
/// that is told, and is no failure of ours.
fn advisories(workspace: &Workspace) -> anyhow::Result<()> {
    let mut deny = cargo(&workspace.root());
    deny.args(["deny", "--log-level", "error", "check", "advisories"]);
    let Ok(output) = deny.stdout(Stdio::piped()).stderr(Stdio::piped()).output() else {
        return Ok(());
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("no such command") {
        // Told above.
    } else if said.contains("failed to fetch advisory database") {
        step("NOT CHECKED: the advisories, as their database cannot be fetched");
    } else if !output.status.success() {
        eprint!("{said}");
        bail!("`cargo deny check advisories` failed");
    }
    Ok(())
}
