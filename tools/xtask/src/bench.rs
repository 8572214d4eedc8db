//! `cargo xtask bench`: what users wait for, beside the bare-KVM floor and a peer.
//!
//! ```text
//!  native, host (this machine) ─┐
//!  linux (here or in lab) ──────┴─► target/bench/*.json ──► tables, target/bench/report.html
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;

use crate::demo::{self, numpy};
use crate::process::{self, cargo, command, step};
use crate::setup;
use crate::workspace::Workspace;

/// The function with a working set of 30 MB.
const NUMPY: &str = include_str!("../../../benches/functions/numpy/app.py");

/// MiB of the lab's disk: two stores with a root image each.
const LAB_DISK_MIB: &str = "4096";

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Samples of thaws and resets
    #[arg(long, value_name = "N", default_value_t = 50)]
    samples: u32,
    /// A peer to run turn by turn with, as in firecracker=/usr/bin/firecracker
    #[arg(long, value_name = "PEER=PATH")]
    peer: Option<String>,
    /// Take turns with the bare-KVM floor, the least that any program must do
    #[arg(long)]
    floor: bool,
    /// Most clones alive at once
    #[arg(long, value_name = "N", default_value_t = 100)]
    clones: u32,
    /// Thaws in a row, for the tail of their distribution
    #[arg(long, value_name = "N", default_value_t = 300)]
    thaws: u32,
    /// Tiny guests only, and the function host
    #[arg(long)]
    native: bool,
}

/// Sets up, measures and reports.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    if options.native {
        setup::host(workspace)?;
    } else {
        setup::run_all(workspace)?;
    }
    step("building the benches");
    build(workspace)?;
    let folder = workspace.target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let program = workspace.release().join("calve-bench");
    let mut files = Vec::new();

    step("tiny guests");
    let samples = options.samples.to_string();
    let floor = options.floor.then_some("--floor");
    let mut native = command(&program, &workspace.root());
    native.args(["native", "--samples", &samples]).args(floor);
    files.push(measure(&mut native, &folder, "native")?);

    step("the function host");
    let mut host = command(&program, &workspace.root());
    files.push(measure(host.args(["host", "--json"]), &folder, "host")?);

    if !options.native {
        if !demo::has_virtualization()? {
            step("tiny guests in the lab");
            let mut native = command(workspace.release().join("calve-lab"), &workspace.root());
            native.args(["run", "--"]).arg(&program).args(["native", "--samples", &samples]);
            native.args(floor);
            files.push(measure(&mut native, &folder, "native-lab")?);
        }
        step("Linux guests");
        files.push(measure(&mut linux(workspace, options, &program)?, &folder, "linux")?);
    }
    let page = folder.join("report.html");
    let mut report = command(&program, &workspace.root());
    // The tables are the result.
    report.stdout(std::process::Stdio::inherit());
    process::run(report.arg("report").args(&files).arg("--html").arg(&page))
}

fn build(workspace: &Workspace) -> anyhow::Result<()> {
    let mut build = cargo(&workspace.root());
    process::run(build.args(["build", "--quiet", "--release", "-p", "calve-benches"]))
}

/// The command that measures Linux guests, in the lab if need be.
fn linux(workspace: &Workspace, options: &Options, program: &Path) -> anyhow::Result<Command> {
    let (mut linux, disk) = if demo::has_virtualization()? {
        (command(program, &workspace.root()), workspace.target())
    } else {
        eprintln!(
            "This processor has no VMX or SVM: Linux guests run in the lab, where ratios mean something."
        );
        let mut lab = command(workspace.release().join("calve-lab"), &workspace.root());
        lab.args(["run", "--disk", LAB_DISK_MIB, "--"]).arg(program);
        (lab, calve_lab::DISK.into())
    };
    let [samples, clones, thaws] =
        [options.samples, options.clones, options.thaws].map(|number| number.to_string());
    linux.args(["linux", "--samples", &samples, "--clones", &clones, "--thaws", &thaws]);
    linux.arg("--functions").arg(workspace.root().join("benches/functions"));
    linux.arg("--disk").arg(disk);
    linux.arg("--numpy").arg(numpy::folder_of(NUMPY)?);
    linux.arg("--agent").arg(workspace.release().join("calve-agent"));
    linux.args(options.peer.iter().flat_map(|peer| ["--peer", peer]));
    Ok(linux)
}

/// Runs a command whose standard output is a run; returns the file that it went to.
fn measure(command: &mut Command, folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("{name}.json"));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    process::run(command.stdout(file))?;
    Ok(path)
}
