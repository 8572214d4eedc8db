//! Functions in Linux guests: builds, boots, thaws, resets, and many clones at once.

mod alive;
mod cold;
mod disk;
mod fork;
mod thaw;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, bail};
use calve_fleet::{
    Budget, CallOptions, Clone, Fleet, Frozen, Outcome, build_runtime, build_snapshot,
};
use calve_snapshots::Store;
use clap::Args;

use crate::facts::Facts;
use crate::functions::{self, Case, Images};
use crate::peer::Peer;
use crate::samples::{Measured, Run, Unit, micros};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Samples of thaws and resets
    #[arg(long, default_value_t = 50)]
    samples: usize,
    /// Folder of the functions in this repository
    #[arg(long)]
    functions: PathBuf,
    /// A code folder with numpy and this repository's `functions/numpy/app.py`
    #[arg(long)]
    numpy: Option<PathBuf>,
    /// The guest's agent, as it is in the root images
    #[arg(long)]
    agent: PathBuf,
    /// A peer to run turn by turn with: firecracker=PATH
    #[arg(long)]
    peer: Option<Peer>,
    /// Thaws in a row, for the tail of their distribution
    #[arg(long, default_value_t = 300)]
    thaws: usize,
    /// A folder on a disk, for thaws with nothing in the page cache
    #[arg(long)]
    disk: Option<PathBuf>,
    /// Most clones alive at once
    #[arg(long, default_value_t = 100)]
    clones: usize,
}

/// Runs before the first that counts.
const WARM_UP: usize = 3;
/// Shells for the largest fork.
const ROOM: Budget = Budget { shells: 128, private_kib: 1 << 20 };
/// Boots and builds take seconds each, and differ little.
const FEW: usize = 3;

/// Measures everything that takes Linux guests.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Run> {
    let folder = tempfile::Builder::new().prefix("calve-bench-").tempdir_in("/dev/shm")?;
    let images = Images::new(&options.agent, folder.path())?;
    let cases = functions::cases(&options.functions, options.numpy.as_deref(), folder.path())?;
    let bench = Bench {
        fleet: Fleet::new(calve_fleet::Options { budget: ROOM, ..Default::default() })?,
        store: Store::open(folder.path().join("store"))?,
        images,
        options,
    };
    let mut results = Vec::new();
    for case in &cases {
        eprintln!("{}", case.name);
        results.extend(bench.case(case)?);
    }
    if let Some(hello) = cases.first() {
        eprintln!("forks");
        results.extend(bench.forks(hello)?);
        eprintln!("clones alive");
        results.extend(bench.clones_alive(hello)?);
        eprintln!("thaws per second");
        results.extend(bench.thaws_per_second(hello)?);
    }
    Ok(Run { facts: Facts::here(), results })
}

struct Bench<'a> {
    fleet: Fleet,
    store: Store,
    images: Images,
    options: &'a Options,
}

impl Bench<'_> {
    fn case(&self, case: &Case) -> anyhow::Result<Vec<Measured>> {
        let (us, kib) = (Unit::Microseconds, Unit::KiB);
        let runtime = case.runtime(&self.images);
        build_runtime(&self.fleet, &self.store, &runtime, &mut |_| {}).context("the runtime")?;
        let mut results = Vec::new();
        for (flat, how) in [(true, "flat"), (false, "on its runtime")] {
            let name = format!("{}, {how}", case.name);
            let method = "boot or thaw of the runtime, start, warm-up call, freeze, two trials";
            let mut build = Measured::new("snapshot_build", &name, "calve", method, us);
            let method = "memory of its own: pages of the uppermost layer";
            let mut size = Measured::new("snapshot_size", &name, "calve", method, kib);
            for _ in 0..FEW {
                let started = Instant::now();
                let spec = case.spec(&self.images, flat);
                let built = build_snapshot(&self.fleet, &self.store, &spec, &mut |_| {});
                build.take(built.map(|_| micros(started.elapsed())));
            }
            let frozen = self.fleet.open(&self.store, &case.snapshot(flat))?;
            let own = frozen.snapshot().manifest().layers.last().map_or(0, |layer| layer.pages);
            #[expect(clippy::cast_precision_loss, reason = "a number of pages")]
            size.samples.push(own as f64 * 4.0);
            results.extend([build, size]);
            if flat {
                results.push(self.thaw_flat(case, &frozen)?);
            }
        }
        let frozen = self.open(case)?;
        results.extend(self.boots(case)?);
        results.push(self.cold_boots(case, &frozen));
        results.extend(self.thaw_and_reset(case, &frozen)?);
        results.push(self.thaws_in_a_row(case, &frozen)?);
        if let Some(disk) = &self.options.disk {
            results.extend(self.thaws_from_disk(case, disk)?);
        }
        Ok(results)
    }

    fn open(&self, case: &Case) -> anyhow::Result<Frozen> {
        Ok(self.fleet.open(&self.store, &case.snapshot(false))?)
    }
}

/// Calls a clone, whose function must succeed.
fn called(mut clone: Clone, case: &Case) -> anyhow::Result<(Clone, Outcome)> {
    let outcome = clone.call(case.event.as_bytes(), CallOptions::default())?;
    if let Err(error) = &outcome.result {
        bail!("the function failed: {error}");
    }
    Ok((clone, outcome))
}

fn first_output(outcome: &Outcome) -> f64 {
    as_sample(outcome.timings.first_output_us)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds and KiB are far below 2^53")]
fn as_sample(figure: u64) -> f64 {
    figure as f64
}
