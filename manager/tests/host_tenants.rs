//! Multi-tenancy (system 11): to a tenant, another one's functions are not there; quotas are checked before the action.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use common::{TestHost, invocations};
use serde_json::json;

const FUNCTION: &str = "/2015-03-31/functions/f";

#[test]
fn to_another_tenant_a_function_is_not_there() {
    let host = TestHost::new();
    let (acme, other) = (host.client("acme"), host.client("other"));
    acme.create_kept("f", "keep");
    acme.invoke("f", &json!({})).expect(200);
    let empty = json!({});
    let requests = [
        ("GET", FUNCTION.to_owned(), json!(null)),
        ("GET", format!("{FUNCTION}/configuration"), json!(null)),
        ("PUT", format!("{FUNCTION}/configuration"), json!({ "Description": "mine" })),
        ("DELETE", FUNCTION.to_owned(), json!(null)),
        ("POST", format!("{FUNCTION}/versions"), empty.clone()),
        ("GET", format!("{FUNCTION}/versions"), json!(null)),
        ("POST", invocations("f"), empty.clone()),
        ("POST", "/2014-11-13/functions/f/invoke-async/".to_owned(), empty),
        ("PUT", "/calve/v1/functions/f/policy".to_owned(), json!({ "reuse": "fresh" })),
        ("GET", "/calve/v1/functions/f/policy".to_owned(), json!(null)),
        ("GET", "/calve/v1/functions/f/queue".to_owned(), json!(null)),
        ("GET", "/calve/v1/functions/f/dead-letters".to_owned(), json!(null)),
        ("GET", "/calve/v1/functions/f/invocations".to_owned(), json!(null)),
        ("GET", "/calve/v1/functions/f/code".to_owned(), json!(null)),
        (
            "PUT",
            "/2017-10-31/functions/f/concurrency".to_owned(),
            json!({ "ReservedConcurrentExecutions": 1 }),
        ),
        ("GET", "/2019-09-25/functions/f/event-invoke-config".to_owned(), json!(null)),
        ("POST", "/2021-10-31/functions/f/url".to_owned(), json!({ "AuthType": "NONE" })),
        ("GET", "/2021-10-31/functions/f/urls".to_owned(), json!(null)),
        ("POST", "/2021-11-15/functions/f/response-streaming-invocations".to_owned(), json!({})),
    ];
    for (method, path, body) in &requests {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = other.request(method, path, &[], body.as_bytes());
        assert_eq!((reply.status, reply.error()), (404, "ResourceNotFoundException"), "{path}");
    }
    assert_eq!(other.update_code("f", "theirs").expect(404).error(), "ResourceNotFoundException");
    for kind in ["Event", "DryRun"] {
        other.invoke_with("f", &json!({}), &[("x-amz-invocation-type", kind)]).expect(404);
    }
    assert_eq!(other.get("/2015-03-31/functions").expect(200).json()["Functions"], json!([]));
    assert_eq!(other.get("/calve/v1/invocations").expect(200).json(), json!([]));

    // Nothing of all that has done anything.
    let configuration = acme.get(&format!("{FUNCTION}/configuration")).expect(200).json();
    assert_eq!(configuration["Description"], "");
    let policy = acme.get("/calve/v1/functions/f/policy").expect(200).json();
    assert_eq!(policy["reuse"], "keep");
    let after = acme.invoke("f", &json!({})).expect(200);
    assert_eq!((after.calls(), &after.json()["code"]), (2, &json!("one")));
    assert_eq!(host.engine.with(|world| world.calls.len()), 2);
}

#[test]
fn an_arn_of_another_account_is_no_way_in() {
    let host = TestHost::new();
    let (acme, other) = (host.client("acme"), host.client("other"));
    acme.create("f");
    let arn = acme.arn("f").replace(':', "%3A");
    acme.invoke(&arn, &json!({})).expect(200);
    let refused = other.invoke(&arn, &json!({}));
    assert!([400, 403, 404].contains(&refused.status), "{}", refused.status);
    assert_eq!(host.engine.with(|world| world.calls.len()), 1);
}

