//! What goes wrong: clients that leave, machines that die, requests that are none, hosts that stop.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use calve_manager::engine::BuildFailure;
use calve_manager::host::{Host, HostError};
use common::{Client, FakeEngine, LONG, Reply, TestHost, invocations};
use serde_json::json;

#[test]
fn a_client_that_leaves_takes_its_machine_with_it() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let before = client.invoke("f", &json!({})).expect(200).machine();
    let event = json!({ "wait": "never" }).to_string();
    let stream = client.send("POST", &invocations("f"), &[], event.as_bytes());
    assert_eq!(host.engine.wait_for_call_at("never"), before);
    drop(stream);
    host.engine.wait("it is killed", |world| world.kills == [before.clone()]);
    host.engine.wait("it is gone", |world| world.machines.is_empty());
    let after = client.invoke("f", &json!({})).expect(200);
    assert_eq!(after.calls(), 1);
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_the_queue() {
    let host = TestHost::with(|settings| settings.machines.machines = 1);
    let client = host.client("acme");
    client.create("f");
    let busy = client.invoke_aside("f", json!({ "wait": "gate" }));
    host.engine.wait_for_call_at("gate");
    let stream = client.send("POST", &invocations("f"), &[], b"{}");
    client.wait_for_machines("it waits", |top| top["waiting"] == 1);
    drop(stream);
    client.wait_for_machines("it waits no more", |top| top["waiting"] == 0);
    host.engine.open("gate");
    busy.join().unwrap().expect(200);
    assert_eq!(host.engine.with(|world| (world.calls.len(), world.kills.len())), (1, 0));
}

#[test]
fn a_machine_that_dies_in_a_call_fails_that_call_alone() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let before = client.invoke("f", &json!({})).expect(200).machine();
    let failed = client.invoke("f", &json!({ "die": true })).expect(500);
    assert_eq!(failed.error(), "ServiceException");
    let after = client.invoke("f", &json!({})).expect(200);
    assert_ne!(after.machine(), before);
    assert_eq!(after.calls(), 1);

    let silent = client.invoke("f", &json!({ "silent": true })).expect(504);
    assert_eq!(silent.error(), "ServiceException");
    assert_ne!(client.invoke("f", &json!({})).expect(200).machine(), after.machine());

    host.engine.with(|world| {
        world.fail_starts = 1;
        world.machines.values_mut().for_each(|ended| *ended = true);
    });
    assert_eq!(client.invoke("f", &json!({})).expect(500).error(), "ServiceException");
    client.invoke("f", &json!({})).expect(200);
}

#[test]
fn what_a_function_prints_comes_with_the_answer_if_it_is_wanted() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let event = json!({ "print": "hello" });
    let reply = client.invoke_with("f", &event, &[("x-amz-log-type", "Tail")]).expect(200);
    assert_eq!(reply.header("x-amz-log-result"), "aGVsbG8=");
    assert_eq!(client.invoke("f", &event).expect(200).header("x-amz-log-result"), "");
}

#[test]
fn two_thousand_connections_at_once_each_get_an_answer() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Both ends are in this process.
    setrlimit(Resource::RLIMIT_NOFILE, most.min(8192), most).unwrap();
    let host = TestHost::with(|settings| {
        settings.machines.machines = 64;
        settings.machines.waiting = 4000;
        settings.patience = LONG;
    });
    let client = host.client("acme");
    host.limit("acme", |quota| {
        (quota.rate, quota.concurrency) = (1_000_000, 4000);
    });
    client.create_kept("f", "keep");
    // Sent at once: a server that has more to do than the test must not take them for idle.
    let event = |n: usize| json!({ "n": n, "wait": "gate" });
    let connect =
        |n: usize| client.send("POST", &invocations("f"), &[], event(n).to_string().as_bytes());
    let mut streams: Vec<TcpStream> = (0..2000).map(connect).collect();
    client.wait_for_machines("all are under way", |top| {
        top["waiting"].as_u64().unwrap() + top["machines"]["busy"].as_u64().unwrap() == 2000
    });
    host.engine.open("gate");
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(Reply::read(stream).expect(200).json()["event"], event(n));
    }
    assert_eq!(host.engine.with(|world| world.calls.len()), 2000);
}

