//! Pools (system 0): which machine answers, what becomes of it afterwards, and what is made up for.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Client, TestHost};
use serde_json::json;

/// Publishes version 1 of `f` and keeps machines ready for it.
fn provision(client: &Client, name: &str, count: u32) {
    client.json("POST", &format!("/2015-03-31/functions/{name}/versions"), &json!({})).expect(201);
    let path = format!("/2015-03-31/functions/{name}/configuration?Qualifier=1");
    client.poll(&path, "the version is built", |seen| seen["State"] == "Active");
    let wanted = json!({ "ProvisionedConcurrentExecutions": count });
    client.json("PUT", &provisioned(name), &wanted).expect(202);
}

fn provisioned(name: &str) -> String {
    format!("/2019-09-30/functions/{name}/provisioned-concurrency?Qualifier=1")
}

fn wait_for_warm(client: &Client, count: u32) {
    client.wait_for_machines("machines are ready", |top| {
        top["machines"]["warm"] == count && top["machines"]["booting"] == 0
    });
}

#[test]
fn a_fresh_machine_answers_every_call() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "fresh");
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let reply = client.invoke("f", &json!({})).expect(200);
        assert_eq!((reply.calls(), reply.header("x-calve-start")), (1, "cold"));
        assert_eq!(reply.header("x-calve-machine"), reply.machine());
        assert!(seen.insert(reply.machine()), "{} has answered before", reply.machine());
    }
    host.engine.wait("all are gone", |world| world.machines.is_empty());
    assert_eq!(host.engine.with(|world| (world.starts, world.resets)), (20, 0));
}

#[test]
fn a_kept_machine_answers_again_with_what_it_remembers() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let first = client.invoke("f", &json!({})).expect(200);
    assert_eq!(first.header("x-calve-start"), "cold");
    for n in 2..=20 {
        let reply = client.invoke("f", &json!({})).expect(200);
        assert_eq!((reply.machine(), reply.calls()), (first.machine(), n));
        assert_eq!(reply.header("x-calve-start"), "reuse");
    }
    assert_eq!(host.engine.with(|world| (world.starts, world.resets)), (1, 0));
}

#[test]
fn a_reset_machine_answers_again_and_remembers_nothing() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "reset");
    let first = client.invoke("f", &json!({})).expect(200);
    for n in 1..=10 {
        host.engine.wait("it is reset", |world| world.resets == n);
        client.wait_for_machines("it is idle", |top| top["machines"]["idle"] == 1);
        let reply = client.invoke("f", &json!({})).expect(200);
        assert_eq!((reply.machine(), reply.calls()), (first.machine(), 1));
    }
    assert_eq!(host.engine.with(|world| world.starts), 1);
}

#[test]
fn a_machine_whose_function_has_left_it_unusable_is_not_used_again() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let first = client.invoke("f", &json!({ "fail": "once" })).expect(200);
    assert_eq!(first.header("x-amz-function-error"), "Unhandled");
    assert_eq!(first.json()["errorMessage"], "once");
    let second = client.invoke("f", &json!({ "fail": "badly", "leave": true })).expect(200);
    assert_eq!(first.header("x-calve-machine"), second.header("x-calve-machine"));
    let third = client.invoke("f", &json!({})).expect(200);
    assert_ne!(third.machine(), second.header("x-calve-machine"));
    assert_eq!(third.calls(), 1);
}

#[test]
fn a_killed_idle_machine_is_not_missed() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    for _ in 0..10 {
        let before = client.invoke("f", &json!({})).expect(200).machine();
        host.engine.murder(&before);
        let after = client.invoke("f", &json!({})).expect(200);
        assert_ne!(after.machine(), before);
        assert_eq!(after.calls(), 1);
    }
}

#[test]
fn killed_warm_machines_are_replaced_and_no_request_is_lost() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    provision(&client, "f", 3);
    wait_for_warm(&client, 3);

    // Nobody asks: they are replaced all the same.
    let victims = host.engine.with(|world| world.living());
    victims.iter().for_each(|victim| host.engine.murder(victim));
    host.engine.wait("all are replaced", |world| {
        world.living().len() == 3
            && victims.iter().all(|victim| !world.machines.contains_key(victim))
    });

    // Somebody asks before they are: whoever would be given a dead one gets another.
    for _ in 0..5 {
        wait_for_warm(&client, 3);
        let victims = host.engine.with(|world| world.living());
        victims.iter().for_each(|victim| host.engine.murder(victim));
        let callers: Vec<_> = (0..4).map(|_| client.invoke_aside("f:1", json!({}))).collect();
        for caller in callers {
            let reply = caller.join().unwrap().expect(200);
            assert!(!victims.contains(&reply.machine()), "a dead machine has answered");
        }
    }
    wait_for_warm(&client, 3);
}

