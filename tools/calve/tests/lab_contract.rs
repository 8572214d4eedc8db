//! The clone contract, row by row, over fifty clones of one snapshot.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::lab::{CONTRACT_PACKAGES, build, package};
use common::{Place, function};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use serde_json::{Value, json};

const CLONES: usize = 50;

/// Calls so many clones of a snapshot, several at once.
fn call(place: &Place, name: &str, clones: usize) -> Vec<Value> {
    let count = clones.to_string();
    let said = place
        .calve(["run", name, "--event", "{}", "--json", "--count", &count, "--parallel", "8"])
        .status(0);
    let calls = said.json();
    assert_eq!(calls.len(), clones);
    calls
}

/// Fails unless every clone's value is another one.
#[track_caller]
fn all_differ<'a>(what: &str, values: impl IntoIterator<Item = &'a Value>) {
    let values: Vec<_> = values.into_iter().map(Value::to_string).collect();
    let distinct: BTreeSet<_> = values.iter().collect();
    assert_eq!(distinct.len(), values.len(), "{what}: {values:#?}");
    assert!(values.iter().all(|value| value != "null"), "{what}: {values:#?}");
}

#[test]
#[ignore = "needs the lab"]
fn fifty_python_clones_are_what_was_promised() {
    let place = Place::in_memory();
    let code = place.folder.path().join("code");
    let packages = CONTRACT_PACKAGES.map(|(requirement, module)| package(requirement, module));
    for from in packages.into_iter().chain([function("contract-python")]) {
        let copied = Command::new("cp").args(["-a", "--"]).arg(from.join(".")).arg(&code).status();
        assert!(copied.unwrap().success());
    }
    let more = ["--memory", "512", "--warm", "{}"];
    build(&place, "python3.11", &code, "app.handler", &more, "py").status(0);

    let start = now();
    let calls = call(&place, "py", CLONES);
    let end = now();
    let results: Vec<_> = calls.iter().map(|call| &call["result"]).collect();
    for (call, result) in calls.iter().zip(&results) {
        // Hooks: once each, the last one registered first before the snapshot, the first one first after it.
        assert_eq!(result["trail"], json!(["before 2", "before 1", "after 1", "after 2"]));
        // One call has warmed the snapshot.
        assert_eq!(result["calls"], 2);
        assert_eq!(result["machine"], call["machine"]);
        assert_eq!(result["marks"], json!([]), "another clone's file");
        assert_eq!(result["kernel"], json!([]));
        let first = &result["first"];
        in_time(first, start, end);
        let passed = first["monotonic"].as_f64().unwrap() - first["frozen_at"].as_f64().unwrap();
        assert!((0.0..60.0).contains(&passed), "{passed} s between freeze and thaw");
    }
    all_differ("machine", calls.iter().map(|call| &call["machine"]));
    let sources =
        ["random", "secrets", "uuid1", "uuid4", "urandom", "openssl", "numpy", "default_rng"];
    for source in sources {
        // The very first of each, and the next.
        let first = results.iter().map(|it| &it["first"]["draws"][source]);
        all_differ(source, first.chain(results.iter().map(|it| &it["draws"][source])));
    }
    // A thread that has drawn from the first moment on.
    let drawn = results.iter().flat_map(|it| it["thread"].as_array().unwrap());
    assert_eq!(drawn.clone().count(), 50 * CLONES);
    all_differ("a thread's draws", drawn);

    // A snapshot that is days old, as far as the host's clock can tell.
    let travel = Travel::days(3);
    let start = now();
    let calls = call(&place, "py", 5);
    let end = now();
    drop(travel);
    for call in &calls {
        in_time(&call["result"]["first"], start, end);
        assert_eq!(call["result"]["kernel"], json!([]));
        let first = &call["result"]["first"];
        let passed = first["monotonic"].as_f64().unwrap() - first["frozen_at"].as_f64().unwrap();
        assert!((0.0..60.0).contains(&passed), "{passed} s between freeze and thaw");
    }
}

#[test]
#[ignore = "needs the lab"]
fn fifty_node_clones_draw_numbers_of_their_own() {
    let place = Place::in_memory();
    let more = ["--memory", "512", "--warm", "{}"];
    build(&place, "node20", &function("contract-node"), "index.handler", &more, "js").status(0);
    let start = now();
    let calls = call(&place, "js", CLONES);
    let end = now();
    let results: Vec<_> = calls.iter().map(|call| &call["result"]).collect();
    for source in ["random", "more", "bytes", "int", "uuid", "values"] {
        all_differ(source, results.iter().map(|it| &it[source]));
    }
    results.iter().for_each(|result| in_time(result, start, end));
}

/// The clone's clock was the host's, at some moment of the command.
#[track_caller]
fn in_time(clone: &Value, start: f64, end: f64) {
    let now = clone["now"].as_f64().unwrap();
    assert!((start..=end).contains(&now), "{now}, from {start} to {end}");
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// The host's clock, moved ahead; back when dropped.
struct Travel(i64);

impl Travel {
    fn days(days: i64) -> Self {
        let seconds = days * 24 * 60 * 60;
        step_clock(seconds);
        Self(seconds)
    }
}

impl Drop for Travel {
    fn drop(&mut self) {
        step_clock(-self.0);
    }
}

/// Only ever in the lab, which has a clock of its own.
fn step_clock(seconds: i64) {
    assert!(std::env::var_os("CALVE_LAB").is_some(), "not this machine's clock");
    let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME).unwrap());
    let then = i64::try_from(now.as_secs()).unwrap() + seconds;
    let then = TimeSpec::new(then, i64::from(now.subsec_nanos()));
    clock_settime(ClockId::CLOCK_REALTIME, then).unwrap();
}
