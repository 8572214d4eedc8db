//! Snapshots that cannot be opened any more: damaged, removed by hand, or of another program or processor.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::time::Duration;

use calve_manager::engine::BuildFailure;
use common::{Client, FakeEngine, TestHost};
use serde_json::{Value, json};

const CONFIGURATION: &str = "/2015-03-31/functions/f/configuration";

/// A function that was called, and whose snapshot is damaged since.
fn damaged() -> (TestHost, Client, String) {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    client.invoke("f", &json!({})).expect(200);
    let snapshot = host.engine.with(|world| {
        world.damage_all();
        world.damaged.first().unwrap().clone()
    });
    (host, client, snapshot)
}

/// A call finds that its snapshot is lost. It is answered before the build is done, which could be first otherwise.
fn find_lost(host: &TestHost, client: &Client) {
    host.engine.with(|world| world.hold_builds = true);
    client.invoke("f", &json!({})).expect(502);
    host.engine.with(|world| world.hold_builds = false);
}

#[test]
fn a_snapshot_that_is_damaged_is_built_anew() {
    let (host, client, snapshot) = damaged();
    host.engine.with(|world| world.hold_builds = true);
    let refused = client.invoke("f", &json!({})).expect(502);
    assert_eq!(refused.error(), "ResourceNotReadyException");
    assert_ne!(refused.header("retry-after"), "");
    let configuration = client.get(CONFIGURATION).expect(200).json();
    assert_eq!(configuration["State"], "Pending");
    assert_eq!(configuration["StateReasonCode"], "Restoring");
    client.invoke("f", &json!({})).expect(502);
    assert_eq!(client.update_code("f", "two").expect(409).error(), "ResourceConflictException");
    // What need not be answered now waits.
    client.invoke_later("f", &json!({ "n": 1 }));

    host.engine.with(|world| world.hold_builds = false);
    client.wait_until_active("f");
    assert_eq!(client.invoke("f", &json!({})).expect(200).json()["code"], "one");
    client.poll("/calve/v1/functions/f/queue", "it is done", |queue| queue["done"] == 1);
    host.engine.wait("the damaged one is removed", |world| world.removed == [snapshot.clone()]);
    assert_eq!(host.engine.with(|world| world.builds.len()), 2);
}

#[test]
fn a_snapshot_that_was_removed_is_built_anew_once_whoever_calls() {
    let (host, client, snapshot) = damaged();
    host.engine.with(|world| {
        world.snapshots.remove(&snapshot);
        world.hold_builds = true;
    });
    let calls: Vec<_> = (0..20).map(|_| client.invoke_aside("f", json!({}))).collect();
    calls.into_iter().for_each(|call| drop(call.join().unwrap().expect(502)));
    host.engine.with(|world| world.hold_builds = false);
    client.wait_until_active("f");
    client.invoke("f", &json!({})).expect(200);
    assert_eq!(host.engine.with(|world| world.builds.len()), 2);
}

#[test]
fn one_that_cannot_be_built_anew_fails_with_the_reason_and_is_left_at_that() {
    let (host, client, _) = damaged();
    let failure = BuildFailure { code: "FunctionError".into(), reason: "it raised".into() };
    host.engine.with(|world| world.failure = Some(failure));
    find_lost(&host, &client);
    let configuration = client.wait_until_settled("f");
    assert_eq!(
        (&configuration["State"], &configuration["StateReason"]),
        (&json!("Failed"), &json!("it raised"))
    );
    for _ in 0..3 {
        let refused = client.invoke("f", &json!({})).expect(409);
        assert_eq!(refused.error(), "ResourceConflictException");
        assert!(refused.json()["Message"].as_str().unwrap().contains("it raised"));
    }
    assert_eq!(host.engine.with(|world| world.builds.len()), 2);
    host.engine.with(|world| world.failure = None);
    client.update_code("f", "two").expect(200);
    client.wait_until_active("f");
    assert_eq!(client.invoke("f", &json!({})).expect(200).json()["code"], "two");
}

