//! `cargo xtask test`: every test there is, each where it can run.
//!
//! | target | runs |
//! | --- | --- |
//! | unit, documentation and other integration tests | here, by `cargo test` |
//! | `kvm_*` | here, if /dev/kvm opens: tiny guests that any KVM can run |
//! | `qemu_*` | here: they boot a lab themselves |
//! | `lab_*` | in the lab: they need Linux guests, hence a KVM with hardware behind it |
//!
//! Tests of the last three kinds are `#[ignore]`d for `cargo test`, which cannot know where it runs.

mod labs;
mod targets;

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;

use self::targets::{Kind, Target};
use crate::process::{cargo, command, run, step};
use crate::workspace::Workspace;
use crate::{checks, setup};

/// Checks, sets up and tests. All of it runs, whatever fails; one failure fails the whole.
pub(crate) fn run_all(workspace: &Workspace) -> anyhow::Result<()> {
    let mut failures = checks::run_all(workspace);
    setup::run_all(workspace)?;

    step("building the tests");
    let targets = targets::build(workspace)?;

    step("cargo test --workspace");
    let tests = ["test", "--quiet", "--workspace", "--no-fail-fast"];
    if let Err(error) = run(with_programs(workspace, cargo(&workspace.root()).args(tests))) {
        failures.push(format!("{error:#}"));
    }
    // The store's tests of full disks mount one; everything here runs as root.
    step("tests that need root");
    let as_root = ["test", "--quiet", "--package", "calve-snapshots", "--lib", "--", "--ignored"];
    if let Err(error) = run(cargo(&workspace.root()).args(as_root)) {
        failures.push(format!("{error:#}"));
    }
    let of = |kind| targets.iter().filter(move |target| target.kind == kind);
    for target in of(Kind::Kvm).chain(of(Kind::Qemu)) {
        if target.kind == Kind::Kvm && !kvm_opens() {
            step(&format!("IGNORED: {target}, as /dev/kvm does not open"));
            continue;
        }
        step(&target.to_string());
        let mut test = command(&target.program, &target.folder);
        test.args(["--ignored", "--test-threads=1"]);
        if run(with_programs(workspace, &mut test)).is_err() {
            failures.push(target.to_string());
        }
    }
    let lab_targets: Vec<&Target> = of(Kind::Lab).collect();
    failures.extend(labs::run(workspace, &lab_targets)?);

    if !failures.is_empty() {
        bail!("failed: {}", failures.join("; "));
    }
    step("all tests passed");
    Ok(())
}

/// Tells a test where our programs are: its own folder is not theirs.
fn with_programs<'a>(workspace: &Workspace, command: &'a mut Command) -> &'a mut Command {
    let release = workspace.release();
    command.env("CALVE_WORKER", release.join("calve-worker"));
    command.env("CALVE_AGENT", release.join("calve-agent"));
    match kernel_folder() {
        Some(folder) => command.env("CALVE_TEST_KERNEL", folder),
        // The tests that need it say so.
        None => command,
    }
}

/// Where the kernel lies that the set-up has built.
fn kernel_folder() -> Option<PathBuf> {
    let cache = calve_image::Cache::from_env().ok()?;
    let kernel = calve_image::kernel::ensure(&cache, &mut calve_image::Silent).ok()?;
    kernel.vmlinux.parent().map(PathBuf::from)
}

fn kvm_opens() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}
