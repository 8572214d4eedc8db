//! What a host removes by itself: what its functions stood on, once none does.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use common::TestHost;
use serde_json::json;

#[test]
fn what_was_counted_of_a_function_goes_with_it() {
    let host = TestHost::new();
    let client = host.client("acme");
    let queue = "/calve/v1/functions/f/queue";
    let top = || client.get("/calve/v1/top").expect(200).json()["functions"].clone();
    for name in ["f", "g"] {
        client.create(name);
        client.invoke_later(name, &json!({}));
    }
    client.poll(queue, "it is done", |queue| queue["done"] == 1);
    host.host().sweep();
    assert_eq!(client.get(queue).expect(200).json()["done"], 1);
    client.request("DELETE", "/2015-03-31/functions/f", &[], b"").expect(204);
    host.host().sweep();
    client.create("f");
    assert_eq!(client.get(queue).expect(200).json()["done"], 0);
    assert!(top().as_array().unwrap().iter().all(|function| function["name"] != "f"), "{}", top());
}

#[test]
fn a_runtime_goes_with_the_last_version_on_it_and_not_before() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    client.create_with("large", "one", &json!({ "MemorySize": 256 })).expect(201);
    client.wait_until_active("large");
    let sizes = || {
        host.host().sweep();
        let bases = host.engine.with(|world| world.bases.keys().cloned().collect::<Vec<_>>());
        bases.into_iter().map(|(_, memory)| memory).collect::<Vec<_>>()
    };
    assert_eq!(sizes(), [128, 256]);
    let delete = |name: &str| {
        let path = format!("/2015-03-31/functions/{name}");
        client.request("DELETE", &path, &[], b"").expect(204);
    };
    delete("large");
    host.engine.wait("its snapshot is removed", |world| world.snapshots.len() == 1);
    assert_eq!(sizes(), [128]);

    // One that a build is about to stand on stays, though no snapshot does.
    delete("f");
    host.engine.wait("its snapshot is removed", |world| world.snapshots.is_empty());
    host.engine.with(|world| world.hold_builds = true);
    client.create_with("g", "one", &json!({})).expect(201);
    assert_eq!(sizes(), [128]);
    host.engine.with(|world| world.hold_builds = false);
    client.wait_until_active("g");
    assert_eq!(sizes(), [128]);
    delete("g");
    host.engine.wait("its snapshot is removed", |world| world.snapshots.is_empty());
    assert_eq!(sizes(), [0; 0]);
}
