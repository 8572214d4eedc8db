//! The notices of what is linked into our programs: nearly every licence asks that they go with copies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

use crate::workspace::Workspace;

/// The programs of the package.
const PROGRAMS: [&str; 3] = ["calve", "calve-worker", "calve-agent"];
/// What they run on.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// How files with a notice are called, in small letters.
const FILES: [&str; 6] = ["licen", "copying", "notice", "copyright", "unlicense", "authors"];

/// All of them as one text.
pub(super) fn text(workspace: &Workspace) -> anyhow::Result<String> {
    let mut command = MetadataCommand::new();
    command.manifest_path(workspace.root().join("Cargo.toml"));
    command.other_options(["--filter-platform", PLATFORM].map(str::to_owned));
    let metadata = command.exec().context("cannot read what our programs depend on")?;
    let linked = linked(&metadata)?;
    let mut text = "Calve's programs have these crates in them, and the standard library of Rust (MIT or Apache-2.0).\n\n".to_owned();
    // Many share a text to the letter.
    let mut notices = BTreeMap::<String, Vec<String>>::new();
    for package in linked {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("see its notice");
        writeln!(text, "{name}: {licence}")?;
        for notice in of(package)? {
            notices.entry(notice).or_default().push(name.clone());
        }
    }
    for (notice, packages) in notices {
        writeln!(text, "\n{}\n{}:\n\n{}", "=".repeat(78), packages.join(", "), notice.trim_end())?;
    }
    Ok(text)
}

/// What is not ours and linked, by name: normal dependencies of normal dependencies of our programs.
fn linked(metadata: &Metadata) -> anyhow::Result<Vec<&Package>> {
    let resolve = metadata.resolve.as_ref().context("cargo does not say what depends on what")?;
    let programs = metadata.workspace_packages().into_iter();
    let programs = programs.filter(|package| PROGRAMS.contains(&package.name.as_str()));
    let mut next: Vec<&PackageId> = programs.map(|package| &package.id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = next.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = resolve.nodes.iter().find(|node| node.id == *id);
        let node = node.context("cargo names a package that it does not know")?;
        let normal = node.deps.iter().filter(|dependency| {
            dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
        });
        next.extend(normal.map(|dependency| &dependency.pkg));
    }
    let ours = &metadata.workspace_members;
    let packages = metadata.packages.iter();
    let mut linked: Vec<_> =
        packages.filter(|it| seen.contains(&it.id) && !ours.contains(&it.id)).collect();
    linked.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(linked)
}

/// The notices that a crate comes with.
fn of(package: &Package) -> anyhow::Result<Vec<String>> {
    let folder = package.manifest_path.parent().context("a manifest is in no folder")?;
    let read = || format!("cannot read {folder}");
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(read)? {
        let entry = entry.with_context(read)?;
        if is_notice(&entry.file_name().to_string_lossy()) && entry.path().is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let read = |path: &Path| -> anyhow::Result<String> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
    };
    paths.iter().map(|path| read(path)).collect()
}

fn is_notice(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    FILES.iter().any(|start| name.starts_with(start)) && !name.ends_with(".rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_told_with_its_notice() {
        let text = text(&Workspace::find().unwrap()).unwrap();
        let lists = |name: &str| text.lines().any(|line| line.starts_with(&format!("{name} ")));
        // Of the command, of the worker, of the agent; and none that only builds or tests anything.
        for name in ["clap", "kvm-ioctls", "httparse"] {
            assert!(lists(name), "{name}");
        }
        assert!(!lists("prost-build") && !lists("proptest") && !lists("calve-vmm"));
        assert!(text.contains("Permission is hereby granted, free of charge"));
    }

    #[test]
    fn notices_are_known_by_name() {
        for name in ["LICENSE-MIT", "Licence.md", "COPYING", "NOTICE", "UNLICENSE"] {
            assert!(is_notice(name), "{name}");
        }
        assert!(!is_notice("license.rs") && !is_notice("README.md"));
    }
}
