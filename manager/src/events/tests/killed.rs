//! A host that is killed, in a process of its own, while files come and messages are done with.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::ledger::SqliteLedger;

/// Where the process that is to be killed finds its host.
const FOLDER: &str = "CALVE_TEST_EVENTS_FOLDER";

/// Not a test: what the other process runs.
#[tokio::test]
#[ignore = "a process of its own, run by another test"]
async fn host_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let ledger = Arc::new(SqliteLedger::open(&folder.join("ledger")).unwrap());
    let events = open(&folder, &ledger, &Arc::default(), Arc::new(crate::clock::now));
    let _sources = Sources::start(events).unwrap();
    std::future::pending::<()>().await;
}

pub(super) fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "events::tests::killed::host_that_is_killed"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Leases what there is and is done with it at once: what is delivered twice is seen twice. How often each file was.
fn serve(ledger: &SqliteLedger, seen: &mut BTreeMap<String, u32>) {
    for message in ledger.lease(u64::MAX >> 2, u64::MAX >> 1, 100).unwrap() {
        let event: Value = serde_json::from_slice(&message.event).unwrap();
        let key = event["Records"][0]["s3"]["object"]["key"].as_str().unwrap().to_owned();
        *seen.entry(key).or_default() += 1;
        ledger.acknowledge(&message.id).unwrap();
    }
}

#[test]
fn every_file_is_one_message_however_often_the_host_is_killed() {
    let host = Host::new();
    host.add(r#"{"kind":"file-drop","folder":"inbox"}"#);
    let inbox = host.inbox();
    let writer = std::thread::spawn(move || {
        for number in 0..1500 {
            write(&inbox, &number.to_string(), "content");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let mut seen = BTreeMap::new();
    for round in 0..12 {
        let mut process = start(host.folder.path());
        for _ in 0..8 + round {
            std::thread::sleep(Duration::from_millis(20));
            serve(&host.ledger, &mut seen);
        }
        process.kill().unwrap();
        process.wait().unwrap();
    }
    writer.join().unwrap();
    let before = seen.len();
    let mut process = start(host.folder.path());
    for _ in 0..2400 {
        serve(&host.ledger, &mut seen);
        if seen.len() == 1500 && count(&host.inbox()) == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    serve(&host.ledger, &mut seen);
    assert!(before > 0, "all hosts were killed before they did anything");
    assert_eq!((seen.len(), count(&host.inbox())), (1500, 0));
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
}
