//! Asynchronous calls (system 10): tried again, given up, told of, and not lost with the host.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in the functions that the tests are made of"
)]

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use calve_manager::host::ledger_file;
use calve_manager::ledger::{Ledger as _, Message, SqliteLedger};
use common::{Client, FakeEngine, LONG, TestHost};
use serde_json::{Value, json};

const DEAD: &str = "/calve/v1/functions/f/dead-letters";
const QUEUE: &str = "/calve/v1/functions/f/queue";

fn event_invoke(client: &Client, name: &str, settings: &Value) {
    let path = format!("/2019-09-25/functions/{name}/event-invoke-config");
    client.json("PUT", &path, settings).expect(200);
}

fn wait_for_dead(client: &Client, count: usize) -> Vec<Value> {
    let dead =
        client.poll(DEAD, "they are given up", |dead| dead.as_array().unwrap().len() == count);
    dead.as_array().unwrap().clone()
}

#[test]
fn an_event_is_taken_in_and_called() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let request = client.invoke_later("f", &json!({ "n": 1 }));
    client.poll(QUEUE, "it is done", |queue| queue["done"] == 1);
    let (calls, done) = host.engine.with(|world| (world.calls.clone(), world.done.clone()));
    assert_eq!(calls.iter().map(|(_, id)| id).collect::<Vec<_>>(), [&request]);
    assert_eq!(done, [json!({ "n": 1 })]);
    let queue = client.get(QUEUE).expect(200).json();
    assert_eq!((&queue["waiting"], &queue["dead"]), (&json!(0), &json!(0)));
    let old = client.json("POST", "/2014-11-13/functions/f/invoke-async/", &json!({ "n": 2 }));
    assert_eq!(old.expect(202).json()["Status"], 202);
    client.poll(QUEUE, "it is done", |queue| queue["done"] == 2);
}

#[test]
fn a_failing_event_is_tried_as_often_as_its_owner_wants() {
    for retries in [0, 1, 2] {
        let host = TestHost::new();
        let client = host.client("acme");
        client.create("f");
        event_invoke(&client, "f", &json!({ "MaximumRetryAttempts": retries }));
        let request = client.invoke_later("f", &json!({ "fail": "always" }));
        let dead = wait_for_dead(&client, 1);
        assert_eq!(dead[0]["request"], request);
        assert_eq!(dead[0]["reason"], "RetriesExhausted");
        assert_eq!(dead[0]["event"], json!({ "fail": "always" }));
        let calls = host.engine.with(|world| world.calls.clone());
        assert_eq!(calls.len(), retries + 1);
        // Each try has the event's id, by which functions know it.
        assert!(calls.iter().all(|(_, id)| *id == request));
    }
}

#[test]
fn a_retry_waits_twice_as_long_as_the_one_before() {
    let host = TestHost::with(|settings| settings.retry = Duration::from_millis(200));
    let client = host.client("acme");
    client.create("f");
    let began = Instant::now();
    client.invoke_later("f", &json!({ "fail": "always" }));
    host.engine.wait("the second try", |world| world.calls.len() == 2);
    assert!(began.elapsed() >= Duration::from_millis(200));
    host.engine.wait("the third try", |world| world.calls.len() == 3);
    assert!(began.elapsed() >= Duration::from_millis(600));
}

#[test]
fn an_event_that_fails_once_is_done_the_second_time() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    host.engine.with(|world| world.fail_starts = 1);
    client.invoke_later("f", &json!({}));
    client.poll(QUEUE, "it is done", |queue| queue["done"] == 1);
    assert_eq!(client.get(DEAD).expect(200).json(), json!([]));
}

#[test]
fn others_flow_past_one_that_always_fails() {
    let host = TestHost::with(|settings| settings.retry = Duration::from_secs(3600));
    let client = host.client("acme");
    client.create("f");
    client.invoke_later("f", &json!({ "fail": "always" }));
    host.engine.wait("it has failed", |world| world.calls.len() == 1);
    for n in 0..20 {
        client.invoke_later("f", &json!({ "n": n }));
    }
    let queue = client.poll(QUEUE, "the others are done", |queue| queue["done"] == 20);
    assert_eq!(queue["waiting"], 1);
}