#[test]
fn the_same_name_of_two_tenants_is_two_functions() {
    let host = TestHost::new();
    let (acme, other) = (host.client("acme"), host.client("other"));
    for (client, code) in [(&acme, "ours"), (&other, "theirs")] {
        client.create_with("f", code, &json!({})).expect(201);
        client.wait_until_active("f");
    }
    assert_eq!(acme.invoke("f", &json!({})).expect(200).json()["code"], "ours");
    other.request("DELETE", FUNCTION, &[], b"").expect(204);
    other.invoke("f", &json!({})).expect(404);
    assert_eq!(acme.invoke("f", &json!({})).expect(200).json()["code"], "ours");
}

#[test]
fn what_concerns_all_tenants_takes_a_root_key() {
    let host = TestHost::new();
    let (acme, root) = (host.client("acme"), host.client_of("admin", true));
    assert_eq!(acme.get("/metrics").expect(403).error(), "AccessDeniedException");
    root.get("/metrics").expect(200);
    acme.get("/calve/v1/top?tenant=acme").expect(200);
    acme.get("/calve/v1/top?tenant=admin").expect(404);
    root.get("/calve/v1/top?tenant=acme").expect(200);
}

#[test]
fn a_tenant_sees_its_own_machines_calls_and_errors_and_no_others() {
    let host = TestHost::with(|settings| settings.machines.machines = 2);
    let (acme, other) = (host.client("acme"), host.client("other"));
    let root = host.client_of("admin", true);
    acme.create("f");
    other.create_kept("g", "keep");
    other.invoke("g", &json!({})).expect(200);
    other.wait_for_machines("its own is idle", |top| top["machines"]["idle"] == 1);
    let busy = acme.invoke_aside("f", json!({ "wait": "gate" }));
    host.engine.wait_for_call_at("gate");
    // In the place of the idle one, which is anybody's.
    let second = acme.invoke_aside("f", json!({ "wait": "gate" }));
    host.engine.wait("both are called", |world| world.waiting.len() == 2);
    let waits = acme.invoke_aside("f", json!({}));
    acme.wait_for_machines("it waits", |top| top["waiting"] == 1);
    acme.invoke_later("f", &json!({ "wait": "gate" }));

    let ours = acme.get("/calve/v1/top").expect(200).json();
    assert_eq!((&ours["machines"]["busy"], &ours["queue"]), (&json!(2), &json!(1)));
    let theirs = other.get("/calve/v1/top").expect(200).json();
    let nothing = json!({ "booting": 0, "warm": 0, "idle": 0, "busy": 0, "leaving": 0 });
    assert_eq!(theirs["machines"], nothing);
    assert_eq!((&theirs["waiting"], &theirs["queue"]), (&json!(0), &json!(0)));
    assert_eq!(theirs["functions"].as_array().unwrap().len(), 1);
    let all = root.get("/calve/v1/top").expect(200).json();
    assert_eq!((&all["machines"]["busy"], &all["queue"]), (&json!(2), &json!(1)));
    assert_eq!(root.get("/calve/v1/top?tenant=other").expect(200).json(), theirs);

    host.engine.open("gate");
    for call in [busy, second, waits] {
        call.join().unwrap().expect(200);
    }
    acme.poll("/calve/v1/functions/f/queue", "it is done", |queue| queue["done"] == 1);
    acme.invoke("f", &json!({ "fail": "it raised" })).expect(200);
    acme.invoke("f", &json!({ "die": true })).expect(500);
    let functions = &acme.get("/calve/v1/top").expect(200).json()["functions"];
    assert_eq!((&functions[0]["calls"], &functions[0]["errors"]), (&json!(6), &json!(2)));
}