#[test]
fn provisioned_machines_are_made_taken_and_made_again() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    provision(&client, "f", 2);
    wait_for_warm(&client, 2);
    assert_eq!(host.engine.with(|world| world.starts), 2);
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        wait_for_warm(&client, 2);
        let reply = client.invoke("f:1", &json!({})).expect(200);
        assert_eq!((reply.header("x-calve-start"), reply.calls()), ("warm", 1));
        assert!(seen.insert(reply.machine()));
    }
    // Another version has no part in them.
    assert_eq!(client.invoke("f", &json!({})).expect(200).header("x-calve-start"), "cold");

    client.request("DELETE", &provisioned("f"), &[], b"").expect(204);
    host.engine.wait("all are gone", |world| world.machines.is_empty());
}

#[test]
fn refills_stay_within_the_budgets_of_the_host_and_of_the_tenant() {
    for of_tenant in [false, true] {
        let host = TestHost::with(|settings| {
            if !of_tenant {
                settings.machines.memory_mib = 3 * 128;
            }
        });
        let client = host.client("acme");
        if of_tenant {
            host.limit("acme", |quota| quota.memory_mib = 3 * 128);
        }
        client.create("f");
        provision(&client, "f", 5);
        wait_for_warm(&client, 3);
        let first = client.invoke_aside("f:1", json!({ "wait": "gate" }));
        let second = client.invoke_aside("f:1", json!({ "wait": "gate" }));
        host.engine.wait("both are called", |world| world.waiting.len() == 2);
        let top = client.wait_for_machines("nothing boots", |top| top["machines"]["booting"] == 0);
        assert_eq!((&top["machines"]["warm"], &top["machines"]["busy"]), (&json!(1), &json!(2)));
        assert_eq!(host.engine.with(|world| (world.starts, world.living().len())), (3, 3));
        // What becomes free is refilled.
        host.engine.open("gate");
        first.join().unwrap().expect(200);
        second.join().unwrap().expect(200);
        wait_for_warm(&client, 3);
        assert_eq!(host.engine.with(|world| (world.starts, world.living().len())), (5, 3));
    }
}

#[test]
fn machines_that_cannot_be_started_ahead_are_tried_again() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    host.engine.with(|world| world.fail_starts = 3);
    provision(&client, "f", 2);
    wait_for_warm(&client, 2);
    assert_eq!(host.engine.with(|world| (world.fail_starts, world.starts)), (0, 2));
}

#[test]
fn new_code_never_answers_from_an_old_machine() {
    let host = TestHost::new();
    let client = host.client("acme");
    for reuse in ["fresh", "reset", "keep"] {
        client.create_kept(reuse, reuse);
        for code in ["two", "three", "four"] {
            let old: BTreeSet<_> =
                (0..3).map(|_| client.invoke(reuse, &json!({})).expect(200).machine()).collect();
            client.update_code(reuse, code).expect(200);
            client.wait_until_active(reuse);
            for _ in 0..3 {
                let reply = client.invoke(reuse, &json!({})).expect(200);
                assert_eq!(reply.json()["code"], code, "{reuse}");
                assert!(!old.contains(&reply.machine()), "{reuse}");
            }
        }
    }
    host.engine.wait("only the last snapshots are left", |world| world.snapshots.len() == 3);
}

#[test]
fn calls_are_answered_from_the_old_code_until_the_new_is_built() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let machine = client.invoke("f", &json!({})).expect(200).machine();
    host.engine.with(|world| world.hold_builds = true);
    client.update_code("f", "two").expect(200);
    host.engine.wait("it is being built", |world| world.held == 1);
    let during = client.invoke("f", &json!({})).expect(200).json();
    assert_eq!((&during["code"], &during["machine"]), (&json!("one"), &json!(machine)));
    host.engine.with(|world| world.hold_builds = false);
    client.wait_until_active("f");
    assert_eq!(client.invoke("f", &json!({})).expect(200).json()["code"], "two");
}

