//! Request routing (system 9): related requests meet the same machine, and are told when its state is lost.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use common::TestHost;
use serde_json::json;

#[test]
fn a_hundred_calls_with_one_key_hit_one_machine() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let first = client.invoke_routed("f", "cart-1", &json!({})).expect(200);
    assert_eq!(first.calls(), 1);
    for n in 2..=100 {
        let reply = client.invoke_routed("f", "cart-1", &json!({})).expect(200);
        assert_eq!((reply.machine(), reply.calls()), (first.machine(), n));
        assert_eq!(reply.header("x-calve-state-lost"), "");
        assert_eq!(reply.header("x-calve-start"), "reuse");
    }
}

#[test]
fn a_machine_of_a_routing_value_serves_no_other() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let one = client.invoke_routed("f", "one", &json!({})).expect(200);
    let two = client.invoke_routed("f", "two", &json!({})).expect(200);
    let none = client.invoke("f", &json!({})).expect(200);
    assert_ne!(one.machine(), two.machine());
    assert_ne!(one.machine(), none.machine());
    assert_ne!(two.machine(), none.machine());
    for (route, before) in [("one", &one), ("two", &two)] {
        let reply = client.invoke_routed("f", route, &json!({})).expect(200);
        assert_eq!((reply.machine(), reply.calls()), (before.machine(), 2));
    }
}

#[test]
fn the_same_key_of_two_tenants_is_two_machines() {
    let host = TestHost::new();
    let (acme, other) = (host.client("acme"), host.client("other"));
    for client in [&acme, &other] {
        client.create_kept("f", "keep");
    }
    for n in 1..=5 {
        let mine = acme.invoke_routed("f", "same", &json!({})).expect(200);
        let theirs = other.invoke_routed("f", "same", &json!({})).expect(200);
        assert_ne!(mine.machine(), theirs.machine());
        assert_eq!((mine.calls(), theirs.calls()), (n, n));
    }
}

#[test]
fn the_same_key_of_two_versions_is_two_machines() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    client.json("POST", "/2015-03-31/functions/f/versions", &json!({})).expect(201);
    client.poll("/2015-03-31/functions/f/configuration?Qualifier=1", "it is built", |seen| {
        seen["State"] == "Active"
    });
    let latest = client.invoke_routed("f", "same", &json!({})).expect(200);
    let first = client.invoke_routed("f:1", "same", &json!({})).expect(200);
    assert_ne!(latest.machine(), first.machine());
    assert_eq!((latest.calls(), first.calls()), (1, 1));
}

#[test]
fn a_killed_machine_is_replaced_and_its_state_said_to_be_lost() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    for n in 1..=3 {
        assert_eq!(client.invoke_routed("f", "k", &json!({})).expect(200).calls(), n);
    }
    let before = client.invoke_routed("f", "k", &json!({})).expect(200).machine();
    host.engine.murder(&before);

    let after = client.invoke_routed("f", "k", &json!({})).expect(200);
    assert_eq!(after.header("x-calve-state-lost"), "true");
    assert_eq!(after.calls(), 1);
    assert_ne!(after.machine(), before);
    // It is said once: the next call finds what this one has left.
    let next = client.invoke_routed("f", "k", &json!({})).expect(200);
    assert_eq!(next.header("x-calve-state-lost"), "");
    assert_eq!((next.machine(), next.calls()), (after.machine(), 2));
}

#[test]
fn a_machine_that_dies_in_a_call_loses_its_state_with_that_call() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    client.invoke_routed("f", "k", &json!({})).expect(200);
    client.invoke_routed("f", "k", &json!({ "die": true })).expect(500);
    let after = client.invoke_routed("f", "k", &json!({})).expect(200);
    assert_eq!((after.header("x-calve-state-lost"), after.calls()), ("true", 1));
}

