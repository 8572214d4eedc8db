//! The demo's figures, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use super::calve::Call;

/// All that the demo says.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether a processor was emulated, and times mean nothing.
    pub(super) in_lab: bool,
    pub(super) functions: Vec<Row>,
}

/// The figures of one function; times in microseconds, from the decision to create the machine.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: &'static str,
    cold_boots: usize,
    clones: usize,
    /// To the first byte of the answer, after a boot.
    cold_first_output_us: Option<Spread>,
    /// To the first entry into the guest, after a thaw.
    thaw_us: Option<Spread>,
    /// To the first byte of the answer, after a thaw.
    thaw_first_output_us: Option<Spread>,
    /// How many times faster the answer comes after a thaw, median to median.
    speed_up: Option<f64>,
    /// Private memory of a clone right after its answer, worker included.
    private_kib: Option<Spread>,
    random_values: usize,
    distinct_random_values: usize,
    pub(super) failures: Vec<String>,
}

/// How a figure is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Spread {
    min: u64,
    p50: u64,
    p99: u64,
    max: u64,
}

impl Spread {
    /// Percentiles by nearest rank; none of nothing.
    fn of(values: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut values: Vec<u64> = values.into_iter().collect();
        values.sort_unstable();
        let rank =
            |percent: usize| values.get((values.len() * percent).div_ceil(100).saturating_sub(1));
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { min, p50: *rank(50)?, p99: *rank(99)?, max })
    }
}

impl Row {
    pub(super) fn sum_up(
        name: &'static str,
        cold: &[Call],
        thawed: &[Call],
        (random_values, distinct_random_values): (usize, usize),
        failures: Vec<String>,
    ) -> Self {
        let spread = |calls: &[Call], figure: fn(&Call) -> Option<u64>| {
            Spread::of(calls.iter().filter_map(figure))
        };
        let cold_first_output_us = spread(cold, |call| call.first_output_us);
        let thaw_first_output_us = spread(thawed, |call| call.first_output_us);
        let ratio =
            |(cold, thaw): (Spread, Spread)| milliseconds(cold.p50) / milliseconds(thaw.p50);
        Self {
            name,
            cold_boots: cold.len(),
            clones: thawed.len(),
            cold_first_output_us,
            thaw_us: spread(thawed, |call| call.thaw_us),
            thaw_first_output_us,
            speed_up: cold_first_output_us.zip(thaw_first_output_us).map(ratio),
            private_kib: spread(thawed, |call| call.private_kib),
            random_values,
            distinct_random_values,
            failures,
        }
    }
}

/// Exact up to 2^53 µs, which is 285 years.
#[expect(clippy::cast_precision_loss, reason = "no figure is near the limit")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

/// A line of the table: what it shows, and how it reads for a function.
type Line = (&'static str, fn(&Row) -> String);

const TABLE: [Line; 8] = [
    ("cold boots, clones", |row| format!("{}, {}", row.cold_boots, row.clones)),
    ("cold boot → first output, p50 / p99", |row| times(row.cold_first_output_us)),
    ("thaw → first output, p50 / p99", |row| times(row.thaw_first_output_us)),
    ("thaw → guest entered, p50 / p99", |row| times(row.thaw_us)),
    ("faster by", |row| row.speed_up.map_or_else(nothing, |ratio| format!("{ratio:.1} times"))),
    ("failures", |row| row.failures.len().to_string()),
    ("private memory of a clone, p50 / p99", |row| {
        row.private_kib.map_or_else(nothing, |kib| format!("{} / {} KiB", kib.p50, kib.p99))
    }),
    ("distinct random values", |row| {
        format!("{} of {}", row.distinct_random_values, row.random_values)
    }),
];

fn nothing() -> String {
    "-".to_owned()
}

fn times(spread: Option<Spread>) -> String {
    let both = |s: Spread| format!("{:.1} / {:.1} ms", milliseconds(s.p50), milliseconds(s.p99));
    spread.map_or_else(nothing, both)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LABEL: usize = 38;
        const COLUMN: usize = 24;
        write!(f, "{:LABEL$}", "")?;
        for row in &self.functions {
            write!(f, "{:>COLUMN$}", row.name)?;
        }
        writeln!(f)?;
        for (label, text) in TABLE {
            write!(f, "{label:LABEL$}")?;
            for row in &self.functions {
                write!(f, "{:>COLUMN$}", text(row))?;
            }
            writeln!(f)?;
        }
        if self.in_lab {
            writeln!(f, "In the lab: compare the times with each other, not with a machine's.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([7]), Some(Spread { min: 7, p50: 7, p99: 7, max: 7 }));
        let spread = Spread::of((1..=200).rev());
        assert_eq!(spread, Some(Spread { min: 1, p50: 100, p99: 198, max: 200 }));
        // With 30 clones the 99th percentile is the slowest.
        assert_eq!(Spread::of(1..=30).map(|spread| spread.p99), Some(30));
    }
}