#[test]
fn a_call_that_waits_while_its_code_is_replaced_is_answered() {
    let host = TestHost::with(|settings| settings.machines.machines = 1);
    let client = host.client("acme");
    client.create("f");
    let first = client.invoke_aside("f", json!({ "wait": "gate" }));
    host.engine.wait_for_call_at("gate");
    let second = client.invoke_aside("f", json!({}));
    client.wait_for_machines("the second waits", |top| top["waiting"] == 1);
    client.update_code("f", "two").expect(200);
    client.wait_until_active("f");
    host.engine.wait("the old snapshot is removed", |world| world.removed.len() == 1);
    host.engine.open("gate");
    assert_eq!(first.join().unwrap().expect(200).json()["code"], "one");
    assert_eq!(second.join().unwrap().expect(200).json()["code"], "two");
}

#[test]
fn no_call_is_lost_while_code_is_replaced() {
    let host = TestHost::new();
    let client = host.client("acme");
    host.limit("acme", |quota| quota.rate = 1_000_000);
    for reuse in ["fresh", "keep"] {
        client.create_kept(reuse, reuse);
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = ["fresh", "keep", "fresh", "keep"]
            .into_iter()
            .map(|name| {
                let (over, client) = (&over, &client);
                scope.spawn(move || {
                    while !over.load(Ordering::SeqCst) {
                        client.invoke(name, &json!({})).expect(200);
                    }
                })
            })
            .collect();
        for code in 0..8 {
            for name in ["fresh", "keep"] {
                client.update_code(name, &code.to_string()).expect(200);
                client.wait_until_active(name);
            }
        }
        over.store(true, Ordering::SeqCst);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
}

#[test]
fn another_policy_ends_the_machines_of_the_one_before() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let before = client.invoke("f", &json!({})).expect(200).machine();
    client.policy("f", &json!({ "reuse": "keep", "routing": "strict" }));
    let after = client.invoke("f", &json!({})).expect(200);
    assert_ne!(after.machine(), before);
    assert_eq!(after.calls(), 1);
    host.engine.wait("it is gone", |world| !world.machines.contains_key(&before));

    // One that is busy ends when its call is over.
    let busy = client.invoke_aside("f", json!({ "wait": "gate" }));
    let machine = host.engine.wait_for_call_at("gate");
    client.policy("f", &json!({ "reuse": "keep" }));
    host.engine.open("gate");
    assert_eq!(busy.join().unwrap().expect(200).machine(), machine);
    host.engine.wait("it is gone", |world| world.machines.is_empty());
    assert_ne!(client.invoke("f", &json!({})).expect(200).machine(), machine);
}

#[test]
fn under_a_policy_of_fresh_machines_none_of_before_answers_whatever_is_under_way() {
    let host = TestHost::new();
    let client = host.client("acme");
    host.limit("acme", |quota| quota.rate = 1_000_000);
    client.create("f");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        client.invoke("f", &json!({})).expect(200);
                    }
                })
            })
            .collect();
        for _ in 0..40 {
            client.policy("f", &json!({ "reuse": "keep" }));
            client.invoke("f", &json!({})).expect(200);
            client.policy("f", &json!({ "reuse": "fresh" }));
            for _ in 0..5 {
                assert_eq!(client.invoke("f", &json!({})).expect(200).calls(), 1);
            }
        }
        over.store(true, Ordering::SeqCst);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
}

#[test]
fn provisioned_machines_are_made_anew_under_another_policy() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    provision(&client, "f", 2);
    wait_for_warm(&client, 2);
    let before = host.engine.with(|world| world.living());
    client.policy("f", &json!({ "reuse": "keep" }));
    host.engine.wait("they are replaced", |world| {
        world.living().len() == 2 && before.iter().all(|id| !world.machines.contains_key(id))
    });
    // They are of the new policy: the first that is called is kept.
    wait_for_warm(&client, 2);
    let first = client.invoke("f:1", &json!({})).expect(200);
    assert_eq!(first.header("x-calve-start"), "warm");
    let second = client.invoke("f:1", &json!({})).expect(200);
    assert_eq!((second.machine(), second.calls()), (first.machine(), 2));
}

#[test]
fn a_machine_that_nobody_wants_when_it_has_booted_ends() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    host.engine.with(|world| world.hold_starts = true);
    provision(&client, "f", 2);
    host.engine.wait("both boot", |world| world.held == 2);
    client.request("DELETE", "/2015-03-31/functions/f", &[], b"").expect(204);
    host.engine.wait("both snapshots are removed", |world| world.removed.len() == 2);
    host.engine.with(|world| {
        // They had been opened before.
        let opened = world.removed.iter().map(|snapshot| (snapshot.clone(), String::new()));
        world.snapshots.extend(opened.collect::<Vec<_>>());
        world.hold_starts = false;
    });
    host.engine.wait("both have been started", |world| world.starts == 2);
    host.engine.wait("both have ended", |world| world.machines.is_empty());
}

