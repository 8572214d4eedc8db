//! `cargo xtask demo`: freezes two real functions, thaws clones of each, calls every one with an event
//! of its own, checks every answer against one computed here, and says how fast that was.
//!
//! ```text
//!  prepare (this machine: set-up, numpy) ──VMX or SVM──► perform here
//!                                        └──neither────► perform in the lab
//! ```

mod calve;
mod functions;
pub(crate) mod numpy;
mod report;

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Args;

use self::calve::{Call, Calve};
use self::functions::Function;
use self::report::{Report, Row};
use crate::process::step;
use crate::setup;
use crate::workspace::Workspace;

/// What to demonstrate.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Clones to thaw of each function
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clones: u32,
    /// Cold boots of each function to compare with
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    cold_boots: u32,
    /// Print the figures as one JSON object on the last line of standard output
    #[arg(long)]
    json: bool,
}

/// Where the second half finds what the first has prepared.
#[derive(Args, Clone)]
pub(crate) struct Prepared {
    /// Folder of our binaries
    #[arg(long)]
    programs: PathBuf,
    /// Folder of the Python function
    #[arg(long)]
    python: PathBuf,
    /// Folder of the Node function
    #[arg(long)]
    node: PathBuf,
    #[command(flatten)]
    options: Options,
}

/// Sets up, and performs where machines can run.
pub(crate) fn run(workspace: &Workspace, options: Options) -> anyhow::Result<()> {
    setup::run_all(workspace)?;
    let prepared = Prepared {
        programs: workspace.release(),
        python: numpy::folder()?,
        node: workspace.root().join("tools/xtask/demo/node"),
        options,
    };
    if has_virtualization()? {
        return perform(&prepared);
    }
    eprintln!(
        "This processor has no VMX or SVM: the demo runs in the lab, where ratios mean something and times do not."
    );
    let lab = workspace.release().join("calve-lab");
    let error = Command::new(&lab).arg("run").arg("--").args(prepared.command()?).exec();
    Err(error).with_context(|| format!("cannot start {}", lab.display()))
}

/// Whether the processor has VMX or SVM. That /dev/kvm opens says nothing: software can offer it too.
pub(crate) fn has_virtualization() -> anyhow::Result<bool> {
    let text = std::fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let mut flags =
        text.lines().filter(|line| line.starts_with("flags")).flat_map(str::split_whitespace);
    Ok(flags.any(|flag| flag == "vmx" || flag == "svm"))
}

impl Prepared {
    /// The command that performs with these arguments.
    fn command(&self) -> anyhow::Result<Vec<std::ffi::OsString>> {
        let program = std::env::current_exe().context("cannot find this program's path")?;
        let mut words = vec![program.into(), "demo-perform".into()];
        for (name, folder) in
            [("--programs", &self.programs), ("--python", &self.python), ("--node", &self.node)]
        {
            words.extend([name.into(), folder.into()]);
        }
        let Options { clones, cold_boots, json } = self.options;
        words.extend(["--clones".into(), clones.to_string().into()]);
        words.extend(["--cold-boots".into(), cold_boots.to_string().into()]);
        words.extend(json.then(|| "--json".into()));
        Ok(words)
    }
}

/// Freezes, thaws, calls, checks and reports; an error if anything at all failed.
pub(crate) fn perform(prepared: &Prepared) -> anyhow::Result<()> {
    let store = store()?;
    let folder = store.path().to_owned();
    // The commands under way are ended by the same signal, or by our end.
    ctrlc::set_handler(move || {
        // It lies in memory: what cannot be removed is gone with the next start of the machine.
        let _ = std::fs::remove_dir_all(&folder);
        std::process::exit(130);
    })
    .context("cannot handle signals")?;
    let calve = Calve { programs: &prepared.programs, store: store.path() };
    let options = &prepared.options;
    let mut rows = Vec::new();
    for function in [functions::python(&prepared.python), functions::node(&prepared.node)] {
        step(&format!("{}: freezing", function.name));
        calve.freeze(&function)?;
        step(&format!("{}: booting {} times", function.name, options.cold_boots));
        let cold = (1..=options.cold_boots).map(|n| calve.call_cold(&function, n));
        let cold = cold.collect::<Result<Vec<_>, _>>()?;
        step(&format!("{}: thawing {} clones", function.name, options.clones));
        let thawed = calve.call_clones(&function, options.clones)?;
        rows.push(judge(&function, options, &cold, &thawed)?);
    }
    let in_lab = std::env::var_os("CALVE_LAB").is_some();
    let report = Report { in_lab, functions: rows };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    for failure in report.functions.iter().flat_map(|row| &row.failures) {
        eprintln!("failed: {failure}");
    }
    if report.functions.iter().any(|row| !row.failures.is_empty()) {
        bail!("not every call was answered rightly");
    }
    Ok(())
}

/// Snapshots are mapped: in the lab only a file system in RAM will do, and here it will as well.
fn store() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("calve-demo-").tempdir_in("/dev/shm");
    folder.context("cannot make a folder in /dev/shm")
}

/// Checks all answers and sums up.
fn judge(
    function: &Function,
    options: &Options,
    cold: &[Call],
    thawed: &[Call],
) -> anyhow::Result<Row> {
    let mut failures = Vec::new();
    for (kind, expected, calls) in
        [("cold", options.cold_boots, cold), ("thawed", options.clones, thawed)]
    {
        // Each number from 1 on must have been answered by somebody, and rightly.
        let mut missing: BTreeSet<u32> = (1..=expected).collect();
        for call in calls {
            let checked =
                call.answer().and_then(|(n, result)| function.check(n, result).map(|()| n));
            match checked {
                Ok(n) if missing.remove(&n) => {}
                Ok(n) => {
                    failures.push(format!("{} {kind}: call {n} was answered twice", function.name));
                }
                Err(reason) => failures.push(format!("{} {kind}: {reason}", function.name)),
            }
        }
        failures.extend(
            missing
                .iter()
                .map(|n| format!("{} {kind}: no right answer to call {n}", function.name)),
        );
    }
    let all = || cold.iter().chain(thawed);
    let machines: BTreeSet<_> = all().filter_map(|call| call.machine.as_deref()).collect();
    let calls = cold.len() + thawed.len();
    if machines.len() != calls {
        failures.push(format!("{}: {calls} calls in {} machines", function.name, machines.len()));
    }
    let random: Vec<_> = all().flat_map(Call::random).collect();
    let distinct = random.iter().collect::<BTreeSet<_>>().len();
    if distinct != random.len() || random.len() != calls * function.random_values {
        let (values, wanted) = (random.len(), calls * function.random_values);
        failures.push(format!(
            "{}: {distinct} distinct of {values} random values where {wanted} should be",
            function.name
        ));
    }
    Ok(Row::sum_up(function.name, cold, thawed, (random.len(), distinct), failures))
}
