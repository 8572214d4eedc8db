//! Snapshots in the store that no version stands for: a host's own are removed, and nobody else's.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use calve_manager::host::ledger_file;
use common::{Client, TestHost};
use serde_json::json;

const DIGEST: &str = "0123456789abcdef0123456789abcdef01234567";

/// A host with a function that can be called, and what its snapshots' names begin with.
fn host() -> (TestHost, Client, String) {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let mine = host.engine.with(|world| {
        let name = world.snapshots.keys().next().unwrap();
        name[..=name.rfind('.').unwrap()].to_owned()
    });
    (host, client, mine)
}

fn put(host: &TestHost, name: &str) {
    host.engine.with(|world| world.snapshots.insert(name.to_owned(), "left".into()));
}

fn has(host: &TestHost, name: &str) -> bool {
    host.engine.with(|world| world.snapshots.contains_key(name))
}

fn delete(client: &Client, name: &str) {
    let path = format!("/2015-03-31/functions/{name}");
    client.request("DELETE", &path, &[], b"").expect(204);
}

#[test]
fn what_no_version_stands_for_goes_and_what_is_not_the_hosts_stays() {
    let (host, client, mine) = host();
    let orphan = format!("{mine}{DIGEST}");
    let others = [
        "hello".to_owned(),
        "fn.hello".to_owned(),
        format!("fn.{DIGEST}"),
        format!("fn.0000000000000000.{DIGEST}"),
        format!("{mine}mine"),
        "runtime.python3.11.128m".to_owned(),
    ];
    others.iter().chain([&orphan]).for_each(|name| put(&host, name));
    host.host().sweep();
    assert!(!has(&host, &orphan));
    for other in &others {
        assert!(has(&host, other), "{other}");
    }
    assert_eq!(client.invoke("f", &json!({})).expect(200).json()["code"], "one");
    assert!(host.engine.with(|world| world.removed.iter().all(|name| *name == orphan)));
}

#[test]
fn what_a_host_that_died_has_left_goes_when_the_next_one_starts() {
    let (host, client, mine) = host();
    client.create("g");
    // Deleted from the ledger, and not from the store.
    host.engine.with(|world| world.keep_snapshots = true);
    delete(&client, "g");
    host.engine.wait("it was tried", |world| world.asked_to_remove == 1);
    // Made, and never written down.
    put(&host, &format!("{mine}{DIGEST}"));
    assert_eq!(host.engine.with(|world| world.snapshots.len()), 3);
    host.engine.with(|world| world.keep_snapshots = false);
    let host = host.restarted();
    host.engine.wait("both are removed", |world| world.snapshots.len() == 1);
    let client = Client { addr: host.addr, ..client };
    client.invoke("f", &json!({})).expect(200);
    assert_eq!(host.engine.with(|world| world.builds.len()), 2, "nothing is built anew");
}

#[test]
fn what_cannot_be_removed_is_tried_again() {
    let (host, client, _) = host();
    host.engine.with(|world| world.keep_snapshots = true);
    delete(&client, "f");
    host.engine.wait("it was tried", |world| world.asked_to_remove == 1);
    host.host().sweep();
    assert!(host.engine.with(|world| world.asked_to_remove > 1 && world.snapshots.len() == 1));
    host.engine.with(|world| world.keep_snapshots = false);
    host.host().sweep();
    assert_eq!(host.engine.with(|world| world.snapshots.len()), 0);
}

#[test]
fn what_is_about_to_be_written_down_stays() {
    let (host, client, _) = host();
    for update in [false, true] {
        host.engine.with(|world| world.hold_checks = true);
        let before = host.engine.with(|world| world.snapshots.len());
        if update {
            client.update_code("g", "two").expect(200);
        } else {
            client.create_with("g", "one", &json!({})).expect(201);
        }
        host.engine.wait("it is in the store", |world| world.snapshots.len() == before + 1);
        host.host().sweep();
        assert_eq!(host.engine.with(|world| world.snapshots.len()), before + 1);
        host.engine.with(|world| world.hold_checks = false);
        client.wait_until_settled("g");
        client.invoke("g", &json!({})).expect(200);
        host.engine.wait("only theirs are left", |world| world.snapshots.len() == 2);
    }
    assert_eq!(client.invoke("g", &json!({})).expect(200).json()["code"], "two");
}

#[test]
fn what_a_build_that_failed_has_left_goes() {
    let (host, client, _) = host();
    host.engine.with(|world| (world.spoil_builds, world.keep_snapshots) = (true, true));
    client.create_with("g", "one", &json!({})).expect(201);
    assert_eq!(client.wait_until_settled("g")["State"], "Failed");
    assert_eq!(host.engine.with(|world| world.snapshots.len()), 2);
    host.engine.with(|world| world.keep_snapshots = false);
    host.host().sweep();
    assert_eq!(host.engine.with(|world| world.snapshots.len()), 1);
    client.invoke("f", &json!({})).expect(200);
}

#[test]
fn nothing_goes_while_the_ledger_cannot_be_read() {
    let (host, client, mine) = host();
    let orphan = format!("{mine}{DIGEST}");
    put(&host, &orphan);
    let ledger = rusqlite::Connection::open(ledger_file(host.data())).unwrap();
    let whole: String =
        ledger.query_row("SELECT document FROM functions", [], |row| row.get(0)).unwrap();
    let write = |text: &str| ledger.execute("UPDATE functions SET document = ?1", [text]).unwrap();
    write("{");
    host.host().sweep();
    assert!(has(&host, &orphan));
    write(&whole);
    host.host().sweep();
    assert!(!has(&host, &orphan));
    client.invoke("f", &json!({})).expect(200);
}

#[test]
fn hosts_that_share_a_store_remove_nothing_of_each_other() {
    let (one, client, _) = host();
    let folder = common::folder();
    let two = TestHost::on(&folder.path().join("data"), one.engine.clone());
    let other = two.client("acme");
    other.create("f");
    // A copy of a host's folder is a host, too, though its ledger has the first one's snapshots.
    let copy = one.reborn(one.engine.clone());
    client.create("of-one");
    for host in [&one, &two, &copy] {
        host.host().sweep();
        assert_eq!(host.engine.with(|world| (world.snapshots.len(), world.removed.len())), (3, 0));
    }
    for (host, function) in [(&one, "f"), (&one, "of-one"), (&copy, "f")] {
        let client = Client { addr: host.addr, ..client.clone() };
        client.invoke(function, &json!({})).expect(200);
    }
    other.invoke("f", &json!({})).expect(200);
}

#[test]
fn a_runtime_goes_with_the_orphans_on_it() {
    let (host, client, _) = host();
    host.engine.with(|world| world.keep_snapshots = true);
    delete(&client, "f");
    host.engine.wait("it was tried", |world| world.asked_to_remove == 1);
    host.engine.with(|world| world.keep_snapshots = false);
    host.host().sweep();
    assert!(host.engine.with(|world| world.bases.is_empty()));
}