#[test]
fn half_a_request_is_cut_off_and_holds_up_nobody() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let began = Instant::now();
    let mut slow = TcpStream::connect(host.addr).unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nhost: ca").unwrap();
    for _ in 0..20 {
        client.invoke("f", &json!({})).expect(200);
    }
    slow.set_read_timeout(Some(LONG)).unwrap();
    let mut rest = Vec::new();
    // An answer or none, but an end.
    let _ = slow.read_to_end(&mut rest);
    let took = began.elapsed();
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn what_is_too_large_is_refused() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let event = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let most = 6 << 20;
    let fits = client.request("POST", &invocations("f"), &[], event(most).as_bytes()).expect(200);
    assert_eq!(fits.json()["event"].as_str().unwrap().len(), most - 2);
    let refused = client.request("POST", &invocations("f"), &[], event(most + 1).as_bytes());
    assert_eq!((refused.status, refused.error()), (413, "RequestTooLargeException"));
    // By what it says of its length: nobody waits for it to come.
    let length = [("content-length", "80000000")];
    let mut stream = TcpStream::connect(host.addr).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: calve\r\nconnection: close\r\n{}: {}\r\nauthorization: {}\r\n\r\n",
        invocations("f"),
        length[0].0,
        length[0].1,
        client.bearer
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(Reply::read(&mut stream).expect(413).error(), "RequestTooLargeException");
    assert_eq!(host.engine.with(|world| world.calls.len()), 1);
}

#[test]
fn bodies_that_come_at_the_same_time_are_bounded_together() {
    let host = TestHost::with(|settings| settings.bodies_mib = 1);
    let client = host.client("acme");
    client.create("f");
    let event = format!("\"{}\"", "x".repeat(400_000));
    let ask = || client.request("POST", &invocations("f"), &[], event.as_bytes());
    ask().expect(200);
    let mut hog = TcpStream::connect(host.addr).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: calve\r\ncontent-length: 500000\r\nauthorization: {}\r\n\r\nx",
        invocations("f"),
        client.bearer
    );
    hog.write_all(head.as_bytes()).unwrap();
    let until = Instant::now() + LONG;
    let refused = loop {
        let reply = ask();
        if reply.status != 200 {
            break reply.expect(503);
        }
        assert!(Instant::now() < until, "it is never refused");
    };
    assert_eq!(refused.error(), "ServiceException");
    assert_ne!(refused.header("retry-after"), "");
    // Who sends little, and who is somebody else, is not held up.
    client.invoke("f", &json!({})).expect(200);
    let other = host.client("other");
    other.create("f");
    other.request("POST", &invocations("f"), &[], event.as_bytes()).expect(200);
    drop(hog);
    while ask().status != 200 {
        assert!(Instant::now() < until, "it never has room again");
    }
}

#[test]
fn what_is_no_request_is_refused_in_lambdas_shape() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    for body in ["{", "nonsense", "{\"a\":1}}", "\u{1}"] {
        let refused = client.request("POST", &invocations("f"), &[], body.as_bytes());
        let seen = (refused.status, refused.error());
        assert_eq!(seen, (400, "InvalidRequestContentException"), "{body}");
    }
    let refused = client.request("POST", "/2015-03-31/functions", &[], b"{");
    assert_eq!((refused.status, refused.error()), (400, "InvalidRequestContentException"));
    let refused = client.request("PUT", "/calve/v1/functions/f/policy", &[], b"{\"reuse\":\"no\"}");
    assert_eq!((refused.status, refused.error()), (400, "InvalidRequestContentException"));
    let kind = [("x-amz-invocation-type", "Sometimes")];
    let refused = client.invoke_with("f", &json!({}), &kind).expect(400);
    assert_eq!(refused.error(), "InvalidParameterValueException");
    for (method, path) in [
        ("GET", "/nothing"),
        ("GET", "/2015-03-31/nothing"),
        ("POST", "/calve/v2/functions"),
        ("GET", "/2015-03-31/functions/f/invocations/more"),
    ] {
        let refused = client.request(method, path, &[], b"");
        assert_eq!((refused.status, refused.error()), (404, "ResourceNotFoundException"), "{path}");
    }
    assert_eq!(host.engine.with(|world| world.calls.len()), 0);
    // An empty event is an empty object, and dry runs run nothing.
    let reply = client.request("POST", &invocations("f"), &[], b"").expect(200);
    assert_eq!(reply.json()["event"], json!({}));
    client.invoke_with("f", &json!({}), &[("x-amz-invocation-type", "DryRun")]).expect(204);
    assert_eq!(host.engine.with(|world| world.calls.len()), 1);
}

