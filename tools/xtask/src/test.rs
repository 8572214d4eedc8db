//! `cargo xtask test`: every test there is, each where it can run.
//!
//! | target | runs |
//! | --- | --- |
//! | unit, documentation and other integration tests | here, by `cargo test` |
//! | `kvm_*` | here, if /dev/kvm opens: tiny guests that any KVM can run |
//! | `qemu_*` | here: they boot a lab themselves |
//! | `net_*` | here: they fetch packages, or need some of Debian's |
//! | `lab_*` | in the lab: they need Linux guests, hence a KVM with hardware behind it |
//!
//! Then every fuzz target runs for a few seconds.
//!
//! Tests of the last four kinds are `#[ignore]`d for `cargo test`, which cannot know where it runs.

pub(crate) mod bootstrap;
mod browser;
mod clients;
mod interpreters;
mod labs;
mod package;
mod pypi;
mod targets;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;
use clap::Args;

use self::targets::{Kind, Target};
use crate::fuzz::{self, Sanitizer};
use crate::process::{cargo, command, run, step};
use crate::workspace::Workspace;
use crate::{checks, deb, setup};

/// When a test binary is taken for hung, in seconds: several times what the slowest takes, also in a long run.
const LIMIT: u32 = 15 * 60;
const LIMIT_LONG: u32 = 60 * 60;

/// How long each fuzz target runs, in seconds: in every run, and in a long one, there with either sanitizer. What they
/// find is kept, so that runs go on from where others stopped.
const FUZZ: u32 = 5;
const FUZZ_LONG: u32 = 60;

/// How much to test.
#[derive(Args)]
pub(crate) struct Options {
    /// For a night: fuzz every target for a minute, and again under the address sanitizer; more deaths and longer soaks
    #[arg(long)]
    long: bool,
}

/// What tests find in their environment.
struct Surroundings {
    programs: PathBuf,
    kernel: Option<PathBuf>,
    search_path: OsString,
    /// AWS's clients, for `PYTHONPATH`.
    clients: PathBuf,
    /// A function on AWS's Rust client.
    bootstrap: PathBuf,
    /// The Debian package, once it is built.
    package: PathBuf,
    long: bool,
}

/// Checks, sets up and tests. All of it runs, whatever fails; one failure fails the whole.
pub(crate) fn run_all(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let mut failures = checks::run_all(workspace);
    setup::run_all(workspace)?;
    let surroundings = Surroundings::make(workspace, options)?;

    step("building the tests");
    let targets = targets::build(workspace)?;

    step("cargo test --workspace");
    let tests = ["test", "--quiet", "--workspace", "--no-fail-fast"];
    if let Err(error) = run(surroundings.of(cargo(&workspace.root()).args(tests))) {
        failures.push(format!("{error:#}"));
    }
    // The store's tests of full disks mount one; everything here runs as root.
    step("tests that need root");
    let as_root = ["test", "--quiet", "--package", "calve-snapshots", "--lib", "--", "--ignored"];
    if let Err(error) = run(cargo(&workspace.root()).args(as_root)) {
        failures.push(format!("{error:#}"));
    }
    failures.extend(fuzz_all(workspace, options));
    let of = |kind| targets.iter().filter(move |target| target.kind == kind);
    for target in of(Kind::Kvm).chain(of(Kind::Qemu)).chain(of(Kind::Net)) {
        if target.kind == Kind::Kvm && !kvm_opens() {
            step(&format!("IGNORED: {target}, as /dev/kvm does not open"));
            continue;
        }
        step(&target.to_string());
        let ready = browser::ensure_for(&target.name);
        if let Err(error) = ready.and_then(|()| package::ensure_for(&target.name, workspace)) {
            failures.push(format!("{target}: {error:#}"));
            continue;
        }
        // timeout(1) passes on the signal by which we end it.
        let mut test = command("timeout", &target.folder);
        test.args(["--kill-after=10", &surroundings.limit().to_string()]).arg(&target.program);
        test.args(["--ignored", "--test-threads=1"]);
        if run(surroundings.of(&mut test)).is_err() {
            failures.push(target.to_string());
        }
    }
    let lab_targets: Vec<&Target> = of(Kind::Lab).collect();
    failures.extend(labs::run(workspace, &surroundings, &lab_targets)?);

    if !failures.is_empty() {
        bail!("failed: {}", failures.join("; "));
    }
    step("all tests passed");
    Ok(())
}

/// Runs each fuzz target for a while; returns what failed.
fn fuzz_all(workspace: &Workspace, options: &Options) -> Vec<String> {
    let runs = if options.long {
        vec![(FUZZ_LONG, Sanitizer::None), (FUZZ_LONG, Sanitizer::Address)]
    } else {
        vec![(FUZZ, Sanitizer::None)]
    };
    let runs = runs.into_iter().map(|(seconds, sanitizer)| fuzz::Options::all(seconds, sanitizer));
    let failed = runs.filter_map(|run| fuzz::run(workspace, &run).err());
    failed.map(|error| format!("{error:#}")).collect()
}

impl Surroundings {
    /// After the set-up, which they are made of.
    fn make(workspace: &Workspace, options: &Options) -> anyhow::Result<Self> {
        let cache = calve_image::Cache::from_env().ok();
        let kernel = cache
            .and_then(|cache| calve_image::kernel::ensure(&cache, &mut calve_image::Silent).ok());
        Ok(Self {
            programs: workspace.release(),
            // The tests that need it say so where there is none.
            kernel: kernel.and_then(|kernel| kernel.vmlinux.parent().map(PathBuf::from)),
            search_path: interpreters::search_path()?,
            clients: clients::folder()?,
            bootstrap: bootstrap::build(workspace)?,
            package: deb::path(workspace),
            long: options.long,
        })
    }

    /// When a test binary is taken for hung, in seconds.
    fn limit(&self) -> u32 {
        if self.long { LIMIT_LONG } else { LIMIT }
    }

    /// Puts a test into them. Where our programs are it must be told: its own folder is not theirs.
    fn of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if self.long {
            command.env("CALVE_TEST_LONG", "1");
        }
        command.env("CALVE_WORKER", self.programs.join("calve-worker"));
        command.env("CALVE_AGENT", self.programs.join("calve-agent"));
        command.env("PATH", &self.search_path);
        command.env("CALVE_TEST_CLIENTS", &self.clients);
        command.env("CALVE_TEST_BOOTSTRAP", &self.bootstrap);
        command.env("CALVE_TEST_PACKAGE", &self.package);
        command.envs(self.kernel.as_ref().map(|folder| ("CALVE_TEST_KERNEL", folder)))
    }
}

fn kvm_opens() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}
