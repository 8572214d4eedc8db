//! `calve run` against a frozen Python function: good paths, everything a handler can do wrong, damage, signals.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::frozen::{flip_bit, folder, rewrite_manifest, truncate};
use common::lab::{python, run};
use common::leftovers::{World, wait_until, workers};
use common::{Place, Said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Asserts a failed call: the error on stdout, why in one line on stderr. Returns the error.
#[track_caller]
fn failed(said: Said, status: i32, error_type: &str) -> Value {
    let said = said.status(status).line("py: the function failed: ").line(error_type);
    let error = said.json().remove(0);
    assert_eq!(error["errorType"], error_type, "{error}");
    assert!(error["errorMessage"].is_string() && error["stackTrace"].is_array(), "{error}");
    error
}

#[test]
#[ignore = "needs the lab"]
fn the_result_is_stdout_and_nothing_else() {
    let said = run("{\"n\": [1, 2.50, \"é\"]}", &[]).status(0);
    let result: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(result, json!({"n": [1, 2.5, "é"]}));
    assert!(said.stdout.ends_with('\n') && said.stderr.is_empty(), "{said:#?}");
}

#[test]
#[ignore = "needs the lab"]
fn the_json_object_has_exactly_the_documented_fields() {
    let call = run("{}", &["--json"]).status(0).json().remove(0);
    let fields: BTreeSet<&str> = call.as_object().unwrap().keys().map(String::as_str).collect();
    let documented = ["result", "error", "machine", "thaw_us", "first_output_us", "private_kib"];
    assert_eq!(fields, documented.into());
    assert_eq!((&call["result"], &call["error"]), (&json!({}), &Value::Null));
    let figure = |name: &str| call[name].as_u64().unwrap();
    assert!(figure("thaw_us") > 0 && figure("thaw_us") < figure("first_output_us"), "{call}");
    assert!(figure("private_kib") > 100, "{call}");
}

#[test]
#[ignore = "needs the lab"]
fn each_call_has_a_machine_of_its_own() {
    let said = run("{\"do\": \"about\"}", &["--count", "6", "--parallel", "3", "--json"]).status(0);
    let calls = said.json();
    let distinct =
        |what: &dyn Fn(&Value) -> String| calls.iter().map(what).collect::<BTreeSet<_>>().len();
    assert_eq!(calls.len(), 6);
    assert_eq!(distinct(&|call| call["machine"].to_string()), 6);
    for field in ["random", "uuid"] {
        assert_eq!(distinct(&|call| call["result"][field].to_string()), 6, "{field}: {calls:#?}");
    }
    for call in &calls {
        // One call has warmed the snapshot; no clone sees another's.
        assert_eq!(call["result"]["calls"], 2);
        assert_eq!(call["result"]["stage"], "test");
        assert_eq!(call["result"]["memory"], "256");
    }
}

#[test]
#[ignore = "needs the lab"]
fn children_of_a_fork_go_on_from_their_parent() {
    let before = ["--before", "{}", "--before", "{\"n\": 1}"];
    let event = ["--event", "{\"do\": \"about\"}", "--count", "4", "--parallel", "2", "--json"];
    let said = python().calve([&["fork", "py"][..], &before, &event].concat()).status(0);
    let calls = said.json();
    assert_eq!(calls.len(), 4);
    for call in &calls {
        // One call before the freeze, two before the fork.
        assert_eq!(call["result"]["calls"], 4, "{call}");
    }
    for field in ["machine", "random", "uuid"] {
        let of = |call: &Value| match field {
            "machine" => call["machine"].to_string(),
            field => call["result"][field].to_string(),
        };
        assert_eq!(calls.iter().map(of).collect::<BTreeSet<_>>().len(), 4, "{field}: {calls:#?}");
    }
}

#[test]
#[ignore = "needs the lab"]
fn a_fork_whose_parent_fails_calls_nothing_else() {
    let fork = ["fork", "py", "--before", "{}", "--before", "{\"do\": \"fail\"}", "--event", "{}"];
    let said = python().calve(fork).status(1).line("py: --before event 2 failed: KeyError");
    let lines = said.json();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["errorType"], "KeyError");
    let said = python().calve(["fork", "pi", "--event", "{}"]).status(2);
    said.line("no snapshot `pi`");
}

#[test]
#[ignore = "needs the lab"]
fn each_line_of_a_file_is_a_call() {
    let events = b"{\"n\":1}\n{\"do\":\"fail\"}\n\n{\"n\":3}\n";
    let said = python().feed(["run", "py", "--events", "-", "--parallel", "2"], events).status(1);
    let said = said.line("py: call 2: the function failed: KeyError");
    let lines = said.json();
    assert_eq!(lines[0], json!({"n": 1}));
    assert_eq!(lines[1]["errorType"], "KeyError");
    assert_eq!(lines[2], json!({"n": 3}));
}

