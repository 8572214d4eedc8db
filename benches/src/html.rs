//! The page: for each operation, how its samples are distributed, as a person can read it.
//!
//! Cumulative distributions on a logarithmic axis: the height at which a curve crosses a time is the
//! share of samples that took no longer. No script and no file beside it.

use std::fmt::Write as _;

use crate::samples::{Measured, Run};

/// Size of a plot's inner part.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 180.0;
const MARGIN: f64 = 44.0;
/// Colours of subjects, ours first.
const COLOURS: [&str; 4] = ["#0b6e99", "#c2571a", "#5b7f2b", "#7a3b8f"];

/// The whole page.
pub(crate) fn page(runs: &[Run]) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Calve: benches</title>\
         <style>body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b2530}\
         table{border-collapse:collapse;margin:.5rem 0 1rem}td,th{padding:.15rem .8rem;text-align:right;border-bottom:1px solid #d5dde3}\
         td:first-child,th:first-child{text-align:left}small{color:#5a6772}svg text{font:12px system-ui,sans-serif;fill:#1b2530}</style>\
         <h1>What users wait for</h1>\
         <p>Curves are cumulative: the height at which a curve crosses a time is the share of samples that took no longer.</p>",
    );
    for run in runs {
        let facts = &run.facts;
        // Writing to a string does not fail.
        let _ = write!(
            page,
            "<h2>{}</h2><p>{}, {} processors, Linux {}, {}{}</p>",
            escape(&facts.place),
            escape(&facts.processor),
            facts.processors,
            escape(&facts.kernel),
            escape(&facts.kvm),
            if facts.place == "lab" {
                ". An emulated processor: only ratios mean anything."
            } else {
                ""
            },
        );
        for group in groups(&run.results) {
            page += &section(&group);
        }
    }
    page += "</html>\n";
    page
}

/// Results of one operation on one case.
fn groups(results: &[Measured]) -> Vec<Vec<&Measured>> {
    let mut groups = Vec::<Vec<&Measured>>::new();
    for measured in results {
        let same = |group: &&mut Vec<&Measured>| {
            let first = group[0];
            (&first.operation, &first.case) == (&measured.operation, &measured.case)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(measured),
            None => groups.push(vec![measured]),
        }
    }
    groups
}

fn section(group: &[&Measured]) -> String {
    let first = group[0];
    let mut text = format!(
        "<h3>{} <small>{}</small></h3><table><tr><th></th><th>p50</th><th>p99</th><th>samples</th><th>failures</th></tr>",
        escape(&first.operation),
        escape(&first.case)
    );
    for measured in group {
        let figure = |percent| {
            let unit = measured.unit.name();
            measured.percentile(percent).map_or("–".into(), |value| format!("{value:.1} {unit}"))
        };
        let _ = write!(
            text,
            "<tr><td>{}<br><small>{}</small></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&measured.subject),
            escape(&measured.method),
            figure(50),
            figure(99),
            measured.samples.len(),
            measured.failures
        );
    }
    text += "</table>";
    if group.iter().any(|measured| measured.samples.len() > 4) {
        text += &plot(group);
    }
    text
}

fn plot(group: &[&Measured]) -> String {
    let all = || group.iter().flat_map(|m| m.samples.iter().copied()).filter(|v| *v > 0.0);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let (low, high) = (low.log10().floor(), high.log10().ceil());
    let span = (high - low).max(1.0);
    let x = |value: f64| MARGIN + (value.log10() - low) / span * WIDTH;
    let y = |share: f64| MARGIN / 2.0 + (1.0 - share) * HEIGHT;
    let (width, height) = (WIDTH + 2.0 * MARGIN, HEIGHT + 1.5 * MARGIN);
    let mut svg = format!(
        "<svg width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"cumulative distribution\">"
    );
    let unit = group[0].unit.name();
    let mut decade = low;
    while decade <= low + span {
        let value = 10_f64.powf(decade);
        let (at, bottom) = (x(value), y(0.0));
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"#d5dde3\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value} {unit}</text>",
            y(1.0),
            bottom + 18.0
        );
        decade += 1.0;
    }
    for share in [0.0, 0.5, 0.99, 1.0] {
        let at = y(share);
        let _ = write!(
            svg,
            "<line x1=\"{MARGIN}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#d5dde3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            MARGIN + WIDTH,
            MARGIN - 6.0,
            at + 4.0,
            if share == 0.99 { "99 %".to_owned() } else { format!("{:.0} %", share * 100.0) }
        );
    }
    for (measured, colour) in group.iter().zip(COLOURS.iter().cycle()) {
        let mut sorted: Vec<f64> = measured.samples.iter().copied().filter(|v| *v > 0.0).collect();
        sorted.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss, reason = "a number of samples")]
        let points = sorted.iter().enumerate().map(|(n, value)| {
            format!("{:.1},{:.1}", x(*value), y((n + 1) as f64 / sorted.len() as f64))
        });
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = write!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"><title>{}</title></polyline>",
            escape(&measured.subject)
        );
    }
    for (n, (measured, colour)) in group.iter().zip(COLOURS.iter().cycle()).enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a number of subjects")]
        let at = MARGIN + 8.0 + 110.0 * n as f64;
        let _ = write!(
            svg,
            "<text x=\"{at:.1}\" y=\"14\" style=\"fill:{colour};font-weight:600\">{}</text>",
            escape(&measured.subject)
        );
    }
    svg + "</svg>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;
    use crate::samples::Unit;

    #[test]
    fn a_page_has_each_operation_once_with_all_its_subjects() {
        let of = |subject: &str| {
            let mut measured = Measured::new("thaw", "a<b", subject, "m", Unit::Microseconds);
            measured.samples = (1..=50).map(|n| f64::from(n) * 10.0).collect();
            measured
        };
        let results = vec![of("calve"), of("floor")];
        let page = page(&[Run { facts: Facts::here(), results }]);
        assert_eq!(page.matches("<h3>").count(), 1);
        assert_eq!(page.matches("<polyline").count(), 2);
        assert!(page.contains("a&lt;b") && !page.contains("NaN") && !page.contains("inf"));
    }
}