#[test]
fn one_tenants_flood_does_not_hold_up_another() {
    let host = TestHost::with(|settings| settings.patience = Duration::from_millis(100));
    let (acme, other) = (host.client("acme"), host.client("other"));
    acme.create("f");
    other.create("f");
    host.limit("acme", |quota| quota.concurrency = 2);
    for _ in 0..40 {
        acme.invoke_later("f", &json!({ "wait": "gate" }));
    }
    host.engine.wait("two are called", |world| world.waiting.len() == 2);
    other.invoke_later("f", &json!({}));
    other.poll(QUEUE, "it is done", |queue| queue["done"] == 1);
    host.limit("acme", |quota| quota.concurrency = 1000);
    host.engine.open("gate");
    acme.poll(QUEUE, "all are done", |queue| queue["done"] == 40);
    assert_eq!(acme.get(DEAD).expect(200).json(), json!([]), "throttled is not failed");
}

#[test]
fn events_are_delayed_and_not_lost_where_a_tenant_may_make_no_more_calls() {
    let host = TestHost::new();
    let (acme, other) = (host.client("acme"), host.client("other"));
    acme.create("f");
    other.create("f");
    host.limit("acme", |quota| quota.rate = 0);
    for n in 0..40 {
        acme.invoke_later("f", &json!({ "n": n }));
    }
    // More than are taken from the ledger at once; others pass them.
    for n in 1..=20 {
        other.invoke_later("f", &json!({}));
        other.poll(QUEUE, "it is done", |queue| queue["done"] == n);
    }
    let queue = acme.get(QUEUE).expect(200).json();
    assert_eq!((&queue["waiting"], &queue["done"]), (&json!(40), &json!(0)));
    host.limit("acme", |quota| quota.rate = 1000);
    acme.poll(QUEUE, "all are done", |queue| queue["done"] == 40);
    assert_eq!(acme.get(DEAD).expect(200).json(), json!([]));
    assert_eq!(host.engine.with(|world| world.calls.len()), 60);
}