#[test]
#[ignore = "needs the lab"]
fn what_the_function_prints_goes_to_stderr() {
    let said = run("{\"do\": \"say\"}", &[]).status(0);
    assert_eq!(said.stdout, "\"said\"\n");
    assert!(
        said.stderr.contains("to stdout\n") && said.stderr.contains("to stderr\n"),
        "{said:#?}"
    );
}

#[test]
#[ignore = "needs the lab"]
fn an_event_and_a_result_of_6_mib_pass() {
    let place = python();
    let file = place.folder.path().join("event.json");
    let text = format!("\"{}\"", "e".repeat((6 << 20) - 2));
    std::fs::write(&file, &text).unwrap();
    let said = run(&format!("@{}", file.display()), &["--timeout", "120"]).status(0);
    assert_eq!(said.stdout.trim_end(), text);
    std::fs::remove_file(&file).unwrap();
}

#[test]
#[ignore = "needs the lab"]
fn a_handler_that_raises_is_status_1() {
    let error = failed(run("{\"do\": \"fail\"}", &[]), 1, "KeyError");
    assert_eq!(error["errorMessage"], "'width'");
    let stack = error["stackTrace"].to_string();
    assert!(stack.contains("app.py") && stack.contains("fail"), "{error}");
    let call = run("{\"do\": \"fail\"}", &["--json"]).status(1).json().remove(0);
    assert_eq!((&call["result"], &call["error"]), (&Value::Null, &error));
    assert!(call["machine"].is_string(), "{call}");
}

#[test]
#[ignore = "needs the lab"]
fn a_handler_that_loops_is_ended_at_its_deadline() {
    let error = failed(run("{\"do\": \"loop\"}", &["--timeout", "1"]), 4, "Sandbox.Timedout");
    assert!(error["errorMessage"].as_str().unwrap().contains('1'), "{error}");
}

#[test]
#[ignore = "needs the lab"]
fn a_handler_that_exits_is_told() {
    let error = failed(run("{\"do\": \"leave\"}", &[]), 1, "Runtime.ExitError");
    assert!(error["errorMessage"].as_str().unwrap().contains('7'), "{error}");
}

#[test]
#[ignore = "needs the lab"]
fn a_handler_that_eats_all_memory_is_told() {
    failed(run("{\"do\": \"eat\"}", &["--timeout", "300"]), 1, "Runtime.OutOfMemory");
}

#[test]
#[ignore = "needs the lab"]
fn fifty_megabytes_of_prints_do_not_lose_the_result() {
    let said = run("{\"do\": \"flood\"}", &["--timeout", "600"]).status(0);
    assert_eq!(said.stdout, "\"flooded\"\n");
    let printed = said.stderr.lines().filter(|line| line.len() == 1023).count();
    let cut = said.stderr.contains("bytes of logs were dropped");
    assert!(printed == 50 * 1024 || cut, "{printed} lines, cut: {cut}");
}

#[test]
#[ignore = "needs the lab"]
fn a_result_of_6_mib_passes_and_a_larger_one_does_not() {
    let said = run("{\"do\": \"largest\"}", &["--timeout", "120"]).status(0);
    assert_eq!(said.stdout.len(), (6 << 20) + 1);
    let said = run("{\"do\": \"too_large\"}", &["--timeout", "120"]);
    failed(said, 1, "Function.ResponseSizeTooLarge");
}

#[test]
#[ignore = "needs the lab"]
fn a_result_that_is_no_json_is_told() {
    failed(run("{\"do\": \"no_json\"}", &[]), 1, "Runtime.MarshalError");
}

#[test]
#[ignore = "needs the lab"]
fn a_cold_machine_answers_the_same_later() {
    let cold = run("{\"do\": \"about\"}", &["--cold", "--json"]).status(0).json().remove(0);
    let warm = run("{\"do\": \"about\"}", &["--json"]).status(0).json().remove(0);
    // Without the warm-up call.
    assert_eq!((&cold["result"]["calls"], &warm["result"]["calls"]), (&json!(1), &json!(2)));
    assert_eq!(cold["result"]["stage"], "test");
    let first = |call: &Value| call["first_output_us"].as_u64().unwrap();
    assert!(first(&cold) > 3 * first(&warm), "{cold} {warm}");
}

/// A copy of the store, to be damaged.
fn copy() -> Place {
    let place = Place::in_memory();
    let copied = Command::new("cp").arg("-a").args([python().store(), place.store()]).status();
    assert!(copied.unwrap().success());
    place
}

