//! Tables for a terminal, and ratios where two subjects did the same in one run.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::html;
use crate::samples::{Measured, Run};

/// Prints the tables of what was measured, and writes the page.
pub(crate) fn make(files: &[PathBuf], page: Option<&Path>) -> anyhow::Result<()> {
    let mut runs = Vec::new();
    for file in files {
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        // The last line: a lab prints messages of its own before it.
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let run: Run = serde_json::from_str(last)
            .with_context(|| format!("{} does not end with a run", file.display()))?;
        runs.push(run);
    }
    for run in &runs {
        print!("{}", table(run));
    }
    if let Some(page) = page {
        fs::write(page, html::page(&runs))
            .with_context(|| format!("cannot write {}", page.display()))?;
        println!("distributions: {}", page.display());
    }
    Ok(())
}

/// Prints the table of what was measured.
pub(crate) fn show(run: &Run) -> anyhow::Result<()> {
    std::io::stdout().write_all(table(run).as_bytes())?;
    Ok(())
}

fn table(run: &Run) -> String {
    let facts = &run.facts;
    let mut text = format!(
        "\n{} ({}, {} processors, Linux {}, {}; load {})\n",
        facts.place, facts.processor, facts.processors, facts.kernel, facts.kvm, facts.load
    );
    text += &format!(
        "{:28} {:22} {:12} {:>12} {:>12} {:>12} {:>8} {:>6} {:>8}  {}\n",
        "operation",
        "case",
        "subject",
        "p50",
        "p99",
        "max",
        "p99/p50",
        "n",
        "failures",
        "ratio of medians"
    );
    for measured in &run.results {
        let figure = |percent| {
            let unit = measured.unit.name();
            measured.percentile(percent).map_or("-".into(), |value| format!("{value:.1} {unit}"))
        };
        text += &format!(
            "{:28} {:22} {:12} {:>12} {:>12} {:>12} {:>8} {:>6} {:>8}  {}\n",
            measured.operation,
            measured.case,
            measured.subject,
            figure(50),
            figure(99),
            figure(100),
            spread(measured),
            measured.samples.len(),
            measured.failures,
            ratio(run, measured).unwrap_or_default(),
        );
    }
    text
}

/// How far the tail is from the middle.
fn spread(measured: &Measured) -> String {
    match (measured.percentile(50), measured.percentile(99)) {
        (Some(middle), Some(tail)) if middle > 0.0 => format!("{:.1}", tail / middle),
        _ => "-".into(),
    }
}

/// How ours compares with another who did the same.
fn ratio(run: &Run, ours: &Measured) -> Option<String> {
    if ours.subject != "calve" {
        return None;
    }
    let same = |m: &&Measured| {
        (&m.operation, &m.case) == (&ours.operation, &ours.case) && m.subject != ours.subject
    };
    let other = run.results.iter().find(same)?;
    let (one, two) = (ours.percentile(50)?, other.percentile(50)?);
    Some(if one < two {
        format!("1/{:.1} of {}", two / one, other.subject)
    } else {
        format!("{:.2} × {}", one / two, other.subject)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;
    use crate::samples::Unit;

    #[test]
    fn ratios_are_between_those_who_did_the_same() {
        let of = |operation: &str, subject: &str, value: f64| {
            let mut measured = Measured::new(operation, "c", subject, "m", Unit::Microseconds);
            measured.samples.push(value);
            measured
        };
        let results = vec![
            of("thaw", "calve", 20.0),
            of("thaw", "peer", 200.0),
            of("reset", "calve", 30.0),
            of("reset", "floor", 20.0),
            of("alone", "calve", 1.0),
        ];
        let run = Run { facts: Facts::here(), results };
        let ratios: Vec<_> = run.results.iter().map(|m| ratio(&run, m)).collect();
        assert_eq!(ratios[0].as_deref(), Some("1/10.0 of peer"));
        assert_eq!(ratios[2].as_deref(), Some("1.50 × floor"));
        assert_eq!((&ratios[1], &ratios[4]), (&None, &None));
        let text = table(&run);
        assert!(text.contains("1/10.0 of peer") && text.contains("20.0 µs"), "{text}");
    }
}