#[test]
fn paths_queries_and_methods_that_make_no_sense_are_refused_in_lambdas_shape() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    for (method, path, status) in [
        ("POST", "/2015-03-31/functions/f/invocations?Qualifier=1&Qualifier=2", 400),
        ("POST", "/2015-03-31/functions/%ff/invocations", 400),
        ("GET", "/2015-03-31/functions/%ff", 400),
        ("GET", "/calve/v1/functions/%ff/policy", 400),
        ("GET", "/calve/v1/top?tenant=a&tenant=b", 400),
        ("GET", "/2015-03-31/functions/f/invocations", 405),
        ("PATCH", "/2015-03-31/functions/f", 405),
        ("DELETE", "/calve/v1/functions/f/policy", 405),
    ] {
        let refused = client.request(method, path, &[], b"");
        assert_eq!(refused.status, status, "{method} {path}");
        assert_ne!(refused.error(), "", "{method} {path}");
    }
}

#[test]
fn nobody_gets_anywhere_without_a_key_but_to_health() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let stranger = client.stranger();
    let wrong = Client { bearer: format!("{}x", client.bearer), ..client.clone() };
    let unknown = Client { bearer: "Bearer AKIAAAAAAAAAAAAAAAAA:x".into(), ..client.clone() };
    for (method, path) in [
        ("GET", "/nothing"),
        ("GET", "/metrics"),
        ("GET", "/2015-03-31/functions"),
        ("POST", "/2015-03-31/functions"),
        ("GET", "/2015-03-31/functions/f"),
        ("DELETE", "/2015-03-31/functions/f"),
        ("PUT", "/2015-03-31/functions/f/code"),
        ("POST", "/2015-03-31/functions/f/invocations"),
        ("POST", "/2014-11-13/functions/f/invoke-async/"),
        ("GET", "/2016-08-19/account-settings"),
        ("GET", "/calve/v1/functions/f/code"),
        ("PUT", "/calve/v1/functions/f/policy"),
        ("GET", "/calve/v1/functions/f/queue"),
        ("GET", "/calve/v1/functions/f/dead-letters"),
        ("GET", "/calve/v1/invocations"),
        ("GET", "/calve/v1/top"),
        ("GET", "/calve/v1/events"),
    ] {
        for who in [&stranger, &wrong, &unknown] {
            let refused = who.request(method, path, &[], b"{}");
            assert_eq!(refused.status, 403, "{method} {path}");
            assert_ne!(refused.error(), "", "{method} {path}");
        }
    }
    assert_eq!(stranger.get("/healthz").expect(200).body, b"ok\n");
    assert_eq!(stranger.get("/readyz").expect(200).body, b"ready\n");
    client.get("/2015-03-31/functions/f").expect(200);
    assert_eq!(host.engine.with(|world| world.calls.len()), 0);
}

#[test]
fn a_key_that_is_removed_opens_nothing_any_more() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.get("/2015-03-31/functions").expect(200);
    let id = client.bearer.strip_prefix("Bearer ").unwrap().split(':').next().unwrap().to_owned();
    assert!(host.host().keyring().remove_key(&id).unwrap());
    client.get("/2015-03-31/functions").expect(403);
}