#[test]
fn what_was_built_and_cannot_be_opened_is_a_build_that_has_failed() {
    let (host, client, _) = damaged();
    host.engine.with(|world| world.spoil_builds = true);
    find_lost(&host, &client);
    let configuration = client.wait_until_settled("f");
    assert_eq!(configuration["State"], "Failed");
    let reason = configuration["StateReason"].as_str().unwrap();
    assert!(reason.contains("cannot be opened: it is damaged"), "{reason}");
    client.invoke("f", &json!({})).expect(409);
    assert_eq!(host.engine.with(|world| world.builds.len()), 2);
    // Nothing of it is left.
    host.engine.wait("both are removed", |world| world.snapshots.is_empty());
}

#[test]
fn a_host_that_starts_finds_what_is_lost_before_anybody_calls_it() {
    let (host, client, _) = damaged();
    let host = host.restarted();
    let client = Client { addr: host.addr, ..client };
    host.engine.wait("it is built anew", |world| world.builds.len() == 2);
    client.wait_until_active("f");
    assert_eq!(client.invoke("f", &json!({})).expect(200).json()["code"], "one");
    assert_eq!(host.engine.with(|world| world.builds.len()), 2);
}

#[test]
fn a_host_that_dies_while_it_restores_goes_on_with_that() {
    let (host, client, _) = damaged();
    host.engine.with(|world| world.hold_builds = true);
    client.invoke("f", &json!({})).expect(502);
    let next = host.reborn(FakeEngine::default());
    let client = Client { addr: next.addr, ..client };
    client.wait_until_active("f");
    assert_eq!(client.invoke("f", &json!({})).expect(200).json()["code"], "one");
    assert_eq!(next.engine.with(|world| world.builds.len()), 1);
}

#[test]
fn what_is_kept_ready_is_restored_though_nobody_calls_it() {
    let host = TestHost::with(|settings| settings.patience = Duration::from_millis(50));
    let client = host.client("acme");
    client.create("f");
    client.json("POST", "/2015-03-31/functions/f/versions", &json!({})).expect(201);
    let is_active = |seen: &Value| seen["State"] == "Active";
    let version = format!("{CONFIGURATION}?Qualifier=1");
    client.poll(&version, "it is built", is_active);
    let wanted = json!({ "ProvisionedConcurrentExecutions": 1 });
    let path = "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1";
    client.json("PUT", path, &wanted).expect(202);
    client.wait_for_machines("one is ready", |top| top["machines"]["warm"] == 1);
    host.engine.with(|world| {
        world.damage_all();
        world.machines.values_mut().for_each(|ended| *ended = true);
    });
    host.engine.wait("it is built anew", |world| world.builds.len() == 3);
    client.poll(&version, "it can be called", is_active);
    client.wait_for_machines("another is ready", |top| top["machines"]["warm"] == 1);
    assert_eq!(client.invoke("f:1", &json!({})).expect(200).header("x-calve-start"), "warm");
    // The other version is found when it is called.
    client.invoke("f", &json!({})).expect(502);
}

#[test]
fn work_that_was_done_is_not_done_again_by_what_was_built_anew() {
    let (host, client, _) = damaged();
    let key = [("x-calve-idempotency-key", "k-1")];
    find_lost(&host, &client);
    client.wait_until_active("f");
    let first = client.invoke_with("f", &json!({}), &key).expect(200).json();
    host.engine.with(common::World::damage_all);
    find_lost(&host, &client);
    client.wait_until_active("f");
    let calls = || host.engine.with(|world| world.calls.len());
    let before = calls();
    assert_eq!(client.invoke_with("f", &json!({}), &key).expect(200).json(), first);
    assert_eq!(calls(), before);
    // What is deployed is other work, also where it is the same code.
    client.update_code("f", "one").expect(200);
    client.wait_until_settled("f");
    client.invoke_with("f", &json!({}), &key).expect(200);
    assert_eq!(calls(), before + 1);
}
