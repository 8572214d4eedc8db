//! Files that are dropped.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;

use super::*;

const DROP: &str = r#"{"kind":"file-drop","folder":"inbox"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_files_are_a_thousand_messages() {
    let host = Host::new();
    host.add(DROP);
    let sources = Sources::start(host.events.clone()).unwrap();
    let threads: Vec<_> = (0..10)
        .map(|thread| {
            let inbox = host.inbox();
            std::thread::spawn(move || {
                for number in 0..100 {
                    write(&inbox, &format!("{thread}-{number}"), "content");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    host.wait_for(1000).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    sources.stop().await;
    let keys: BTreeSet<String> = host.bodies().iter().map(key).collect();
    assert_eq!((host.waiting(), keys.len()), (1000, 1000));
    assert_eq!((count(&host.inbox()), count(&host.inbox().join(".done"))), (0, 1000));
}

#[tokio::test]
async fn tells_of_a_file_what_s3_does() {
    let host = Host::new();
    let live = host.add(r#"{"kind":"file-drop","folder":"inbox","inline":true}"#);
    let sources = Sources::start(host.events.clone()).unwrap();
    write(&host.inbox(), "a b.txt", "hello");
    host.wait_for(1).await;
    sources.stop().await;
    let body = host.bodies().remove(0);
    let record = &body["Records"][0];
    assert_eq!(record["eventSource"], "calve:file");
    assert_eq!(record["account"], "111111111110");
    assert_eq!(record["functionArn"], "arn:aws:lambda:eu-central-1:111111111110:function:f");
    let object = &record["s3"]["object"];
    assert_eq!((object["key"].as_str(), object["size"].as_u64()), (Some("a+b.txt"), Some(5)));
    assert_eq!(object["content"], "aGVsbG8=");
    let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(object["eTag"], sum);
    assert_eq!(host.messages()[0].source, live.source.id);
}

#[tokio::test]
async fn a_half_written_file_is_not_taken() {
    let host = Host::new();
    // One is being written before anybody watches.
    std::fs::create_dir_all(host.inbox()).unwrap();
    let mut before = File::create(host.inbox().join("before")).unwrap();
    before.write_all(b"half").unwrap();
    host.add(DROP);
    let sources = Sources::start(host.events.clone()).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut after = File::create(host.inbox().join("after")).unwrap();
    after.write_all(b"half").unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(host.waiting(), 0);
    for file in [&mut before, &mut after] {
        file.write_all(b" and half").unwrap();
    }
    drop((before, after));
    write(&host.folder.path().join("files/a"), "elsewhere", "whole");
    std::fs::rename(host.files().join("a/elsewhere"), host.inbox().join("moved")).unwrap();
    host.wait_for(3).await;
    sources.stop().await;
    let sizes: BTreeSet<u64> = host
        .bodies()
        .iter()
        .map(|body| body["Records"][0]["s3"]["object"]["size"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, BTreeSet::from([5, 13]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_lose_none_and_double_none() {
    let mut host = Host::new();
    host.add(DROP);
    let inbox = host.inbox();
    let writer = std::thread::spawn(move || {
        for number in 0..400 {
            write(&inbox, &number.to_string(), "content");
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    for _ in 0..5 {
        let sources = Sources::start(host.events.clone()).unwrap();
        tokio::time::sleep(Duration::from_millis(120)).await;
        // Not stopped: as if killed, but for the thread that is at it.
        drop(sources);
        tokio::time::sleep(Duration::from_millis(60)).await;
        host.reopen();
    }
    writer.join().unwrap();
    let sources = Sources::start(host.events.clone()).unwrap();
    host.wait_for(400).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    sources.stop().await;
    let keys: BTreeSet<String> = host.bodies().iter().map(key).collect();
    assert_eq!((host.waiting(), keys.len(), count(&host.inbox())), (400, 400, 0));
}

/// What is killed between message and move only moves, though the message may have been done with.
#[tokio::test]
async fn a_file_that_was_not_moved_is_not_delivered_again() {
    let mut host = Host::new();
    let live = host.add(DROP);
    let sources = Sources::start(host.events.clone()).unwrap();
    write(&host.inbox(), "x", "content");
    host.wait_for(1).await;
    sources.stop().await;
    assert_ne!(host.ledger.position(&live.source.id).unwrap(), "");
    host.messages().iter().for_each(|message| host.ledger.acknowledge(&message.id).unwrap());
    std::fs::rename(host.inbox().join(".done/x"), host.inbox().join("x")).unwrap();
    host.reopen();
    let sources = Sources::start(host.events.clone()).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    sources.stop().await;
    assert_eq!((host.waiting(), count(&host.inbox())), (0, 0));
}

#[tokio::test]
async fn files_that_stay_are_remembered_by_version() {
    let mut host = Host::new();
    host.add(r#"{"kind":"file-drop","folder":"inbox","keep":true}"#);
    let sources = Sources::start(host.events.clone()).unwrap();
    write(&host.inbox(), "x", "one");
    host.wait_for(1).await;
    sources.stop().await;
    host.messages().iter().for_each(|message| host.ledger.acknowledge(&message.id).unwrap());
    host.reopen();
    let sources = Sources::start(host.events.clone()).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((host.waiting(), count(&host.inbox())), (0, 1));
    let mut file = OpenOptions::new().append(true).open(host.inbox().join("x")).unwrap();
    file.write_all(b" and two").unwrap();
    drop(file);
    host.wait_for(1).await;
    sources.stop().await;
}

#[tokio::test]
async fn what_is_done_does_not_replace_what_was() {
    let host = Host::new();
    host.add(DROP);
    let sources = Sources::start(host.events.clone()).unwrap();
    for number in 1..=3 {
        write(&host.inbox(), "x", &number.to_string());
        host.wait_for(number).await;
    }
    sources.stop().await;
    assert_eq!(count(&host.inbox().join(".done")), 3);
}

#[tokio::test]
async fn a_disabled_source_delivers_nothing() {
    let host = Host::new();
    let live = host.add(DROP);
    let sources = Sources::start(host.events.clone()).unwrap();
    host.set_enabled(&live, false);
    write(&host.inbox(), "x", "content");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!((host.waiting(), count(&host.inbox())), (0, 1));
    host.set_enabled(&live, true);
    host.wait_for(1).await;
    sources.stop().await;
}

#[tokio::test]
async fn a_source_waits_while_its_function_has_too_much_to_do() {
    let host = Host::new();
    host.add(DROP);
    let queue = host.add(r#"{"kind":"queue","name":"q"}"#);
    for _ in 0..2 {
        host.events.put(&caller("a"), "q", vec![Value::Null; 10_000]).unwrap_or_default();
        host.events.put(&caller("a"), "q", vec![Value::Null; 1]).unwrap_or_default();
    }
    let full = host.waiting();
    assert_eq!(full, 10_001);
    let sources = Sources::start(host.events.clone()).unwrap();
    write(&host.inbox(), "x", "content");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(host.waiting(), full);
    let some = host.messages().into_iter().filter(|message| message.source == queue.source.id);
    some.take(100).for_each(|message| host.ledger.acknowledge(&message.id).unwrap());
    host.wait_for(full - 99).await;
    sources.stop().await;
    assert_eq!(count(&host.inbox()), 0);
}

fn key(body: &Value) -> String {
    body["Records"][0]["s3"]["object"]["key"].as_str().unwrap().to_owned()
}