#[test]
fn a_host_that_drains_finishes_what_it_has_and_takes_no_more() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create_kept("f", "keep");
    let busy = client.invoke_aside("f", json!({ "wait": "gate" }));
    host.engine.wait_for_call_at("gate");
    let draining = host.host().clone();
    let (drained, client) = host.run(async {
        let drained = tokio::spawn(async move { draining.drain(LONG).await });
        while !host.host().is_draining() {
            tokio::task::yield_now().await;
        }
        (drained, client)
    });
    let refused = client.invoke("f", &json!({})).expect(503);
    assert_eq!(refused.error(), "ServiceException");
    assert_ne!(refused.header("retry-after"), "");
    assert_eq!(client.get("/readyz").status, 503);
    client.get("/healthz").expect(200);
    assert!(!drained.is_finished(), "a call is under way");
    host.engine.open("gate");
    busy.join().unwrap().expect(200);
    assert!(host.run(drained).unwrap(), "not all are done");
    assert_eq!(host.engine.with(|world| world.calls.len()), 1);
}

#[test]
fn a_server_that_is_told_to_stop_answers_the_calls_under_way_and_returns() {
    let mut host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let busy = client.invoke_aside("f", json!({ "wait": "gate" }));
    host.engine.wait_for_call_at("gate");
    let mut idle = TcpStream::connect(host.addr).unwrap();
    host.begin_to_stop();
    // It lets go of its port first: whoever comes now is sent away at once.
    let until = Instant::now() + LONG;
    while TcpStream::connect(host.addr).is_ok() {
        assert!(Instant::now() < until, "it still takes connections");
    }
    host.engine.open("gate");
    busy.join().unwrap().expect(200);
    host.wait_until_served();
    idle.set_read_timeout(Some(LONG)).unwrap();
    let _ = idle.shutdown(Shutdown::Write);
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest);
    assert_eq!(rest, b"");
}

#[test]
fn two_hosts_do_not_serve_one_folder() {
    let mut host = TestHost::new();
    let settings = common::settings(host.data());
    let open = |host: &TestHost| {
        host.run(async { Host::open(settings.clone(), Arc::new(FakeEngine::default())) })
    };
    match open(&host).err() {
        Some(HostError::Taken(path)) => assert_eq!(path, host.data()),
        other => panic!("{other:?}"),
    }
    let client = host.client("acme");
    client.create("f");
    client.invoke("f", &json!({})).expect(200);
    host.stop();
    let next = TestHost::on(host.data(), host.engine.clone());
    assert!(matches!(open(&next).err(), Some(HostError::Taken(_))));
}

#[test]
fn a_function_that_cannot_be_built_says_why() {
    let host = TestHost::new();
    let client = host.client("acme");
    let failure = BuildFailure { code: "FunctionError".into(), reason: "no such module".into() };
    host.engine.with(|world| world.failure = Some(failure));
    client.create_with("f", "one", &json!({})).expect(201);
    let configuration = client.wait_until_settled("f");
    assert_eq!(configuration["State"], "Failed");
    assert_eq!(configuration["StateReasonCode"], "FunctionError");
    assert_eq!(configuration["StateReason"], "no such module");
    let refused = client.invoke("f", &json!({})).expect(409);
    assert!(refused.json()["Message"].as_str().unwrap().contains("no such module"));
    assert_eq!(refused.error(), "ResourceConflictException");

    // Other code is another try.
    host.engine.with(|world| world.failure = None);
    client.update_code("f", "two").expect(200);
    client.wait_until_active("f");
    assert_eq!(client.invoke("f", &json!({})).expect(200).json()["code"], "two");
}

#[test]
fn an_update_that_cannot_be_built_leaves_the_code_of_before() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let failure = BuildFailure { code: "FunctionError".into(), reason: "it raised".into() };
    host.engine.with(|world| world.failure = Some(failure));
    client.update_code("f", "two").expect(200);
    let configuration = client.wait_until_settled("f");
    assert_eq!(configuration["State"], "Active");
    assert_eq!(configuration["LastUpdateStatus"], "Failed");
    assert_eq!(configuration["LastUpdateStatusReason"], "it raised");
    assert_eq!(client.invoke("f", &json!({})).expect(200).json()["code"], "one");
}

