//! Builds that wait for their turn: tenants one after the other, and of each what came first.
//!
//! ```text
//!  turns     b ─► c ─► a                 pop: b1, then c1, a1, b2, a2, a3
//!  waiting   b: b1 b2   c: c1   a: a1 a2 a3
//! ```

use std::collections::{HashMap, HashSet, VecDeque};

use crate::control::BuildJob;

/// The line.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// By tenant; none is empty.
    waiting: HashMap<String, VecDeque<BuildJob>>,
    /// Tenants that wait, the next one first.
    turns: VecDeque<String>,
    /// All that wait: what is to be built is looked up when its turn has come, so that once is enough.
    all: HashSet<BuildJob>,
}

impl Line {
    /// Puts a job at its tenant's end, unless it waits already.
    pub(super) fn push(&mut self, job: BuildJob) {
        if !self.all.insert(job.clone()) {
            return;
        }
        let jobs = self.waiting.entry(job.tenant.clone()).or_default();
        if jobs.is_empty() {
            self.turns.push_back(job.tenant.clone());
        }
        jobs.push_back(job);
    }

    /// Takes the first job of the tenant whose turn it is; it is the last one to have another.
    pub(super) fn pop(&mut self) -> Option<BuildJob> {
        let tenant = self.turns.pop_front()?;
        let jobs = self.waiting.get_mut(&tenant)?;
        let job = jobs.pop_front()?;
        if jobs.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        self.all.remove(&job);
        Some(job)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

impl Extend<BuildJob> for Line {
    fn extend<T: IntoIterator<Item = BuildJob>>(&mut self, jobs: T) {
        jobs.into_iter().for_each(|job| self.push(job));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn job(tenant: &str, number: u32) -> BuildJob {
        BuildJob { tenant: tenant.into(), function: format!("f{number}"), number: None }
    }

    fn drain(line: &mut Line) -> Vec<String> {
        let all = std::iter::from_fn(|| line.pop());
        all.map(|job| format!("{}{}", job.tenant, job.function)).collect()
    }

    #[test]
    fn tenants_take_turns() {
        let mut line = Line::default();
        line.extend((0..3).map(|n| job("a", n)));
        line.extend([job("b", 0), job("c", 0), job("b", 1)]);
        assert_eq!(drain(&mut line), ["af0", "bf0", "cf0", "af1", "bf1", "af2"]);
        assert!(line.is_empty());
    }

    #[test]
    fn what_waits_already_does_not_wait_twice() {
        let mut line = Line::default();
        line.extend([job("a", 0), job("a", 1), job("a", 0)]);
        assert_eq!(drain(&mut line), ["af0", "af1"]);
        line.push(job("a", 0));
        assert_eq!(drain(&mut line), ["af0"]);
    }

    proptest! {
        /// Each push is of a tenant; each none is a pop.
        #[test]
        fn nobody_waits_for_more_than_one_of_each_other(
            steps in prop::collection::vec(prop::option::weighted(0.6, 0..5_usize), 0..400)
        ) {
            const TENANTS: [&str; 5] = ["a", "b", "c", "d", "e"];
            let mut line = Line::default();
            let mut queues: [VecDeque<BuildJob>; 5] = Default::default();
            // Builds of others since a tenant's last, or since it began to wait.
            let mut others = [0; 5];
            let pops = steps.len();
            for (n, step) in (0..).zip(steps.into_iter().chain(std::iter::repeat_n(None, pops))) {
                if let Some(tenant) = step {
                    if queues[tenant].is_empty() {
                        others[tenant] = 0;
                    }
                    queues[tenant].push_back(job(TENANTS[tenant], n));
                    line.push(job(TENANTS[tenant], n));
                    continue;
                }
                let Some(popped) = line.pop() else {
                    prop_assert!(queues.iter().all(VecDeque::is_empty), "something was lost");
                    continue;
                };
                let tenant = TENANTS.iter().position(|name| *name == popped.tenant).unwrap();
                prop_assert_eq!(queues[tenant].pop_front(), Some(popped));
                prop_assert!(others[tenant] < TENANTS.len(), "{} others first", others[tenant]);
                others.iter_mut().for_each(|count| *count += 1);
                others[tenant] = 0;
            }
            prop_assert!(line.is_empty() && queues.iter().all(VecDeque::is_empty));
        }
    }
}
