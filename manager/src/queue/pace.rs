//! How fast asynchronous calls are made: no faster than their tenant may make calls.
//!
//! A tenant gains a call at each of its rate's ticks, and keeps as many as it may make in a second. Each message that is
//! delivered takes one, whether or not it comes to a call in the end. Who has none left is passed over when messages are
//! taken from the ledger, so that the rest stays where it is, at no cost, until it has those of a tenth of a second: to take
//! them one at a time would be a transaction for each. What was taken at once may be more than a tenant had: it owes that,
//! and waits for longer.

use std::collections::HashMap;

use crate::model::Millis;

/// A call, in the unit in which they are gained: a thousandth in each millisecond for each that may be made in a second.
const CALL: i64 = 1000;

/// What tenants have left; those that are not in it have all.
#[derive(Debug, Default)]
pub(super) struct Pace {
    tenants: HashMap<String, Tenant>,
}

#[derive(Debug)]
struct Tenant {
    /// Calls that it may make, or owes.
    left: i64,
    /// When that was so.
    at: Millis,
    /// It has made all its calls, and has not gained enough since.
    rests: bool,
}

impl Pace {
    /// A message of a tenant is delivered that may make `rate` calls a second.
    pub(super) fn take(&mut self, now: Millis, tenant: &str, rate: u32) {
        let full = full(rate);
        let found = self.tenants.entry(tenant.to_owned());
        let found = found.or_insert(Tenant { left: full, at: now, rests: false });
        found.fill(now, rate);
        found.left = found.left.saturating_sub(CALL);
    }

    /// The tenants that may make no call now, and how long until the first of them may again, ms; by their rates.
    pub(super) fn spent(
        &mut self,
        now: Millis,
        rate: impl Fn(&str) -> u32,
    ) -> (Vec<String>, Option<Millis>) {
        self.tenants.retain(|name, tenant| {
            let rate = rate(name);
            tenant.fill(now, rate);
            let least = if tenant.rests { enough(rate) } else { CALL };
            tenant.rests = tenant.left < least;
            // Who may make none is never forgotten for having none.
            tenant.left < full(rate).max(CALL)
        });
        let spent = self.tenants.iter().filter(|(_, tenant)| tenant.rests);
        let wait = spent.clone().filter_map(|(name, tenant)| {
            let rate = rate(name);
            let missing = u64::try_from(enough(rate) - tenant.left).unwrap_or(0);
            missing.checked_div(rate.into()).map(|wait| wait + 1)
        });
        let wait = wait.min();
        (spent.map(|(name, _)| name.clone()).collect(), wait)
    }
}

impl Tenant {
    fn fill(&mut self, now: Millis, rate: u32) {
        let passed = i64::try_from(now.saturating_sub(self.at)).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(passed.saturating_mul(rate.into())).min(full(rate));
        // A clock that is set back gives nothing twice.
        self.at = self.at.max(now);
    }
}

/// What a tenant has at most: the calls of a second.
fn full(rate: u32) -> i64 {
    i64::from(rate) * CALL
}

/// What a tenant that has rested has at least: the calls of a tenth of a second.
fn enough(rate: u32) -> i64 {
    (full(rate) / 10).max(CALL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tenant_that_has_made_its_calls_waits_for_the_next_tick() {
        let mut pace = Pace::default();
        let names = |pace: &mut Pace, now| pace.spent(now, |_| 2).0;
        pace.take(0, "a", 2);
        assert_eq!(names(&mut pace, 0), [""; 0]);
        pace.take(0, "a", 2);
        assert_eq!(pace.spent(0, |_| 2), (vec!["a".to_owned()], Some(501)));
        assert_eq!(names(&mut pace, 499), ["a"]);
        assert_eq!(names(&mut pace, 500), [""; 0]);
        // What was taken too much has to be made up for.
        (0..3).for_each(|_| pace.take(500, "a", 2));
        assert_eq!(names(&mut pace, 1999), ["a"]);
        assert_eq!(names(&mut pace, 2000), [""; 0]);
        // Who has all is forgotten.
        pace.spent(3000, |_| 2);
        assert!(pace.tenants.is_empty());
    }

    #[test]
    fn a_tenant_that_may_make_none_waits_until_it_may() {
        let mut pace = Pace::default();
        pace.take(0, "a", 0);
        assert_eq!(pace.spent(1_000_000, |_| 0), (vec!["a".to_owned()], None));
        assert_eq!(pace.spent(1_000_000, |_| 1000).0, ["a"]);
        assert_eq!(pace.spent(1_000_100, |_| 1000).0, ["a"]);
        assert_eq!(pace.spent(1_000_101, |_| 1000).0, [""; 0]);
    }

    proptest! {
        /// Takes whatever it may, in lots, at any times.
        #[test]
        fn nobody_is_faster_than_they_may_be(
            rate in 1..50_u32,
            steps in prop::collection::vec((0..500_u64, 1..8_u32), 1..200)
        ) {
            let mut pace = Pace::default();
            let (mut now, mut taken) = (0, 0);
            for (pause, lot) in steps {
                now += pause;
                if pace.spent(now, |_| rate).0.is_empty() {
                    (0..lot).for_each(|_| pace.take(now, "a", rate));
                    taken += lot;
                }
                let most = u64::from(rate) + u64::from(rate) * now / 1000 + 8;
                prop_assert!(u64::from(taken) <= most, "{taken} in {now} ms at {rate}");
            }
        }

        #[test]
        fn nobody_waits_for_longer_than_is_said(rate in 1..5000_u32, taken in 1..20_u32) {
            let mut pace = Pace::default();
            (0..rate + taken).for_each(|_| pace.take(7, "a", rate));
            let (_, wait) = pace.spent(7, |_| rate);
            prop_assert!(pace.spent(7 + wait.unwrap(), |_| rate).0.is_empty());
        }
    }
}
