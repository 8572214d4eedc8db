//! A live parent becomes many.

use std::time::Instant;

use calve_fleet::{CallOptions, Frozen, ThawOptions};

use super::{Bench, called};
use crate::functions::Case;
use crate::samples::{Measured, Unit, micros};

impl Bench<'_> {
    /// A live parent becomes 1, 10 and 100 children.
    pub(super) fn forks(&self, case: &Case) -> anyhow::Result<Vec<Measured>> {
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
}
