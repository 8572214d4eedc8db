//! What the calls of a version touch, learned from its first ones and made ready at the thaw of all others.
//!
//! A snapshot that was built from an event for its warm-up knows its working set. Functions that come through AWS Lambda's API
//! bring no such event, and an event that was sent must not be used twice: so what is seen is what the callers' own calls
//! touch. What only one of two calls touches is its own affair.
//!
//! Kept with the open snapshot and no longer: a host that starts again learns again.

use calve_snapshots::Workset;

/// What is known of a version's calls.
#[derive(Default)]
pub(super) enum Habits {
    /// No call was seen.
    #[default]
    Unknown,
    /// What one call has touched.
    Seen(Workset),
    /// What every call may be taken to touch was found.
    Known,
}

impl Habits {
    /// Whether there is nothing more to learn.
    pub(super) fn are_known(&self) -> bool {
        matches!(self, Self::Known)
    }

    /// Sees what a call has touched; returns what all calls may be taken to touch when that has just become clear.
    pub(super) fn see(&mut self, touched: Workset) -> Option<Workset> {
        match std::mem::replace(self, Self::Known) {
            Self::Unknown => {
                *self = Self::Seen(touched);
                None
            }
            Self::Seen(before) => Some(before.common(&touched)),
            Self::Known => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_calls_have_touched_is_known_once() {
        let call = |pages: &[u32]| Workset::of_pages(pages.iter().map(|page| (*page, true)));
        let mut habits = Habits::default();
        assert_eq!(habits.see(call(&[1, 2, 7])), None);
        assert!(!habits.are_known());
        assert_eq!(habits.see(call(&[2, 3, 7])), Some(call(&[2, 7])));
        assert!(habits.are_known());
        assert_eq!(habits.see(call(&[9])), None);
        assert!(habits.are_known());
    }
}
