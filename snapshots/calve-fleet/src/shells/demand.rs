//! How many shells of a shape are wanted: as many as will be asked for while one is being born.

use std::time::{Duration, Instant};

use super::Keep;

/// Weight of the newest observation in a moving average.
const NEWEST: f64 = 0.2;
/// Shells wanted for each request that is expected during a birth: births and requests both come in
/// bursts.
const MARGIN: f64 = 2.0;
/// Shortest gap between requests that is told apart, so that two at once do not mean infinity.
const SHORTEST: Duration = Duration::from_micros(10);

/// The recent past of one shape: how often shells were asked for, how long births took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    last: Option<Instant>,
    gap: Option<f64>,
    birth: Option<f64>,
}

impl Demand {
    /// Somebody has asked for a shell.
    pub(super) fn taken(&mut self, now: Instant) {
        if let Some(last) = self.last {
            let gap = now.saturating_duration_since(last).max(SHORTEST);
            self.gap = Some(average(self.gap, gap));
        }
        self.last = Some(now);
    }

    /// A birth has taken this long.
    pub(super) fn born(&mut self, took: Duration) {
        self.birth = Some(average(self.birth, took));
    }

    /// How many shells should be ready now.
    pub(super) fn wanted(&self, now: Instant, keep: Keep) -> usize {
        let expected = match (self.last, self.gap, self.birth) {
            (Some(last), Some(gap), Some(birth)) => {
                // When requests have stopped, the silence is the gap.
                let silence = now.saturating_duration_since(last).as_secs_f64();
                MARGIN * birth / gap.max(silence)
            }
            // Somebody has asked, and how long a birth takes is not known yet: one will tell.
            (Some(_), _, None) => 1.0,
            _ => 0.0,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let expected = expected.ceil() as usize;
        expected.clamp(keep.least.min(keep.most), keep.most)
    }

    /// When fewer than `ready` will be wanted, if nobody asks until then; `None` if not for now.
    pub(super) fn falls_below(&self, ready: usize, keep: Keep) -> Option<Instant> {
        // The last one goes only when nobody has asked for so long that it does not matter when.
        if ready <= keep.least.max(1) || keep == Keep::default() {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of processes")]
        let silence = MARGIN * self.birth? / (ready - 1) as f64;
        // A moment later, so that it is below by then and not just equal.
        let silence = Duration::try_from_secs_f64(silence).ok()?;
        self.last?.checked_add(silence)?.checked_add(Duration::from_millis(1))
    }
}

fn average(old: Option<f64>, new: Duration) -> f64 {
    let new = new.as_secs_f64();
    old.map_or(new, |old| old + NEWEST * (new - old))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { least: 2, most: 20 };

    fn asked(every: Duration, times: u32) -> (Demand, Instant) {
        let (mut demand, mut now) = (Demand::default(), Instant::now());
        demand.born(Duration::from_millis(100));
        for _ in 0..times {
            now += every;
            demand.taken(now);
        }
        (demand, now)
    }

    #[test]
    fn without_demand_the_least_is_kept() {
        assert_eq!(Demand::default().wanted(Instant::now(), KEEP), 2);
        let (demand, now) = asked(Duration::from_secs(10), 5);
        assert_eq!(demand.wanted(now, KEEP), 2);
    }

    #[test]
    fn demand_raises_the_number_up_to_the_most() {
        // 20 requests a second and births of 100 ms: two during a birth, twice that wanted.
        let (demand, now) = asked(Duration::from_millis(50), 20);
        assert_eq!(demand.wanted(now, KEEP), 4);
        let (demand, now) = asked(Duration::from_millis(1), 20);
        assert_eq!(demand.wanted(now, KEEP), 20);
        let (demand, now) = asked(Duration::ZERO, 20);
        assert_eq!(demand.wanted(now, KEEP), 20);
    }

    #[test]
    fn silence_lowers_it_again_at_the_moment_foretold() {
        let (demand, now) = asked(Duration::from_millis(20), 50);
        let wanted = demand.wanted(now, KEEP);
        assert!(wanted > 8, "{wanted}");
        let at = demand.falls_below(wanted, KEEP).unwrap();
        assert!(demand.wanted(at, KEEP) < wanted);
        assert_eq!(demand.wanted(now + Duration::from_secs(60), KEEP), 2);
        assert_eq!(demand.falls_below(2, KEEP), None);
    }

    #[test]
    fn nothing_is_foretold_of_shells_that_nobody_keeps() {
        let (demand, _) = asked(Duration::from_millis(20), 50);
        for ready in 0..4 {
            assert_eq!(demand.falls_below(ready, Keep::default()), None);
        }
        let some = Keep { least: 0, most: 4 };
        assert_eq!(demand.falls_below(1, some), None);
        assert!(demand.falls_below(2, some).is_some());
    }

    #[test]
    fn odd_bounds_do_no_harm() {
        let odd = Keep { least: 5, most: 3 };
        assert_eq!(Demand::default().wanted(Instant::now(), odd), 3);
        assert_eq!(Demand::default().wanted(Instant::now(), Keep::default()), 0);
    }
}
