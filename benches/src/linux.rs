//! Functions in Linux guests: builds, boots, thaws, resets, and many clones at once.

use std::fs::File;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, bail};
use calve_fleet::{
    Access, BootSpec, Budget, CallOptions, Clone, Fleet, Frozen, Outcome, Shape, ThawOptions,
    build_runtime, build_snapshot,
};
use calve_snapshots::Store;
use clap::Args;

use crate::facts::Facts;
use crate::functions::{self, Case, Images};
use crate::peer::{Firecracker, Peer};
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
        let of = |operation, subject, method, unit| {
            Measured::new(operation, case.name, subject, method, unit)
        };
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

        let boot_method = "decision → first byte of the answer; worker, kernel, runtime, function";
        let mut cold = of("cold_boot_to_first_output", "calve", boot_method, us);
        for _ in 0..FEW {
            cold.take(self.boot(case, &frozen).map(|outcome| first_output(&outcome)));
        }

        results.push(cold);
        results.extend(self.thaw_and_reset(case, &frozen)?);
        Ok(results)
    }

    /// Thaws of a snapshot in one layer, beside which those of two are to be seen.
    fn thaw_flat(&self, case: &Case, frozen: &Frozen) -> anyhow::Result<Measured> {
        let (name, us) = (format!("{}, flat", case.name), Unit::Microseconds);
        let method = "a shell waits, page cache warm; decision → first byte of the answer";
        let mut thaw = Measured::new("thaw_to_first_output", &name, "calve", method, us);
        for n in 0..self.options.samples + WARM_UP {
            self.fleet.prepare(frozen.shape(), 1)?;
            let clone = self.fleet.thaw(frozen).map_err(anyhow::Error::from);
            let outcome = clone.and_then(|clone| called(clone, case));
            if n >= WARM_UP {
                thaw.take(outcome.map(|(_, outcome)| first_output(&outcome)));
            }
        }
        Ok(thaw)
    }

    /// Boots up to where the agent, PID 1 of the guest, says that it is up, turn by turn with the peer.
    fn boots(&self, case: &Case) -> anyhow::Result<Vec<Measured>> {
        let method =
            "decision, or process started → the guest's PID 1 says over vsock that it is up";
        let of = |subject| {
            Measured::new("boot_to_pid_1", case.name, subject, method, Unit::Microseconds)
        };
        let (mut ours, mut theirs) = (of("calve"), of("firecracker"));
        for _ in 0..FEW {
            let cmdline = calve_image::BASE_CMDLINE;
            let shape = Shape::new(case.memory_mib, 1, 2)?;
            let mut spec = BootSpec::new(shape, File::open(&self.images.kernel)?, cmdline);
            for disk in [&self.images.root, &case.code] {
                spec.disks.push((File::open(disk)?, Access::ReadOnly));
            }
            spec.up_timeout = case.function().timeout;
            let booted = self.fleet.boot(spec, &case.function());
            ours.take(booted.map(|machine| micros(machine.boot_time())));
            if let Some(Peer::Firecracker(program)) = &self.options.peer {
                theirs.take(Firecracker::boot(program, case, &self.images).map(micros));
            }
        }
        let peer = self.options.peer.is_some().then_some(theirs);
        Ok([ours].into_iter().chain(peer).collect())
    }

    /// A live parent becomes 1, 10 and 100 children.
    fn forks(&self, case: &Case) -> anyhow::Result<Vec<Measured>> {
        let (frozen, us) = (self.open(case)?, Unit::Microseconds);
        let mut results = Vec::new();
        for (children, times) in [(1, 10), (10, 5), (100, 2)] {
            if children > self.options.clones {
                continue;
            }
            let name = format!("{children} children");
            let of = |operation, method| Measured::new(operation, &name, "calve", method, us);
            let mut pause = of("fork_pause", "the parent, called before, stands still");
            let mut all = of(
                "fork_1_10_100",
                "decision → parent and every child run; shells wait, the guest prepares itself",
            );
            for _ in 0..times {
                let forked = self.fork_one(case, &frozen, children);
                match forked {
                    Ok((stood, took)) => {
                        pause.samples.push(stood);
                        all.samples.push(took);
                    }
                    Err(error) => all.take(Err(error)),
                }
            }
            results.extend([pause, all]);
        }
        Ok(results)
    }

    fn fork_one(
        &self,
        case: &Case,
        frozen: &Frozen,
        children: usize,
    ) -> anyhow::Result<(f64, f64)> {
        let (parent, _) = called(self.fleet.thaw(frozen)?, case)?;
        self.fleet.prepare(frozen.shape(), children)?;
        let started = Instant::now();
        let (mut parent, moment) = parent.branch(ThawOptions::default())?;
        let lazy = || ThawOptions { lazy: true, ..ThawOptions::default() };
        let children = (0..children).map(|_| self.fleet.thaw_moment(&moment, lazy()));
        let mut children = children.collect::<Result<Vec<_>, _>>()?;
        for child in &mut children {
            child.wait_running()?;
        }
        let took = micros(started.elapsed());
        // They are what they should be.
        parent.call(case.event.as_bytes(), CallOptions::default())?;
        if let Some(child) = children.last_mut() {
            child.call(case.event.as_bytes(), CallOptions::default())?;
        }
        Ok((micros(moment.paused()), took))
    }

    /// Thaws, turn by turn with the peer, and resets.
    fn thaw_and_reset(&self, case: &Case, frozen: &Frozen) -> anyhow::Result<Vec<Measured>> {
        let method = "a shell waits, page cache warm; decision → first byte of the answer";
        let of = |operation, subject, method, unit| {
            Measured::new(operation, case.name, subject, method, unit)
        };
        let (us, kib) = (Unit::Microseconds, Unit::KiB);
        let mut thaw = of("thaw_to_first_output", "calve", method, us);
        let mut load =
            of("thaw_to_guest", "calve", "content in the worker's hands → guest entered", us);
        let mut private = of("private_memory_after_call", "calve", "worker and guest", kib);
        let reset_method = "decision to reset a clone that was called → first byte of the answer";
        let mut reset = of("reset_and_call", "calve", reset_method, us);
        let peer_method = "process started, snapshot loaded and resumed, vsock connected → first \
             byte of the answer; same kernel, root image, agent and function";
        let mut theirs = of("thaw_to_first_output", "firecracker", peer_method, us);
        let peer = match &self.options.peer {
            Some(Peer::Firecracker(program)) => {
                Some(Firecracker::freeze(program, case, &self.images).context("the peer")?)
            }
            None => None,
        };
        for n in 0..self.options.samples + WARM_UP {
            self.fleet.prepare(frozen.shape(), 1)?;
            let outcome = self.fleet.thaw(frozen).map_err(anyhow::Error::from).and_then(|clone| {
                let (clone, outcome) = called(clone, case)?;
                let again = clone.reset().map_err(anyhow::Error::from);
                Ok((outcome, again.and_then(|clone| called(clone, case))))
            });
            let their_turn = peer.as_ref().map(|peer| peer.thaw_and_call(case).map(micros));
            if n < WARM_UP {
                continue;
            }
            if let Some(their_turn) = their_turn {
                theirs.take(their_turn);
            }
            match outcome {
                Ok((outcome, again)) => {
                    load.samples.extend(outcome.timings.load_us.map(as_sample));
                    private.samples.extend(outcome.private_kib.map(as_sample));
                    thaw.take(Ok::<_, anyhow::Error>(first_output(&outcome)));
                    reset.take(again.map(|(_, outcome)| first_output(&outcome)));
                }
                Err(error) => thaw.take(Err(error)),
            }
        }
        let mut results = vec![thaw, load, private, reset];
        results.extend(peer.map(|_| theirs));
        Ok(results)
    }

    fn boot(&self, case: &Case, frozen: &Frozen) -> anyhow::Result<Outcome> {
        let snapshot = frozen.snapshot();
        let open = |file: &File| file.try_clone();
        let cmdline = calve_image::BASE_CMDLINE;
        let mut spec = BootSpec::new(frozen.shape(), File::open(&self.images.kernel)?, cmdline);
        for disk in [snapshot.root()].into_iter().chain(snapshot.code()) {
            spec.disks.push((open(disk)?, Access::ReadOnly));
        }
        spec.up_timeout = case.function().timeout;
        let mut machine = self.fleet.boot(spec, &case.function())?;
        Ok(machine.call(case.event.as_bytes(), CallOptions::default())?)
    }

    /// Private memory of each of many clones that have answered and wait.
    fn clones_alive(&self, case: &Case) -> anyhow::Result<Vec<Measured>> {
        let frozen = self.open(case)?;
        let mut results = Vec::new();
        for count in [1, 10, 100].into_iter().filter(|count| *count <= self.options.clones) {
            let (name, method) = (format!("{count} clones"), "thawed, has answered a ping, waits");
            let mut private = Measured::new("clones_alive", &name, "calve", method, Unit::KiB);
            let mut alive = Vec::new();
            for _ in 0..count {
                let options = ThawOptions { lazy: true, ..ThawOptions::default() };
                let clone = self.fleet.thaw_with(&frozen, options).map_err(anyhow::Error::from);
                let pinged = clone.and_then(|mut clone| {
                    clone.ping()?;
                    Ok(clone)
                });
                match pinged {
                    Ok(clone) => alive.push(clone),
                    Err(error) => private.take(Err(error)),
                }
            }
            for clone in &alive {
                let kib = clone.private_kib().context("no figure of its memory");
                private.take(kib.map(as_sample));
            }
            results.push(private);
            let method = "the same clones, each called once";
            let mut called =
                Measured::new("clones_alive_called", &name, "calve", method, Unit::KiB);
            for clone in &mut alive {
                let answered = clone.call(case.event.as_bytes(), CallOptions::default());
                if let Err(error) = answered {
                    called.take(Err(error));
                }
            }
            for clone in &alive {
                let kib = clone.private_kib().context("no figure of its memory");
                called.take(kib.map(as_sample));
            }
            results.push(called);
        }
        Ok(results)
    }

    /// Clones that are thawed, called and discarded, births of their shells included.
    fn thaws_per_second(&self, case: &Case) -> anyhow::Result<Vec<Measured>> {
        let frozen = self.open(case)?;
        let mut results = Vec::new();
        for threads in [1, 2, 8] {
            let each = (self.options.samples / threads).max(1);
            let (name, method) = (
                format!("{threads} at once"),
                "births, thaws, calls and discards in a row; of the whole run",
            );
            let mut rate =
                Measured::new("thaws_per_second", &name, "calve", method, Unit::PerSecond);
            let started = Instant::now();
            let failures: usize = thread::scope(|scope| {
                let work = || {
                    let calls = (0..each).map(|_| {
                        let clone = self.fleet.thaw(&frozen).map_err(anyhow::Error::from);
                        clone.and_then(|clone| called(clone, case).map(drop))
                    });
                    calls.filter(Result::is_err).count()
                };
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap_or(each)).sum()
            });
            #[expect(clippy::cast_precision_loss, reason = "a number of calls")]
            let done = (each * threads - failures) as f64;
            rate.samples.push(done / started.elapsed().as_secs_f64());
            rate.failures = failures as u64;
            results.push(rate);
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
