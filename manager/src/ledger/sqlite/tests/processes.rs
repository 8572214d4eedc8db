//! Other processes with the same file: several at work, and one that is killed in the middle of it.
//!
//! The other process is this test binary, run again for the test [`child`] alone.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use super::*;

/// The ledger that the child is to write to.
const LEDGER: &str = "CALVE_TEST_LEDGER";
/// What its ids begin with.
const PREFIX: &str = "CALVE_TEST_PREFIX";
/// How many messages each of its threads takes in.
const COUNT: &str = "CALVE_TEST_COUNT";
/// Its threads.
const THREADS: u32 = 3;

/// Takes messages in and prints the id of each that is taken.
#[test]
#[ignore = "a process of its own, run by another test"]
fn child() {
    let Some(path) = std::env::var_os(LEDGER) else { return };
    let prefix = std::env::var(PREFIX).unwrap();
    let count: u32 = std::env::var(COUNT).unwrap().parse().unwrap();
    let ledger = SqliteLedger::open(Path::new(&path)).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ledger, prefix) = (&ledger, &prefix);
            scope.spawn(move || {
                for n in 0..count {
                    let id = format!("{prefix}-{thread}-{n}");
                    ledger.enqueue(&message(&id, 1)).unwrap();
                    println!("taken {id}.");
                }
            });
        }
    });
}

fn spawn(path: &Path, prefix: &str, count: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "ledger::sqlite::tests::processes::child", "--nocapture"])
        .env(LEDGER, path)
        .env(PREFIX, prefix)
        .env(COUNT, count.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The id in a line of the child's, which the test harness may have begun and a kill may have ended.
fn taken(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("taken ")?;
    Some(rest.split_once('.')?.0.to_owned())
}

#[test]
fn what_was_taken_in_survives_a_kill() {
    let (directory, ledger) = ledger();
    let path = directory.path().join("ledger");
    let mut acknowledged = BTreeSet::new();
    for (round, lines) in [1, 10, 60].into_iter().enumerate() {
        let mut child = spawn(&path, &round.to_string(), u32::MAX);
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let before = output.by_ref().map_while(Result::ok).filter_map(|line| taken(&line));
        acknowledged.extend(before.take(lines));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        acknowledged.extend(output.map_while(Result::ok).filter_map(|line| taken(&line)));
    }
    assert!(acknowledged.len() >= 71);

    for ledger in [ledger, SqliteLedger::open(&path).unwrap()] {
        ledger.release_all().unwrap();
        let there = ledger.lease(1, 2, usize::MAX).unwrap();
        let there: BTreeSet<_> = there.into_iter().map(|message| message.id).collect();
        assert!(there.is_superset(&acknowledged));
        // Each thread may have been killed between taking one in and saying so.
        assert!(there.len() <= acknowledged.len() + 3 * THREADS as usize);
        let writer = lock(&ledger.writer);
        let sound: String =
            writer.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
    }
}

#[test]
fn two_processes_and_this_one_share_the_file() {
    let (directory, ledger) = ledger();
    let path = directory.path().join("ledger");
    let children = ["a", "b"].map(|prefix| spawn(&path, prefix, 20));
    let expected = 2 * THREADS as usize * 20;
    let mut leased = Vec::new();
    let started = std::time::Instant::now();
    while leased.len() < expected && started.elapsed().as_secs() < 60 {
        for message in ledger.lease(1, 2, 5).unwrap() {
            ledger.acknowledge(&message.id).unwrap();
            leased.push(message.id);
        }
    }
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(leased.len(), expected);
    assert_eq!(leased.iter().collect::<BTreeSet<_>>().len(), expected);
    assert_eq!(ledger.next_due().unwrap(), None);
}

#[test]
fn threads_that_open_the_same_new_file_agree() {
    let directory = tempfile::tempdir().unwrap();
    let path = Arc::new(directory.path().join("ledger"));
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let path = Arc::clone(&path);
            thread::spawn(move || {
                let ledger = SqliteLedger::open(&path).unwrap();
                ledger.put_function(&function("acme", &n.to_string())).unwrap();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(SqliteLedger::open(&path).unwrap().functions().unwrap().len(), 8);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left over");
}