#[test]
fn a_machine_that_nobody_wants_when_it_is_reset_ends() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "reset");
    let hold = json!({ "wait": "gate" });
    let call = client.invoke_aside("f", hold);
    host.engine.wait_for_call_at("gate");
    host.engine.with(|world| world.hold_starts = true);
    host.engine.open("gate");
    call.join().unwrap().expect(200);
    host.engine.wait("it is being reset", |world| world.held == 1);
    client.policy("f", &json!({ "reuse": "fresh" }));
    host.engine.with(|world| world.hold_starts = false);
    host.engine.wait("it has ended", |world| world.resets == 1 && world.machines.is_empty());
}

#[test]
fn over_budget_calls_wait_and_are_then_told_to_come_again() {
    let host = TestHost::with(|settings| {
        settings.machines.memory_mib = 2 * 128;
        settings.patience = Duration::from_millis(100);
    });
    let client = host.client("acme");
    client.create("f");
    let busy: Vec<_> =
        (0..2).map(|_| client.invoke_aside("f", json!({ "wait": "gate" }))).collect();
    host.engine.wait("both are called", |world| world.waiting.len() == 2);
    let began = std::time::Instant::now();
    let refused = client.invoke("f", &json!({})).expect(429);
    assert!(began.elapsed() >= Duration::from_millis(100), "it has not waited");
    assert_eq!(refused.error(), "TooManyRequestsException");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 1);
    host.engine.open("gate");
    busy.into_iter().for_each(|call| drop(call.join().unwrap().expect(200)));
    client.invoke("f", &json!({})).expect(200);
    assert_eq!(host.engine.with(|world| world.calls.len()), 3, "a refused call was made");
}

#[test]
fn a_call_that_waits_gets_the_machine_that_becomes_free() {
    let host = TestHost::with(|settings| settings.machines.machines = 1);
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let first = client.invoke_aside("f", json!({ "wait": "gate" }));
    host.engine.wait_for_call_at("gate");
    let second = client.invoke_aside("f", json!({}));
    client.wait_for_machines("the second waits", |top| top["waiting"] == 1);
    host.engine.open("gate");
    let machine = first.join().unwrap().expect(200).machine();
    assert_eq!(second.join().unwrap().expect(200).machine(), machine);
}

#[test]
fn an_idle_machine_gives_way_to_another_function() {
    let host = TestHost::with(|settings| settings.machines.machines = 1);
    let (acme, other) = (host.client("acme"), host.client("other"));
    for client in [&acme, &other] {
        client.create_kept("f", "keep");
    }
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        for client in [&acme, &other] {
            let reply = client.invoke("f", &json!({})).expect(200);
            assert!(seen.insert(reply.machine()), "a machine has changed hands");
            assert_eq!(reply.calls(), 1);
        }
    }
}

#[test]
fn a_machine_larger_than_everything_is_refused_for_good() {
    let host = TestHost::with(|settings| settings.machines.memory_mib = 256);
    let client = host.client("acme");
    client.create_with("f", "one", &json!({ "MemorySize": 512 })).expect(201);
    client.wait_until_active("f");
    assert_eq!(
        client.invoke("f", &json!({})).expect(400).error(),
        "InvalidParameterValueException"
    );
}

#[test]
fn two_tenants_never_share_a_machine() {
    let host = TestHost::with(|settings| settings.machines.machines = 3);
    let clients: Vec<_> = ["acme", "other", "third"].iter().map(|name| host.client(name)).collect();
    for client in &clients {
        client.create_kept("f", "keep");
    }
    let seen: Vec<BTreeSet<String>> = thread::scope(|scope| {
        let callers: Vec<_> = clients
            .iter()
            .flat_map(|client| [client, client])
            .map(|client| {
                scope.spawn(|| {
                    (0..40).map(|_| client.invoke("f", &json!({})).expect(200).machine()).collect()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    for (n, one) in seen.iter().enumerate() {
        for other in &seen[(n / 2 + 1) * 2..] {
            assert!(one.is_disjoint(other), "{:?}", one.intersection(other));
        }
    }
}

#[test]
fn machines_that_are_idle_for_too_long_end() {
    let host = TestHost::with(|settings| settings.machines.idle_ms = 50);
    let client = host.client("acme");
    client.create_kept("f", "keep");
    client.invoke("f", &json!({})).expect(200);
    host.engine.wait("it ends", |world| world.starts == 1 && world.machines.is_empty());
    assert_eq!(client.invoke("f", &json!({})).expect(200).calls(), 1);
}