#[test]
fn new_code_loses_the_state_of_old_code() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let before = client.invoke_routed("f", "k", &json!({})).expect(200);
    client.update_code("f", "two").expect(200);
    client.wait_until_active("f");
    let after = client.invoke_routed("f", "k", &json!({})).expect(200);
    assert_ne!(after.machine(), before.machine());
    assert_eq!((after.calls(), &after.json()["code"]), (1, &json!("two")));
}

#[test]
fn a_strict_call_waits_for_its_machine() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    client.policy("f", &json!({ "reuse": "keep", "routing": "strict" }));
    let first = client.routed_aside("f", "k", json!({ "wait": "gate" }));
    let machine = host.engine.wait_for_call_at("gate");
    let second = client.routed_aside("f", "k", json!({}));
    client.wait_for_machines("the second waits", |top| top["waiting"] == 1);
    host.engine.open("gate");
    let (first, second) = (first.join().unwrap().expect(200), second.join().unwrap().expect(200));
    assert_eq!((first.machine(), second.machine()), (machine.clone(), machine));
    assert_eq!((first.calls(), second.calls()), (1, 2));
}

#[test]
fn a_strict_call_that_waits_for_too_long_is_told_to_come_again() {
    let host = TestHost::with(|s| s.patience = std::time::Duration::from_millis(50));
    let client = host.client("acme");
    client.create("f");
    client.policy("f", &json!({ "reuse": "keep", "routing": "strict" }));
    let first = client.routed_aside("f", "k", json!({ "wait": "gate" }));
    host.engine.wait_for_call_at("gate");
    let refused = client.invoke_routed("f", "k", &json!({})).expect(429);
    assert_eq!(refused.error(), "TooManyRequestsException");
    assert_ne!(refused.header("retry-after"), "");
    host.engine.open("gate");
    first.join().unwrap().expect(200);
    assert_eq!(client.invoke_routed("f", "k", &json!({})).expect(200).calls(), 2);
}

#[test]
fn a_strict_call_whose_machine_dies_meanwhile_gets_a_new_one_and_is_told() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    client.policy("f", &json!({ "reuse": "keep", "routing": "strict" }));
    let first = client.routed_aside("f", "k", json!({ "wait": "gate", "die": true }));
    host.engine.wait_for_call_at("gate");
    let second = client.routed_aside("f", "k", json!({}));
    client.wait_for_machines("the second waits", |top| top["waiting"] == 1);
    host.engine.open("gate");
    first.join().unwrap().expect(500);
    let second = second.join().unwrap().expect(200);
    assert_eq!((second.header("x-calve-state-lost"), second.calls()), ("true", 1));
}

#[test]
fn a_preferred_call_takes_another_machine_and_the_key_stays_where_it_was() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let first = client.routed_aside("f", "k", json!({ "wait": "gate" }));
    let machine = host.engine.wait_for_call_at("gate");
    let second = client.invoke_routed("f", "k", &json!({})).expect(200);
    assert_ne!(second.machine(), machine);
    host.engine.open("gate");
    assert_eq!(first.join().unwrap().expect(200).machine(), machine);
    let third = client.invoke_routed("f", "k", &json!({})).expect(200);
    assert_eq!((third.machine(), third.calls()), (machine, 2));
}

#[test]
fn routing_takes_a_policy_that_keeps_machines() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    for reuse in ["fresh", "reset"] {
        client.policy("f", &json!({ "reuse": reuse }));
        let refused = client.invoke_routed("f", "k", &json!({})).expect(400);
        assert_eq!(refused.error(), "InvalidParameterValueException");
    }
    client.policy("f", &json!({ "reuse": "keep" }));
    let long = "k".repeat(513);
    client.invoke_routed("f", &long, &json!({})).expect(400);
    client.invoke_routed("f", "", &json!({})).expect(400);
    client.invoke_routed("f", &long[1..], &json!({})).expect(200);
    assert_eq!(host.engine.with(|world| world.calls.len()), 1);
}
