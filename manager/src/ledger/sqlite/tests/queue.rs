//! Messages: who gets which when, with many at once and with very many that wait.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::super::queue::{BACKLOG, DEAD_LETTERS, END_LEASES, LEASE, NEXT_DUE};
use super::*;

#[test]
fn the_oldest_due_is_leased_first() {
    let (_directory, ledger) = ledger();
    for (id, due) in [("late", 30), ("b", 20), ("a", 10), ("c", 20)] {
        ledger.enqueue(&message(id, due)).unwrap();
    }
    assert_eq!(ledger.next_due().unwrap(), Some(10));
    assert_eq!(ids(&ledger.lease(20, 50, 2).unwrap()), ["a", "b"]);
    assert_eq!(ledger.next_due().unwrap(), Some(20));
    assert_eq!(ids(&ledger.lease(20, 60, 9).unwrap()), ["c"]);
    assert_eq!(ids(&ledger.lease(20, 60, 9).unwrap()), [""; 0]);
    assert_eq!(ledger.next_due().unwrap(), Some(30));
    assert_eq!(ids(&ledger.lease(50, 60, 9).unwrap()), ["a", "b", "late"], "leases run out");
    assert_eq!(ledger.next_due().unwrap(), Some(60), "when the next lease runs out");
    assert_eq!(ledger.backlog("acme", "f").unwrap(), (4, Some(7)));
    assert_eq!(ledger.backlog("acme", "g").unwrap(), (0, None));
}

#[test]
fn messages_come_out_as_they_went_in() {
    let (_directory, ledger) = ledger();
    let sent = Message { event: vec![0, 1, 255], source: "s".into(), tries: 2, ..message("a", 3) };
    ledger.enqueue(&sent).unwrap();
    assert!(matches!(ledger.enqueue(&sent), Err(LedgerError::Exists(_))));
    assert_eq!(ledger.lease(3, 4, 1).unwrap(), [sent]);
}

#[test]
fn a_message_is_done_postponed_or_buried() {
    let (_directory, ledger) = ledger();
    for id in ["done", "again", "dead", "dead too"] {
        ledger.enqueue(&message(id, 1)).unwrap();
    }
    ledger.lease(1, 100, 9).unwrap();
    ledger.acknowledge("done").unwrap();
    ledger.postpone("again", 5, 1).unwrap();
    ledger.bury("dead", 2, "why").unwrap();
    ledger.bury("dead too", 2, "why not").unwrap();
    assert_eq!(ledger.lease(4, 100, 9).unwrap(), []);
    let again = Message { tries: 1, ..message("again", 5) };
    assert_eq!(ledger.lease(5, 100, 9).unwrap(), [again]);
    let letters = ledger.dead_letters("acme", "f", 9).unwrap();
    assert_eq!(letters[0].message.id, "dead too");
    let dead = DeadLetter { message: message("dead", 1), buried: 2, reason: "why".into() };
    assert_eq!(letters[1..], [dead]);
    assert_eq!(ledger.dead_letters("acme", "f", 1).unwrap().len(), 1);

    // Of a message that is gone.
    ledger.acknowledge("done").unwrap();
    ledger.postpone("done", 1, 1).unwrap();
    ledger.bury("done", 1, "why").unwrap();
    assert_eq!(ledger.backlog("acme", "f").unwrap().0, 1);
    assert_eq!(ledger.dead_letters("acme", "f", 9).unwrap().len(), 2);
}

/// Half of the threads with one handle, half with another, as two processes would.
#[test]
fn fifty_threads_lose_nothing_and_do_nothing_twice() {
    const THREADS: usize = 50;
    const EACH: usize = 4;
    let (directory, one) = ledger();
    let two = SqliteLedger::open(&directory.path().join("ledger")).unwrap();
    let (one, two) = (&one, &two);
    let done = &AtomicUsize::new(0);
    let leased: Vec<String> = thread::scope(|scope| {
        let work = |thread: usize| {
            let ledger = if thread.is_multiple_of(2) { one } else { two };
            for n in 0..EACH {
                ledger.enqueue(&message(&format!("{thread}-{n}"), 1)).unwrap();
            }
            let mut leased = Vec::new();
            while done.load(Ordering::SeqCst) < THREADS * EACH {
                for message in ledger.lease(1, 2, 3).unwrap() {
                    ledger.acknowledge(&message.id).unwrap();
                    leased.push(message.id);
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
            leased
        };
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(leased.len(), THREADS * EACH);
    assert_eq!(leased.iter().collect::<BTreeSet<_>>().len(), leased.len());
    assert_eq!(one.backlog("acme", "f").unwrap(), (0, None));
}

/// What each statement does at 100,000 rows: look up, never walk.
#[test]
fn the_queue_is_found_by_its_indices() {
    let (_directory, ledger) = ledger();
    let fill = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 100000)
         INSERT INTO messages (id, tenant, function, qualifier, created, due, tries, source, trace, key, event)
         SELECT 'm' || n, 'acme', 'f', '$LATEST', n, n, 0, '', '', '', x'7b7d' FROM n";
    lock(&ledger.writer).execute(fill, []).unwrap();
    assert_eq!(ledger.lease(100_000, 200_000, 10).unwrap().len(), 10);
    assert_eq!(ledger.next_due().unwrap(), Some(11));
    assert_eq!(ledger.backlog("acme", "f").unwrap(), (100_000, Some(1)));

    let connection = lock(&ledger.writer);
    for sql in [END_LEASES, LEASE, NEXT_DUE, BACKLOG, DEAD_LETTERS] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let mut steps = statement.raw_query();
        while let Some(step) = steps.next().unwrap() {
            let step: String = step.get("detail").unwrap();
            let walks = step.contains("SCAN messages") || step.contains("SCAN dead_letters");
            assert!(!walks && !step.contains("TEMP B-TREE"), "{sql}: {step}");
        }
    }
}