#[track_caller]
fn refused(place: &Place, status: i32, text: &str) {
    let world = World::now();
    place.calve(["run", "py", "--event", "{}"]).status(status).silent().line(text).line("`py`");
    world.assert_unchanged(place);
}

#[test]
#[ignore = "needs the lab"]
fn a_damaged_snapshot_never_runs() {
    let place = copy();
    let memory = folder(&place.store(), "py").join("memory.0");
    flip_bit(&memory, 20 << 20);
    refused(&place, 2, "memory.0 is damaged");
    flip_bit(&memory, 20 << 20);
    truncate(&memory);
    refused(&place, 2, "memory.0 is damaged");

    // The runtime's memory is whole, the function's own is not.
    let place = copy();
    truncate(&folder(&place.store(), "py").join("memory.1"));
    refused(&place, 2, "memory.1 is damaged");

    let place = copy();
    flip_bit(&folder(&place.store(), "py").join("state"), 100);
    refused(&place, 2, "state is damaged");
}

#[test]
#[ignore = "needs the lab"]
fn a_snapshot_of_another_kind_of_host_never_runs() {
    for (change, status, text) in [
        ((|m| m["format_version"] = json!(99)) as fn(&mut Value), 2, "has format version 99"),
        (|m| m["architecture"] = json!("aarch64"), 3, "is of a aarch64 machine"),
        (|m| m["cpu"]["vendor"] = json!("GenuineIntel"), 3, "needs a CPU of GenuineIntel"),
        (|m| m["cpu"]["features"] = json!(["amx_tile"]), 3, "lacks (amx_tile)"),
    ] {
        let place = copy();
        rewrite_manifest(&place.store(), "py", change);
        refused(&place, status, text);
    }
}

fn signal(id: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
}

#[test]
#[ignore = "needs the lab"]
fn a_signal_at_any_moment_of_a_run_leaves_nothing() {
    let place = python();
    let world = World::now();
    for milliseconds in (0..1_500).step_by(150) {
        let args = ["run", "py", "--event", "{}", "--count", "1000", "--parallel", "2"];
        let child = place.spawn(args);
        std::thread::sleep(Duration::from_millis(milliseconds));
        signal(child.id(), Signal::SIGINT);
        let output = child.wait_with_output().unwrap();
        use std::os::unix::process::ExitStatusExt;
        // Before its handlers are in place the signal kills it, which is as good.
        if output.status.signal() != Some(2) {
            Said::from(output).status(130).line("interrupted");
        }
        world.assert_unchanged(place);
    }
}

#[test]
#[ignore = "needs the lab"]
fn a_signal_ends_a_function_that_loops() {
    let place = python();
    let world = World::now();
    let child = place.spawn(["run", "py", "--event", "{\"do\": \"loop\"}", "--timeout", "600"]);
    wait_until(|| !workers().is_empty());
    std::thread::sleep(Duration::from_secs(2));
    signal(child.id(), Signal::SIGTERM);
    Said::from(child.wait_with_output().unwrap()).status(130).silent().line("interrupted");
    world.assert_unchanged(place);
}

#[test]
#[ignore = "needs the lab"]
fn a_reader_that_leaves_ends_the_run_quietly() {
    let place = python();
    let world = World::now();
    let mut child = place.spawn(["run", "py", "--event", "{}", "--count", "100000"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "{}\n");
    let said = Said::from(child.wait_with_output().unwrap()).status(0);
    assert_eq!(said.stderr, "");
    world.assert_unchanged(place);
}

/// Open files of a process.
fn open_files(id: u32) -> usize {
    std::fs::read_dir(Path::new("/proc").join(id.to_string()).join("fd")).unwrap().count()
}

#[test]
#[ignore = "needs the lab"]
fn five_hundred_machines_leave_nothing() {
    const CALLS: usize = 500;
    let place = python();
    let world = World::now();
    let mut command =
        place.command(["run", "py", "--event", "{\"do\": \"about\"}", "--json", "--count"]);
    let command = command.arg(CALLS.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut machines, mut uuids) = (BTreeSet::new(), BTreeSet::new());
    let mut files = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let call: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!((&call["error"], &call["result"]["calls"]), (&Value::Null, &json!(2)), "{call}");
        machines.insert(call["machine"].to_string());
        uuids.insert(call["result"]["uuid"].to_string());
        if machines.len() % 50 == 25 {
            files.push(open_files(child.id()));
            assert!(workers().len() <= 2, "one machine at a time, and one that is ending");
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!((machines.len(), uuids.len()), (CALLS, CALLS));
    // Between two calls the command holds a few descriptors less than during one; it never collects them.
    let (first, last) = (files[0], files[files.len() - 1]);
    assert!(last <= first + 12, "open files: {files:?}");
    world.assert_unchanged(place);
}