#[test]
fn a_function_cannot_be_called_before_it_is_built() {
    let host = TestHost::new();
    let client = host.client("acme");
    host.engine.with(|world| world.hold_builds = true);
    let made = client.create_with("f", "one", &json!({})).expect(201).json();
    assert_eq!((&made["State"], &made["StateReasonCode"]), (&json!("Pending"), &json!("Creating")));
    let refused = client.invoke("f", &json!({})).expect(409);
    assert_eq!(refused.error(), "ResourceConflictException");
    assert_eq!(client.update_code("f", "two").expect(409).error(), "ResourceConflictException");
    host.engine.with(|world| world.hold_builds = false);
    client.wait_until_active("f");
    client.invoke("f", &json!({})).expect(200);
}

#[test]
fn a_function_that_is_deleted_while_it_is_built_leaves_nothing() {
    let host = TestHost::new();
    let client = host.client("acme");
    host.engine.with(|world| world.hold_builds = true);
    client.create_with("f", "one", &json!({})).expect(201);
    host.engine.wait("it is being built", |world| world.held == 1);
    client.request("DELETE", "/2015-03-31/functions/f", &[], b"").expect(204);
    host.engine.with(|world| world.hold_builds = false);
    host.engine.wait("what was built is removed", |world| {
        world.removed.len() == 1 && world.snapshots.is_empty()
    });
    client.get("/2015-03-31/functions/f").expect(404);
    assert_eq!(host.host().control().codes().used("acme"), 0);
}

#[test]
fn builds_go_on_beside_one_that_takes_long() {
    let host = TestHost::new();
    let client = host.client("acme");
    host.engine.with(|world| world.slow = Some("slow".into()));
    client.create_with("slow", "one", &json!({})).expect(201);
    host.engine.wait("it is being built", |world| world.held == 1);
    client.create_with("quick", "one", &json!({})).expect(201);
    client.wait_until_active("quick");
    let slow = client.get("/2015-03-31/functions/slow/configuration").expect(200).json();
    assert_eq!(slow["State"], "Pending");
}

#[test]
fn what_was_pending_when_the_host_died_is_built_by_the_next() {
    let host = TestHost::new();
    let client = host.client("acme");
    host.engine.with(|world| world.hold_builds = true);
    client.create_with("f", "one", &json!({})).expect(201);
    host.engine.wait("it is being built", |world| world.held == 1);
    let next = host.reborn(FakeEngine::default());
    let client = Client { addr: next.addr, ..client };
    client.wait_until_active("f");
    assert_eq!(client.invoke("f", &json!({})).expect(200).json()["code"], "one");
    assert_eq!(next.engine.with(|world| world.builds.len()), 1);
}

#[test]
fn functions_keys_and_settings_outlive_a_restart() {
    let host = TestHost::new();
    let (client, root) = (host.client("acme"), host.client_of("admin", true));
    host.limit("acme", |quota| quota.functions = 7);
    client.create_kept("f", "keep");
    client.json("POST", "/2015-03-31/functions/f/versions", &json!({})).expect(201);
    client.poll("/2015-03-31/functions/f/configuration?Qualifier=1", "it is built", |seen| {
        seen["State"] == "Active"
    });
    let alias = json!({ "Name": "live", "FunctionVersion": "1" });
    client.json("POST", "/2015-03-31/functions/f/aliases", &alias).expect(201);
    let wanted = json!({ "ProvisionedConcurrentExecutions": 2 });
    let path = "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1";
    client.json("PUT", path, &wanted).expect(202);
    let before = client.get("/2015-03-31/functions/f/configuration").expect(200).json();
    let host = host.restarted();
    let (client, root) = (Client { addr: host.addr, ..client }, Client { addr: host.addr, ..root });
    assert_eq!(client.get("/2015-03-31/functions/f/configuration").expect(200).json(), before);
    assert_eq!(client.get("/calve/v1/functions/f/policy").expect(200).json()["reuse"], "keep");
    root.get("/metrics").expect(200);
    assert_eq!(host.host().keyring().tenant("acme").unwrap().quota.functions, 7);
    client.invoke("f", &json!({})).expect(200);
    client.wait_for_machines("those provisioned are made", |top| top["machines"]["warm"] == 2);
    assert_eq!(client.invoke("f:live", &json!({})).expect(200).header("x-calve-start"), "warm");
    assert_eq!(host.engine.with(|world| world.builds.len()), 2, "nothing is built twice");
}