#[test]
fn a_tenant_has_no_more_functions_than_it_may() {
    let host = TestHost::new();
    let (acme, other) = (host.client("acme"), host.client("other"));
    host.limit("acme", |quota| quota.functions = 2);
    acme.create("one");
    acme.create("two");
    let refused = acme.create_with("three", "one", &json!({}));
    assert_eq!((refused.status, refused.error()), (402, "ServiceQuotaExceededException"));
    acme.get("/2015-03-31/functions/three").expect(404);
    assert_eq!(host.engine.with(|world| world.builds.len()), 2);
    other.create("three");
    acme.request("DELETE", "/2015-03-31/functions/one", &[], b"").expect(204);
    acme.create("three");
}

#[test]
fn a_tenant_stores_no_more_code_than_it_may() {
    let host = TestHost::new();
    let (acme, other) = (host.client("acme"), host.client("other"));
    acme.create("f");
    let size = acme.get(FUNCTION).expect(200).json()["Configuration"]["CodeSize"].as_u64().unwrap();
    host.limit("acme", |quota| quota.storage = size + size / 2);
    let refused = acme.create_with("g", "another", &json!({})).expect(400);
    assert_eq!(refused.error(), "CodeStorageExceededException");
    acme.get("/2015-03-31/functions/g").expect(404);
    let refused = acme.update_code("f", "another").expect(400);
    assert_eq!(refused.error(), "CodeStorageExceededException");
    // What is stored already takes nothing more.
    acme.create("g");
    assert_eq!(acme.invoke("f", &json!({})).expect(200).json()["code"], "one");
    other.create("f");
    let stored = host.host().control().codes().used("acme");
    assert_eq!(stored, size);
}

#[test]
fn a_tenant_that_makes_many_functions_does_not_hold_up_the_builds_of_others() {
    let host = TestHost::with(|settings| settings.builds = 1);
    let (acme, other) = (host.client("acme"), host.client("other"));
    host.engine.with(|world| world.hold_builds = true);
    for n in 0..10 {
        acme.create_with(&format!("many{n}"), "one", &json!({})).expect(201);
    }
    host.engine.wait("the first is being built", |world| world.builds.len() == 1);
    other.create_with("one", "one", &json!({})).expect(201);
    host.engine.with(|world| world.hold_builds = false);
    host.engine.wait("all are built", |world| world.snapshots.len() == 11);
    let builds: Vec<String> = host
        .engine
        .with(|world| world.builds.iter().map(|(function, _)| function.clone()).collect());
    assert!(builds[..3].contains(&"one".to_owned()), "{builds:?}");
    let many: Vec<_> = builds.iter().filter(|name| *name != "one").cloned().collect();
    assert_eq!(many, (0..10).map(|n| format!("many{n}")).collect::<Vec<_>>());
}

#[test]
fn a_tenant_makes_no_more_calls_at_once_than_it_may() {
    let host = TestHost::new();
    let (acme, other) = (host.client("acme"), host.client("other"));
    acme.create("f");
    other.create("f");
    host.limit("acme", |quota| quota.concurrency = 2);
    let busy: Vec<_> = (0..2).map(|_| acme.invoke_aside("f", json!({ "wait": "gate" }))).collect();
    host.engine.wait("both are called", |world| world.waiting.len() == 2);
    let refused = acme.invoke("f", &json!({})).expect(429);
    assert_eq!(refused.error(), "TooManyRequestsException");
    assert_eq!(refused.json()["Reason"], "ConcurrentInvocationLimitExceeded");
    assert_ne!(refused.header("retry-after"), "");
    other.invoke("f", &json!({})).expect(200);
    host.engine.open("gate");
    busy.into_iter().for_each(|call| drop(call.join().unwrap().expect(200)));
    acme.invoke("f", &json!({})).expect(200);
    assert_eq!(host.engine.with(|world| world.calls.len()), 4, "a refused call was made");
}

