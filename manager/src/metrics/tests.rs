//! The text is OpenMetrics and counts; percentiles are those of the last times.

use std::collections::BTreeMap;
use std::thread;

use super::*;

/// Values by series, after a check that every line is one that OpenMetrics has.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the end");
    let mut series = BTreeMap::new();
    let mut family = String::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            assert!(["HELP", "TYPE", "UNIT"].contains(&words.next().unwrap()), "{line}");
            family = words.next().unwrap().to_owned();
            assert!(family.starts_with("calve_"), "{line}");
            assert!(!words.next().unwrap().is_empty(), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with(&family), "{line} is not of {family}");
        if let Some((_, labels)) = name.split_once('{') {
            for label in labels.strip_suffix('}').unwrap().split(',') {
                let (_, value) = label.split_once('=').unwrap();
                assert!(value.starts_with('"') && value.ends_with('"'), "{line}");
            }
        }
        assert_eq!(series.insert(name.to_owned(), value.parse().unwrap()), None, "{line}: twice");
    }
    series
}

#[test]
fn every_series_is_there_from_the_start() {
    let series = parse(&Metrics::new().render());
    assert_eq!(series["calve_invocations_total{outcome=\"ok\",start=\"reuse\"}"], 0.0);
    assert_eq!(series["calve_invocations_total{outcome=\"throttled\",start=\"none\"}"], 0.0);
    assert!(!series.contains_key("calve_invocations_total{outcome=\"throttled\",start=\"cold\"}"));
    assert!(series.values().all(|&value| value == 0.0));
    for name in ["first_output", "invocation", "queue_wait", "thaw"] {
        let buckets =
            series.keys().filter(|k| k.starts_with(&format!("calve_{name}_seconds_bucket")));
        assert_eq!(buckets.count(), 22, "{name}");
    }
}

#[test]
fn what_is_recorded_is_rendered() {
    let metrics = Metrics::new();
    let before = parse(&metrics.render()).len();
    for _ in 0..3 {
        metrics.record_invocation(Outcome::Ok, Start::Cold, Duration::from_millis(2));
    }
    metrics.record_invocation(Outcome::Throttled, Start::None, Duration::ZERO);
    metrics.record_first_output(Duration::from_micros(150));
    metrics.record_queue_wait(Duration::from_secs(1000));
    metrics.record_thaw(Duration::from_micros(50));
    metrics.record_build(BuildOutcome::Failed);
    metrics.record_machine_failure(FailureKind::Timeout);
    metrics.record_async(AsyncOutcome::Retried);
    metrics.record_http(StatusCode::TOO_MANY_REQUESTS);
    metrics.record_http(StatusCode::NOT_FOUND);
    metrics.set_machines(MachineState::Busy, 7);
    metrics.set_queue(5, Duration::from_millis(1500));
    metrics.set_functions(9);
    metrics.set_private_memory(2048);

    let series = parse(&metrics.render());
    assert_eq!(series.len(), before, "no series comes later");
    for (name, value) in [
        ("invocations_total{outcome=\"ok\",start=\"cold\"}", 3.0),
        ("invocations_total{outcome=\"throttled\",start=\"none\"}", 1.0),
        ("invocation_seconds_count", 4.0),
        ("invocation_seconds_sum", 0.006),
        ("first_output_seconds_bucket{le=\"0.0001\"}", 0.0),
        ("first_output_seconds_bucket{le=\"0.0002\"}", 1.0),
        ("queue_wait_seconds_bucket{le=\"104.8576\"}", 0.0),
        ("queue_wait_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("thaw_seconds_bucket{le=\"0.0001\"}", 1.0),
        ("builds_total{outcome=\"failed\"}", 1.0),
        ("machine_failures_total{kind=\"timeout\"}", 1.0),
        ("async_total{outcome=\"retried\"}", 1.0),
        ("http_requests_total{code=\"4xx\"}", 2.0),
        ("machines{state=\"busy\"}", 7.0),
        ("queue_messages", 5.0),
        ("queue_oldest_age_seconds", 1.5),
        ("functions", 9.0),
        ("private_memory_kib", 2048.0),
    ] {
        assert_eq!(series[&format!("calve_{name}")], value, "{name}");
    }
}

#[test]
fn statuses_have_classes() {
    for (status, class) in [(100, "1xx"), (200, "2xx"), (304, "3xx"), (499, "4xx"), (999, "5xx")] {
        assert_eq!(CodeClass::from(StatusCode::from_u16(status).unwrap()).as_str(), class);
    }
}

#[test]
fn percentiles_are_those_of_the_last_times() {
    let percentiles = Percentiles::new();
    assert_eq!(percentiles.summary("acme", "f"), None);
    let window = percentiles.window("acme", "f");
    assert_eq!(window.summary(), None);
    let micros = Duration::from_micros;
    window.record(Duration::MAX);
    let one = micros(u32::MAX.into());
    assert_eq!(window.summary(), Some(Summary { count: 1, p50: one, p99: one, max: one }));
    for n in 1..=4096 {
        percentiles.record("acme", "f", micros(n));
    }
    let summary = percentiles.summary("acme", "f").unwrap();
    let expected = Summary { count: 4096, p50: micros(2048), p99: micros(4056), max: micros(4096) };
    assert_eq!(summary, expected, "the first one is forgotten");
    percentiles.retain(|tenant, name| (tenant, name) == ("acme", "f"));
    assert_eq!(percentiles.summary("acme", "f"), Some(expected));
    percentiles.retain(|_, name| name != "f");
    assert_eq!(percentiles.summary("acme", "f"), None);
}

#[test]
fn calls_and_errors_are_counted_though_there_is_no_time() {
    let percentiles = Percentiles::new();
    assert!(percentiles.find("acme", "f").is_none());
    let window = percentiles.window("acme", "f");
    [true, false, true].into_iter().for_each(|failed| window.count(failed));
    let tally = percentiles.find("acme", "f").unwrap().tally();
    assert_eq!(tally, Tally { calls: 3, errors: 2 });
    assert_eq!(window.summary(), None);
}

#[test]
fn threads_record_at_the_same_time() {
    let percentiles = Percentiles::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| percentiles.record("acme", "f", Duration::ZERO)));
        }
    });
    assert_eq!(percentiles.summary("acme", "f").unwrap().count, 2000);
}