#[test]
fn a_failed_event_goes_to_its_destination_and_a_successful_one_to_its_own() {
    let host = TestHost::new();
    let client = host.client("acme");
    for name in ["f", "failures", "successes"] {
        client.create(name);
    }
    let destinations = json!({
        "MaximumRetryAttempts": 1,
        "DestinationConfig": {
            "OnFailure": { "Destination": client.arn("failures") },
            "OnSuccess": { "Destination": client.arn("successes") },
        },
    });
    event_invoke(&client, "f", &destinations);
    let failing = client.invoke_later("f", &json!({ "fail": "always" }));
    let told =
        |world: &common::World| world.done.iter().find(|event| event["version"] == "1.0").cloned();
    host.engine.wait("it is told", |world| told(world).is_some());
    let envelope = host.engine.with(|world| told(world).unwrap());
    assert_eq!(envelope["requestContext"]["requestId"], failing);
    assert_eq!(envelope["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(envelope["requestContext"]["approximateInvokeCount"], 2);
    let arn = envelope["requestContext"]["functionArn"].as_str().unwrap();
    assert!(arn.starts_with(&client.arn("f")), "{arn}");
    assert_eq!(envelope["requestPayload"], json!({ "fail": "always" }));
    assert_eq!(envelope["responsePayload"]["errorMessage"], "always");
    assert_eq!(envelope["responseContext"]["functionError"], "Unhandled");
    assert_eq!(wait_for_dead(&client, 1).len(), 1);

    host.engine.with(|world| world.done.clear());
    let fine = client.invoke_later("f", &json!({ "n": 1 }));
    host.engine.wait("it is told", |world| told(world).is_some());
    let envelope = host.engine.with(|world| told(world).unwrap());
    assert_eq!(envelope["requestContext"]["requestId"], fine);
    assert_eq!(envelope["requestContext"]["condition"], "Success");
    assert_eq!(envelope["requestPayload"], json!({ "n": 1 }));
    assert_eq!(envelope["responsePayload"]["event"], json!({ "n": 1 }));
    for (name, count) in [("failures", 1), ("successes", 1)] {
        let path = format!("/calve/v1/functions/{name}/queue");
        client.poll(&path, "it is done", |queue| queue["done"] == count);
    }
}

#[test]
fn a_failed_event_goes_to_the_dead_letter_target_as_it_was() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("graves");
    let target = json!({ "DeadLetterConfig": { "TargetArn": client.arn("graves") } });
    client.create_with("f", "one", &target).expect(201);
    client.wait_until_active("f");
    event_invoke(&client, "f", &json!({ "MaximumRetryAttempts": 0 }));
    client.invoke_later("f", &json!({ "silent": true, "n": 7 }));
    client.poll("/calve/v1/functions/graves/invocations", "it is buried", |calls| {
        calls.as_array().unwrap().len() == 1
    });
    let dead = wait_for_dead(&client, 1);
    assert_eq!(dead[0]["event"], json!({ "silent": true, "n": 7 }));
}

#[test]
fn an_event_that_is_too_old_is_given_up_untried() {
    let mut host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    event_invoke(&client, "f", &json!({ "MaximumEventAgeInSeconds": 60 }));
    host.stop();
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let now = u64::try_from(since.as_millis()).unwrap();
    let ledger = SqliteLedger::open(&ledger_file(host.data())).unwrap();
    for (id, age_s) in [("old", 61), ("young", 30)] {
        let message = Message {
            id: id.into(),
            tenant: "acme".into(),
            function: "f".into(),
            qualifier: "$LATEST".into(),
            event: json!({ "id": id }).to_string().into_bytes(),
            created: now - age_s * 1000,
            due: now,
            tries: 0,
            source: String::new(),
            trace: String::new(),
            key: String::new(),
        };
        ledger.enqueue(&message).unwrap();
    }
    drop(ledger);
    let host = TestHost::on(host.data(), host.engine.clone());
    let client = Client { addr: host.addr, ..client };
    let dead = wait_for_dead(&client, 1);
    assert_eq!(
        (&dead[0]["request"], &dead[0]["reason"]),
        (&json!("old"), &json!("EventAgeExceeded"))
    );
    client.poll(QUEUE, "the young one is done", |queue| queue["done"] == 1);
    assert_eq!(host.engine.with(|world| world.done.clone()), [json!({ "id": "young" })]);
}

#[test]
fn events_of_a_removed_function_go_with_it() {
    let host = TestHost::with(|settings| settings.retry = Duration::from_secs(3600));
    let client = host.client("acme");
    client.create("f");
    client.invoke_later("f", &json!({ "fail": "always" }));
    client.poll(QUEUE, "it waits", |queue| queue["waiting"] == 1);
    host.engine.wait("it has failed", |world| world.calls.len() == 1);
    client.request("DELETE", "/2015-03-31/functions/f", &[], b"").expect(204);
    client.create("f");
    assert_eq!(client.get(QUEUE).expect(200).json()["waiting"], 0);
}

#[test]
fn an_event_for_what_is_not_there_is_refused() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let event = [("x-amz-invocation-type", "Event")];
    client.invoke_with("none", &json!({}), &event).expect(404);
    client.invoke_with("f:7", &json!({}), &event).expect(404);
    client.request("POST", &common::invocations("f"), &event, b"{").expect(400);
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    client.request("POST", &common::invocations("f"), &event, large.as_bytes()).expect(413);
    assert_eq!(client.get(QUEUE).expect(200).json()["waiting"], 0);
}

#[test]
fn an_event_for_a_function_that_is_being_made_waits_for_it() {
    let host = TestHost::new();
    let client = host.client("acme");
    host.engine.with(|world| world.hold_builds = true);
    client.create_with("f", "one", &json!({})).expect(201);
    client.invoke_later("f", &json!({}));
    host.engine.with(|world| world.hold_builds = false);
    client.poll(QUEUE, "it is done", |queue| queue["done"] == 1);
}

#[test]
fn events_outlive_a_host_that_is_stopped() {
    let host = TestHost::with(|settings| settings.retry = Duration::from_millis(500));
    let client = host.client("acme");
    client.create("f");
    client.invoke_later("f", &json!({ "fail": "always" }));
    host.engine.wait("it has failed", |world| world.calls.len() == 1);
    let host = host.restarted();
    let client = Client { addr: host.addr, ..client };
    assert_eq!(wait_for_dead(&client, 1)[0]["tries"], 2, "tries are remembered");
    assert_eq!(host.engine.with(|world| world.calls.len()), 3);
}