#[test]
fn what_is_reserved_for_a_function_is_kept_from_others_and_is_all_it_gets() {
    let host = TestHost::new();
    let acme = host.client("acme");
    acme.create("kept");
    acme.create("common");
    host.limit("acme", |quota| quota.concurrency = 3);
    let reserve = |count: u32| {
        let body = json!({ "ReservedConcurrentExecutions": count });
        acme.json("PUT", "/2017-10-31/functions/kept/concurrency", &body)
    };
    assert_eq!(reserve(4).expect(400).error(), "InvalidParameterValueException");
    reserve(1).expect(200);
    let common: Vec<_> =
        (0..2).map(|_| acme.invoke_aside("common", json!({ "wait": "gate" }))).collect();
    host.engine.wait("both are called", |world| world.waiting.len() == 2);
    acme.invoke("common", &json!({})).expect(429);
    // One after the other, each finds the share free.
    for _ in 0..50 {
        acme.invoke("kept", &json!({})).expect(200);
    }
    let kept = acme.invoke_aside("kept", json!({ "wait": "gate" }));
    host.engine.wait("it is called", |world| world.waiting.len() == 3);
    let refused = acme.invoke("kept", &json!({})).expect(429);
    assert!(refused.json()["Message"].as_str().unwrap().contains("reserved"));
    let reason = "ReservedFunctionConcurrentInvocationLimitExceeded";
    assert_eq!(refused.json()["Reason"], reason);
    host.engine.open("gate");
    kept.join().unwrap().expect(200);
    common.into_iter().for_each(|call| drop(call.join().unwrap().expect(200)));
    // Nothing is reserved: nothing is called.
    reserve(0).expect(200);
    acme.invoke("kept", &json!({})).expect(429);
}

#[test]
fn a_tenant_makes_no_more_calls_a_second_than_it_may() {
    let host = TestHost::new();
    let (acme, other) = (host.client("acme"), host.client("other"));
    acme.create("f");
    other.create("f");
    // A burst of as many, then three a second.
    host.limit("acme", |quota| quota.rate = 3);
    let began = std::time::Instant::now();
    let statuses: Vec<u16> = (0..30).map(|_| acme.invoke("f", &json!({})).status).collect();
    let most = 3 + began.elapsed().as_secs() * 3 + 3;
    let served = statuses.iter().filter(|status| **status == 200).count() as u64;
    assert!(statuses[..3].iter().all(|status| *status == 200), "{statuses:?}");
    assert!(served <= most && served < 30, "{served} of 30 in {:?}", began.elapsed());
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    other.invoke("f", &json!({})).expect(200);
    host.limit("acme", |quota| quota.rate = 0);
    let refused = acme.invoke("f", &json!({})).expect(429);
    assert_eq!(refused.json()["Reason"], "CallerRateLimitExceeded");
    assert_eq!((refused.error(), refused.header("retry-after")), ("TooManyRequestsException", "1"));
    let calls = host.engine.with(|world| world.calls.len()) as u64;
    assert_eq!(calls, served + 1, "a refused call was made");
}

#[test]
fn a_tenants_machines_take_no_more_memory_than_they_may() {
    let host = TestHost::with(|s| s.patience = std::time::Duration::from_millis(50));
    let (acme, other) = (host.client("acme"), host.client("other"));
    acme.create("f");
    other.create("f");
    host.limit("acme", |quota| quota.memory_mib = 200);
    let busy = acme.invoke_aside("f", json!({ "wait": "gate" }));
    host.engine.wait_for_call_at("gate");
    let refused = acme.invoke("f", &json!({})).expect(429);
    assert_eq!(refused.json()["Reason"], "ConcurrentInvocationLimitExceeded");
    other.invoke("f", &json!({})).expect(200);
    host.engine.open("gate");
    busy.join().unwrap().expect(200);
}
