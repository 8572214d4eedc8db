//! What was measured, how, and how often it failed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;

/// Everything measured in one place at one time. Only figures of one run are compared.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) facts: Facts,
    pub(crate) results: Vec<Measured>,
}

/// One operation of one subject.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// What a user does, as in `thaw_to_first_output`.
    pub(crate) operation: String,
    /// On what, as in `python hello`.
    pub(crate) case: String,
    /// Who: `calve`, `floor`, or a peer.
    pub(crate) subject: String,
    /// From when to when.
    pub(crate) method: String,
    pub(crate) unit: Unit,
    pub(crate) samples: Vec<f64>,
    pub(crate) failures: u64,
}

/// What a sample counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    Microseconds,
    KiB,
    PerSecond,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Microseconds => "µs",
            Self::KiB => "KiB",
            Self::PerSecond => "/s",
        }
    }
}

impl Measured {
    pub(crate) fn new(
        operation: &str,
        case: &str,
        subject: &str,
        method: &str,
        unit: Unit,
    ) -> Self {
        Self {
            operation: operation.into(),
            case: case.into(),
            subject: subject.into(),
            method: method.into(),
            unit,
            samples: Vec::new(),
            failures: 0,
        }
    }

    /// Takes a sample or counts a failure, which is told on standard error.
    pub(crate) fn take<E: std::fmt::Display>(&mut self, sample: Result<f64, E>) {
        match sample {
            Ok(sample) => self.samples.push(sample),
            Err(error) => {
                self.failures += 1;
                eprintln!("{} {} {}: {error:#}", self.subject, self.operation, self.case);
            }
        }
    }

    /// The sample below which so many percent lie, by nearest rank; none of nothing.
    pub(crate) fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }
}

/// Microseconds as a sample.
pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut measured = Measured::new("o", "c", "s", "m", Unit::KiB);
        assert_eq!(measured.percentile(50), None);
        (1..=200).rev().for_each(|n| measured.take(Ok::<_, String>(n.into())));
        assert_eq!(measured.percentile(50), Some(100.0));
        assert_eq!(measured.percentile(99), Some(198.0));
        measured.take(Err("broken"));
        assert_eq!((measured.samples.len(), measured.failures), (200, 1));
    }
}