#[test]
fn what_was_done_when_a_host_was_stopped_is_not_done_again() {
    let mut host = TestHost::new();
    let mut client = host.client("acme");
    client.create("f");
    for n in 1..=10 {
        client.invoke_later("f", &json!({}));
        host.engine.wait("it is done", |world| world.done.len() >= n);
        host = host.restarted();
        client.addr = host.addr;
        client.poll(QUEUE, "nothing waits", |queue| queue["waiting"] == 0);
        assert_eq!(host.engine.with(|world| world.calls.len()), n);
    }
}

// The host as a process of its own: this test binary, run again for the test `host_process` alone.

/// The folder that the child serves.
const DATA: &str = "CALVE_TEST_DATA";
/// After how many calls it comes to a halt, if it does.
const STALL: &str = "CALVE_TEST_STALL";

#[test]
#[ignore = "a process of its own, run by another test"]
fn host_process() {
    let Some(data) = std::env::var_os(DATA) else { return };
    let data = PathBuf::from(data);
    let engine = FakeEngine::default();
    engine.with(|world| {
        let journal = File::options().create(true).append(true).open(journal(&data));
        world.journal = Some(journal.unwrap());
        world.stall_after = std::env::var(STALL).ok().map(|calls| calls.parse().unwrap());
    });
    let mut host = TestHost::on(&data, engine);
    // Snapshots of a real engine are files; these are in memory: to the next host they are lost, and it builds them anew.
    let client = host.client("acme");
    if client.get("/2015-03-31/functions/f").status == 200 {
        client.wait_until_active("f");
    } else {
        client.create("f");
    }
    println!("serving {}|{}|{}.", client.addr, client.bearer, client.account);
    host.host = None;
    // Until the parent is gone, if it does not kill this before.
    let _ = std::io::stdin().lines().count();
}

fn journal(data: &Path) -> PathBuf {
    data.with_extension("journal")
}

fn spawn(data: &Path, stall: Option<u32>) -> (Child, Client) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "host_process", "--nocapture"]).env(DATA, data);
    if let Some(stall) = stall {
        command.env(STALL, stall.to_string());
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("serving ")).expect("the host does not serve");
    let (_, rest) = line.split_once("serving ").unwrap();
    let mut parts = rest.trim_end_matches('.').split('|');
    let client = Client {
        addr: parts.next().unwrap().parse().unwrap(),
        bearer: parts.next().unwrap().to_owned(),
        account: parts.next().unwrap().to_owned(),
        host: String::new(),
    };
    (child, client)
}

/// Request ids of the calls that have come to their end.
fn completed(data: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(journal(data)).unwrap_or_default();
    // The last line may be half of one.
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .map(str::to_owned)
        .collect()
}

fn wait_until(what: &str, so: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn two_hundred_events_outlive_a_host_that_is_killed_in_the_middle_of_them() {
    let folder = common::folder();
    let data = folder.path().join("data");
    let (mut child, client) = spawn(&data, Some(60));
    let accepted: BTreeSet<String> =
        (0..200).map(|n| client.invoke_later("f", &json!({ "n": n }))).collect();
    assert_eq!(accepted.len(), 200);
    wait_until("sixty are done", || completed(&data).len() == 60);
    let queue = client.get(QUEUE).expect(200).json();
    assert!(queue["waiting"].as_u64().unwrap() >= 140, "{queue}");
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();

    let (mut child, client) = spawn(&data, None);
    let all_done = || completed(&data).into_iter().collect::<BTreeSet<_>>().is_superset(&accepted);
    wait_until("all are done", all_done);
    client.poll(QUEUE, "nothing waits", |queue| queue["waiting"] == 0);
    assert_eq!(client.get(DEAD).expect(200).json(), json!([]));
    let done = completed(&data);
    assert!(done.iter().all(|id| accepted.contains(id)), "a call that nobody has made");
    child.kill().unwrap();
    child.wait().unwrap();
}
