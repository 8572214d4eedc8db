//! The rooms of the workspace: which crates there are, and which of ours each may depend on.
//! ARCHITECTURE.md has the same table with the reasons.

use anyhow::Context as _;
use cargo_metadata::{Metadata, Package};

/// The top folders, each with a README.md once it holds anything.
const ROOMS: [&str; 7] =
    ["agent", "benches", "guest-image", "manager", "snapshots", "tools", "vmm"];
/// Files of the top folder.
const TOP_FILES: [&str; 7] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "deny.toml",
];

/// A crate of ours, the room it lives in, and the crates of ours that it may depend on. Entry points
/// and benchmarks may depend on all.
const RULES: &[(&str, &str, Option<&[&str]>)] = &[
    ("calve-vmm", "vmm", Some(&[])),
    ("calve-jail", "vmm", Some(&[])),
    ("calve-proto", "agent", Some(&[])),
    ("calve-agent", "agent", Some(&["calve-proto"])),
    ("calve-image", "guest-image", Some(&["calve-proto"])),
    ("calve-snapshots", "snapshots", Some(&["calve-vmm", "calve-proto"])),
    (
        "calve-fleet",
        "snapshots",
        Some(&["calve-vmm", "calve-jail", "calve-proto", "calve-snapshots"]),
    ),
    ("calve-manager", "manager", Some(&["calve-fleet", "calve-snapshots", "calve-proto"])),
    ("calve", "tools", None),
    ("calve-worker", "tools", None),
    ("calve-lab", "tools", Some(&[])),
    ("xtask", "tools", None),
    ("calve-benches", "benches", None),
];

/// Checks crates, their dependencies and their rooms.
pub(super) fn check(metadata: &Metadata, tracked: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut violations = Vec::new();
    let packages = metadata.workspace_packages();
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    for package in &packages {
        let folder = package.manifest_path.strip_prefix(&metadata.workspace_root);
        let folder = folder.context("a package lies outside the workspace")?;
        violations.extend(check_package(package, folder.as_str(), &names));
    }
    for file in TOP_FILES.iter().filter(|file| !tracked.contains(file)) {
        violations.push(format!("{file} is missing: write it"));
    }
    for room in ROOMS {
        let inside = format!("{room}/");
        let readme = format!("{room}/README.md");
        let lived_in = tracked.iter().any(|path| path.starts_with(&inside));
        if lived_in && !tracked.contains(&readme.as_str()) {
            violations.push(format!(
                "{readme} is missing: say what lives here, what it may depend on, where to start reading"
            ));
        }
    }
    Ok(violations)
}

fn check_package(package: &Package, folder: &str, ours: &[&str]) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, room, allowed)) = RULES.iter().find(|(known, ..)| *known == name) else {
        return vec![format!("{name} has no rule: give it one in tools/xtask/src/tidy/rooms.rs")];
    };
    let mut violations = Vec::new();
    if !folder.starts_with(&format!("{room}/")) {
        violations.push(format!("{name} lives in {folder}: its room is {room}/"));
    }
    let dependencies = package.dependencies.iter().map(|dependency| dependency.name.as_str());
    for dependency in dependencies.filter(|dependency| ours.contains(dependency)) {
        if allowed.is_some_and(|allowed| !allowed.contains(&dependency)) {
            violations.push(format!("{name} depends on {dependency}: its room must not"));
        }
    }
    // What is opened for fuzz targets is open to them alone: tools/fuzz is a workspace of its own for that.
    for dependency in &package.dependencies {
        if dependency.features.iter().any(|feature| feature == "fuzzing") {
            violations
                .push(format!("{name} opens {} for fuzzing: only tools/fuzz may", dependency.name));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn a_dependency_against_the_rule_is_found() {
        let workspace = Workspace::find().unwrap();
        let packages = workspace.metadata.workspace_packages();
        let mut fleet =
            packages.iter().find(|p| p.name.as_str() == "calve-fleet").unwrap().to_owned().clone();
        let ours = ["calve-fleet", "calve-snapshots", "calve-manager"];
        assert_eq!(check_package(&fleet, "snapshots/calve-fleet/Cargo.toml", &ours), [""; 0]);
        assert_eq!(check_package(&fleet, "vmm/calve-fleet/Cargo.toml", &ours).len(), 1);

        let mut wrong = fleet.dependencies[0].clone();
        wrong.name = "calve-manager".into();
        fleet.dependencies.push(wrong);
        let found = check_package(&fleet, "snapshots/calve-fleet/Cargo.toml", &ours);
        assert_eq!(found, ["calve-fleet depends on calve-manager: its room must not"]);

        fleet.dependencies.pop();
        fleet.dependencies[0].features.push("fuzzing".into());
        assert_eq!(check_package(&fleet, "snapshots/calve-fleet/Cargo.toml", &ours).len(), 1);
    }

    #[test]
    fn a_room_without_a_readme_is_found() {
        let workspace = Workspace::find().unwrap();
        let mut tracked = TOP_FILES.to_vec();
        tracked.push("vmm/src/lib.rs");
        let found = check(&workspace.metadata, &tracked).unwrap();
        assert!(found.len() == 1 && found[0].starts_with("vmm/README.md"), "{found:?}");
        tracked.extend(["vmm/README.md"]);
        assert_eq!(check(&workspace.metadata, &tracked).unwrap(), [""; 0]);
    }
}
