//! What libFuzzer says, as figures, a table, and what to do about a crash.

use std::fmt::Write as _;
use std::path::PathBuf;

/// What came of one target.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) target: String,
    pub(super) seconds: u64,
    pub(super) stats: Stats,
    /// It ended by itself, and found nothing.
    pub(super) ok: bool,
    pub(super) log: PathBuf,
}

/// Figures out of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) executions: u64,
    /// Edges of the control flow that were reached.
    pub(super) coverage: u64,
    /// MiB.
    pub(super) memory: u64,
    pub(super) artifact: Option<String>,
    /// The message of the panic, where there was one.
    pub(super) panic: Option<String>,
}

impl Stats {
    /// Reads `#8192 pulse cov: 341 ft: 900 …`, `stat::number_of_executed_units: 8192` and what follows a crash.
    pub(super) fn of(log: &str) -> Self {
        let mut stats = Self::default();
        let mut lines = log.lines();
        while let Some(line) = lines.next() {
            if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
                stats.executions = number(count);
            } else if let Some(mib) = line.strip_prefix("stat::peak_rss_mb:") {
                stats.memory = number(mib);
            } else if let Some((_, path)) = line.split_once("Test unit written to ") {
                stats.artifact = Some(path.to_owned());
            } else if line.contains("panicked at ") {
                let message = lines.next().unwrap_or_default();
                stats.panic.get_or_insert(format!("{line} {message}"));
            } else if let Some((count, rest)) =
                line.strip_prefix('#').and_then(|line| line.split_once([' ', '\t']))
            {
                // A run that crashed has no final figures.
                stats.executions = stats.executions.max(number(count));
                if let Some((_, coverage)) = rest.split_once("cov: ") {
                    stats.coverage = number(coverage.split(' ').next().unwrap_or_default());
                }
            }
        }
        stats
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

impl Outcome {
    pub(super) fn failed(&self) -> bool {
        !self.ok
    }

    /// Where the reproducer is, and how to run it again.
    pub(super) fn tell(&self, sanitizer: &str) -> String {
        let Self { target, stats, log, .. } = self;
        let mut text = format!("{target} failed: see {}", log.display());
        if let Some(panic) = &stats.panic {
            let _ = write!(text, "\n  {panic}");
        }
        if let Some(input) = &stats.artifact {
            let _ = write!(
                text,
                "\n  cargo xtask fuzz --sanitizer {sanitizer} --replay {input} {target}"
            );
        }
        text
    }
}

/// One line a target.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<18} {:>12} {:>8} {:>9} {:>5} {:>8}",
        "target", "executions", "seconds", "coverage", "MiB", "crashes"
    );
    for outcome in outcomes {
        let Outcome { target, seconds, stats, .. } = outcome;
        let Stats { executions, coverage, memory, .. } = stats;
        let crashes = u8::from(outcome.failed());
        let _ = write!(
            text,
            "\n{target:<18} {executions:>12} {seconds:>8} {coverage:>9} {memory:>5} {crashes:>8}"
        );
    }
    let executions: u64 = outcomes.iter().map(|outcome| outcome.stats.executions).sum();
    let _ = write!(text, "\n{:<18} {executions:>12}", "all");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_out_of_a_log() {
        let log = "INFO: seed corpus: files: 9\n#10\tINITED cov: 80 ft: 81 corp: 1/1b\n\
                   #8192\tpulse  cov: 341 ft: 900 corp: 9/1b\nDone 9000 runs in 5 second(s)\n\
                   stat::number_of_executed_units: 9000\nstat::peak_rss_mb:              61\n";
        let wanted = Stats { executions: 9000, coverage: 341, memory: 61, ..Stats::default() };
        assert_eq!(Stats::of(log), wanted);
    }

    #[test]
    fn a_crash_leads_to_its_reproducer() {
        let log = "#512\tNEW    cov: 12 ft: 3\nthread 'main' panicked at src/a.rs:1:2:\nit broke\n\
                   artifact_prefix='/c/'; Test unit written to /c/crash-1\n";
        let stats = Stats::of(log);
        assert_eq!((stats.executions, stats.coverage), (512, 12));
        let outcome =
            Outcome { target: "frames".into(), seconds: 1, stats, ok: false, log: "/c/log".into() };
        let told = outcome.tell("none");
        assert!(told.contains("it broke") && told.contains("--replay /c/crash-1 frames"), "{told}");
        assert!(table(&[outcome]).lines().nth(1).unwrap().ends_with('1'));
    }
}
