//! `cargo xtask fuzz`: runs the fuzz targets of `tools/fuzz`, each for some seconds.
//!
//! `cargo fuzz` builds them, with the flags for libFuzzer's coverage, which need `RUSTC_BOOTSTRAP` on a stable compiler. They
//! are then run as they are. What they find is kept in the cache, outside of the checkout:
//!
//! ```text
//! <cache>/fuzz/<target>/seeds      written by the target itself, anew each time
//!                      /corpus     inputs that reached new code, by the SHA-1 of their bytes
//!                      /crashes    inputs that broke something
//!                      /log        what libFuzzer said last
//! ```
//!
//! By default there is no sanitizer, but debug assertions and checks for overflow: the code is safe but for few modules,
//! and runs several times as fast. `--sanitizer address` is for those modules.

mod report;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use self::report::{Outcome, Stats};
use crate::process::{command, run as run_command, step};
use crate::workspace::Workspace;
use crate::{packages, subcommands};

/// The version of `cargo fuzz` that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";
/// Where the compiled targets are, below cargo's target folder.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// libFuzzer's bounds: memory in all and in one allocation, in MiB, and seconds for one input.
const RSS_LIMIT: u32 = 1024;
const MALLOC_LIMIT: u32 = 64;
const TIMEOUT: u32 = 20;
/// Bytes of the longest input.
const MAX_LEN: u32 = 16 << 10;

/// What to fuzz.
#[derive(Args)]
pub(crate) struct Options {
    /// Targets; all of them where none is named
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// What watches over memory
    #[arg(long, value_enum, default_value_t = Sanitizer::None)]
    sanitizer: Sanitizer,
    /// Run one target on one input, to see what it breaks
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
}

/// What watches over memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sanitizer {
    /// Nothing; debug assertions and checks for overflow are on.
    None,
    /// Address sanitizer; several times slower.
    Address,
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Address => "address",
        }
    }
}

impl Options {
    /// Every target for so long.
    pub(crate) fn all(seconds: u32, sanitizer: Sanitizer) -> Self {
        Self { targets: Vec::new(), seconds, sanitizer, replay: None }
    }
}

/// Builds and runs targets, and shows what came of it; an error where one crashed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let known = targets(workspace)?;
    if let Some(wrong) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no fuzz target {wrong}: {}", known.join(", "));
    }
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };
    build(workspace, options, chosen)?;
    if let Some(input) = &options.replay {
        let [target] = &chosen[..] else { bail!("--replay needs one target") };
        let mut replay = command(program(workspace, options.sanitizer, target), &workspace.root());
        return run_command(replay.arg(input));
    }
    let outcomes = fuzz_all(workspace, options, chosen)?;
    println!("{}", report::table(&outcomes));
    let crashed: Vec<_> = outcomes.iter().filter(|outcome| outcome.failed()).collect();
    for outcome in &crashed {
        eprintln!("{}", outcome.tell(options.sanitizer.name()));
    }
    if crashed.is_empty() { Ok(()) } else { bail!("{} fuzz targets crashed", crashed.len()) }
}

/// The names of all targets: the programs that `tools/fuzz` has.
fn targets(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let folder = folder(workspace).join("targets");
    let read = || format!("cannot read {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(read)? {
        let name = entry.with_context(read)?.file_name();
        names.extend(name.to_string_lossy().strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root().join("tools/fuzz")
}

/// Where the targets are built: apart for each sanitizer, so that none is built anew for the other.
fn built(workspace: &Workspace, sanitizer: Sanitizer) -> PathBuf {
    workspace.target().join(format!("fuzz-{}", sanitizer.name()))
}

fn program(workspace: &Workspace, sanitizer: Sanitizer, target: &str) -> PathBuf {
    built(workspace, sanitizer).join(TRIPLE).join("release").join(target)
}

fn build(workspace: &Workspace, options: &Options, chosen: &[String]) -> anyhow::Result<()> {
    // libFuzzer is C++.
    packages::install(&["g++"])?;
    let cargo_fuzz = subcommands::ensure("fuzz", CARGO_FUZZ, &[])?;
    step("building the fuzz targets");
    let mut build = command(cargo_fuzz, &folder(workspace));
    build.env("RUSTC_BOOTSTRAP", "1").args(["build", "--fuzz-dir", "."]);
    build.args(["--sanitizer", options.sanitizer.name(), "--target", TRIPLE]);
    build.arg("--target-dir").arg(built(workspace, options.sanitizer));
    if let [target] = chosen {
        build.arg(target);
    }
    run_command(&mut build)
}

/// Runs targets, as many at once as there are processors: each is one thread. Their outcomes, in order.
fn fuzz_all(
    workspace: &Workspace,
    options: &Options,
    targets: &[String],
) -> anyhow::Result<Vec<Outcome>> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(targets.iter());
    let work = || {
        // Not in the condition itself: the lock would be held for as long as the target runs.
        let next = || queue.lock().ok()?.next();
        let mut outcomes = Vec::new();
        while let Some(target) = next() {
            step(&format!("fuzzing {target} for {} s", options.seconds));
            outcomes.push(fuzz(workspace, options, target)?);
        }
        Ok(outcomes)
    };
    let each = thread::scope(|scope| {
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().map(ScopedJoinHandle::join);
        results.collect::<Result<Vec<anyhow::Result<Vec<_>>>, _>>()
    });
    let Ok(each) = each else { bail!("a thread that ran fuzz targets has panicked") };
    let mut outcomes: Vec<_> =
        each.into_iter().collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect();
    outcomes.sort_by(|one, two| one.target.cmp(&two.target));
    Ok(outcomes)
}

/// Runs one target.
fn fuzz(workspace: &Workspace, options: &Options, target: &str) -> anyhow::Result<Outcome> {
    let home = calve_lab::cache_dir().join("fuzz").join(target);
    let [seeds, corpus, crashes] = ["seeds", "corpus", "crashes"].map(|name| home.join(name));
    for folder in [&seeds, &corpus, &crashes] {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let program = program(workspace, options.sanitizer, target);
    let mut seeding = command(&program, &home);
    let seeding = seeding.env("CALVE_FUZZ_SEEDS", &seeds).stderr(Stdio::piped()).output();
    let seeding = seeding.with_context(|| format!("cannot start {}", program.display()))?;
    if !seeding.status.success() {
        bail!("{target} cannot write its seeds: {}", String::from_utf8_lossy(&seeding.stderr));
    }

    let log = home.join("log");
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut libfuzzer = command(&program, &home);
    libfuzzer.arg(&corpus).arg(&seeds);
    for (flag, value) in [
        ("max_total_time", options.seconds),
        ("rss_limit_mb", RSS_LIMIT),
        ("malloc_limit_mb", MALLOC_LIMIT),
        ("timeout", TIMEOUT),
        ("max_len", MAX_LEN),
        ("print_final_stats", 1),
    ] {
        libfuzzer.arg(format!("-{flag}={value}"));
    }
    libfuzzer.arg(format!("-artifact_prefix={}/", crashes.display()));
    let started = Instant::now();
    let status = libfuzzer.stdout(file.try_clone()?).stderr(file).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    let said = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let stats = Stats::of(&String::from_utf8_lossy(&said));
    let seconds = started.elapsed().as_secs();
    Ok(Outcome { target: target.to_owned(), seconds, stats, ok: status.success(), log })
}
