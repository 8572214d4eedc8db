//! Many clones at once: what they hold, and how many come and go in a second.

use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use calve_fleet::CallOptions;
use calve_fleet::ThawOptions;

use super::{Bench, as_sample, called};
use crate::functions::Case;
use crate::samples::{Measured, Unit};

impl Bench<'_> {
    /// Private memory of each of many clones that have answered and wait.
    pub(super) fn clones_alive(&self, case: &Case) -> anyhow::Result<Vec<Measured>> {
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
    pub(super) fn thaws_per_second(&self, case: &Case) -> anyhow::Result<Vec<Measured>> {
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
}
