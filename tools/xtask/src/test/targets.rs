//! The test binaries that cargo builds, and where each runs, by the name of its target.

use std::fmt;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use cargo_metadata::{Artifact, Message};

use crate::process::cargo;
use crate::workspace::Workspace;

/// Where a test runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// On this machine's /dev/kvm.
    Kvm,
    /// On this machine, booting a lab.
    Qemu,
    /// On this machine, with packages from Debian's archive.
    Net,
    /// In the lab.
    Lab,
}

/// A test binary that `cargo test` alone does not run.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// The package's folder, in which cargo would run it.
    pub(crate) folder: PathBuf,
    pub(crate) program: PathBuf,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Builds all tests and returns those that need a place of their own.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<Vec<Target>> {
    let mut cargo = cargo(&workspace.root());
    cargo.args(["test", "--quiet", "--workspace", "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut targets = Vec::new();
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) =
            message.context("cannot read cargo's output")?
        {
            targets.extend(target(artifact));
        }
    }
    if !child.wait().context("cannot wait for cargo")?.success() {
        bail!("the tests do not build");
    }
    Ok(targets)
}

fn target(artifact: Artifact) -> Option<Target> {
    let name = artifact.target.name;
    let kind = kind(&name).filter(|_| artifact.profile.test)?;
    let folder = artifact.manifest_path.parent()?.to_owned().into();
    Some(Target { kind, name, folder, program: artifact.executable?.into() })
}

fn kind(name: &str) -> Option<Kind> {
    match name.split_once('_')?.0 {
        "kvm" => Some(Kind::Kvm),
        "qemu" => Some(Kind::Qemu),
        "net" => Some(Kind::Net),
        "lab" => Some(Kind::Lab),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_where() {
        assert_eq!(kind("kvm_machine"), Some(Kind::Kvm));
        assert_eq!(kind("qemu_lab"), Some(Kind::Qemu));
        assert_eq!(kind("net_roots"), Some(Kind::Net));
        assert_eq!(kind("lab_clones"), Some(Kind::Lab));
        assert_eq!(kind("label_parser"), None);
        assert_eq!(kind("calve"), None);
    }
}
