//! A full disk: what cannot be kept is refused with the reason, what was acknowledged is kept, and with room again all goes on.
//!
//! The disk is a tmpfs of its own: mounting it takes root, without which these tests fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in the functions that the tests are made of"
)]

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use calve_manager::engine::BuildFailure;
use common::{Client, Reply, TestHost};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

/// A small tmpfs, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = Some("size=8m,mode=700");
        mount(Some("none"), folder.path(), Some("tmpfs"), MsFlags::empty(), data)
            .expect("mounting a disk that can be full takes root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that there is.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        for piece in [64 << 10, 4096, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

fn host(disk: &SmallDisk) -> (TestHost, Client) {
    let host = TestHost::with(|settings| settings.data = disk.path().join("data"));
    let client = host.client("acme");
    client.create("f");
    (host, client)
}

/// It is refused because the disk is full, and clients will try again.
fn assert_full(refused: &Reply) {
    let seen = (refused.status, refused.error());
    assert_eq!(seen, (503, "ServiceException"));
    assert!(refused.json()["Message"].as_str().unwrap().contains("disk is full"));
    assert_ne!(refused.header("retry-after"), "");
}

fn event(client: &Client, n: usize) -> Reply {
    // Large enough that the log of the ledger has to grow.
    let event = json!({ "n": n, "padding": "x".repeat(100_000) });
    client.invoke_with("f", &event, &[("x-amz-invocation-type", "Event")])
}

#[test]
fn what_a_full_disk_has_no_room_for_is_refused_and_nothing_else_is_lost() {
    let disk = SmallDisk::new();
    let (host, client) = host(&disk);
    // What is on its way when the disk becomes full.
    client.invoke_later("f", &json!({ "n": "early", "wait": "gate" }));
    host.engine.wait_for_call_at("gate");
    let filler = disk.fill();
    let mut accepted = BTreeSet::new();
    let refused = (0..1000).map(|n| (n, event(&client, n))).find_map(|(n, reply)| {
        if reply.status == 202 {
            accepted.insert(n);
        }
        (reply.status != 202).then_some(reply)
    });
    assert_full(&refused.expect("the disk is never full"));
    assert_full(&client.create_with("g", "another", &json!({})));
    assert_full(&client.json("POST", "/2015-03-31/functions/f/versions", &json!({})));
    client.get("/2015-03-31/functions/g").expect(404);
    // What needs no disk goes on.
    client.invoke("f", &json!({})).expect(200);
    // Its outcome cannot be taken down now: it is not made again for that.
    host.engine.open("gate");
    host.engine.wait("it is called", |world| world.waiting.is_empty());

    std::fs::remove_file(filler).unwrap();
    let queue = "/calve/v1/functions/f/queue";
    client.poll(queue, "all are done", |queue| queue["waiting"] == 0);
    let done = host.engine.with(|world| world.done.clone());
    let early = done.iter().filter(|event| event["n"] == "early").count();
    assert_eq!(early, 1);
    let called: BTreeSet<usize> = done
        .iter()
        .filter_map(|event| event["n"].as_u64())
        .map(|n| usize::try_from(n).unwrap())
        .collect();
    assert_eq!(called, accepted);
    event(&client, 1001).expect(202);
    client.create_with("g", "another", &json!({})).expect(201);
    client.wait_until_active("g");
    client.json("POST", "/2015-03-31/functions/f/versions", &json!({})).expect(201);
}

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut_at_a_full_disk() {
    let disk = SmallDisk::new();
    let (host, client) = host(&disk);
    host.engine.with(|world| world.hold_starts = true);
    let accept = |n: usize| event(&client, n).status == 202;
    assert!((0..5).all(accept));
    disk.fill();
    let accepted = 5 + (5..1000).take_while(|n| accept(*n)).count() as u64;
    let next = host.reborn(host.engine.clone());
    host.engine.with(|world| world.hold_starts = false);
    let client = Client { addr: next.addr, ..client };
    client.get("/2015-03-31/functions/f").expect(200);
    client.poll("/calve/v1/functions/f/queue", "all are done", |queue| queue["done"] == accepted);
}

#[test]
fn a_build_that_finds_no_room_is_made_when_there_is_some() {
    let host = TestHost::new();
    let client = host.client("acme");
    let failure = BuildFailure { code: BuildFailure::NO_SPACE.into(), reason: "full".into() };
    host.engine.with(|world| world.failure = Some(failure));
    client.create_with("f", "one", &json!({})).expect(201);
    host.engine.wait("it is tried again", |world| world.builds.len() > 1);
    let configuration = client.get("/2015-03-31/functions/f/configuration").expect(200).json();
    assert_eq!(configuration["State"], "Pending");
    host.engine.with(|world| world.failure = None);
    client.wait_until_active("f");
    client.invoke("f", &json!({})).expect(200);
}
