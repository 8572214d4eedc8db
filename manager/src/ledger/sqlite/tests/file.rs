//! The file: its mode, its format, a full disk, documents that cannot be read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::*;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn the_file_and_what_is_beside_it_are_private() {
    let (directory, _ledger) = ledger();
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["ledger", "ledger-shm", "ledger-wal"]);
    for name in names {
        assert_eq!(mode(&directory.path().join(&name)), 0o600, "{name}");
    }
}

#[test]
fn a_file_that_others_may_read_is_made_private() {
    let (directory, ledger) = ledger();
    drop(ledger);
    let path = directory.path().join("ledger");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _ledger = SqliteLedger::open(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&directory.path().join("ledger-wal")), 0o600);
}

#[test]
fn commits_wait_for_the_disk() {
    let (_directory, ledger) = ledger();
    let writer = lock(&ledger.writer);
    let pragma = |name| writer.pragma_query_value(None, name, |row| row.get::<_, String>(0));
    assert_eq!(pragma("journal_mode").unwrap(), "wal");
    let full: i64 = writer.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    assert_eq!(full, 2);
}

#[test]
fn everything_is_there_after_reopening() {
    let (directory, ledger) = ledger();
    ledger.put_source(&source("s")).unwrap();
    ledger.deliver("s", "p1", &[message("a", 1), message("b", 2), message("c", 3)]).unwrap();
    ledger.bury("b", 5, "reason").unwrap();
    ledger.lease(1, 50, 1).unwrap();
    ledger.put_record(&record("k", 100)).unwrap();
    ledger.claim("acme", "k", "a", 0, 100).unwrap();
    drop(ledger);

    let ledger = SqliteLedger::open(&directory.path().join("ledger")).unwrap();
    assert_eq!(ledger.functions().unwrap(), [function("acme", "f")]);
    assert_eq!(ledger.sources().unwrap(), [source("s")]);
    assert_eq!(ledger.position("s").unwrap(), "p1");
    assert_eq!(ledger.lease(49, 60, 9).unwrap(), [message("c", 3)]);
    ledger.release_all().unwrap();
    assert_eq!(ledger.lease(49, 60, 9).unwrap(), [message("a", 1), message("c", 3)]);
    let letter = DeadLetter { message: message("b", 2), buried: 5, reason: "reason".into() };
    assert_eq!(ledger.dead_letters("acme", "f", 9).unwrap(), [letter]);
    assert_eq!(ledger.record("acme", "k", 1).unwrap(), Some(record("k", 100)));
    assert!(!ledger.claim("acme", "k", "b", 1, 100).unwrap());
}

#[test]
fn a_later_format_is_refused() {
    let (directory, ledger) = ledger();
    lock(&ledger.writer).pragma_update(None, "user_version", 9).unwrap();
    let error = SqliteLedger::open(&directory.path().join("ledger")).unwrap_err();
    assert!(matches!(error, LedgerError::Version { found: 9, known: super::super::file::KNOWN }));
}

#[test]
fn an_empty_file_becomes_a_ledger_and_another_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty");
    std::fs::write(&path, "").unwrap();
    SqliteLedger::open(&path).unwrap().put_function(&function("acme", "f")).unwrap();
    let path = directory.path().join("text");
    std::fs::write(&path, "no ledger at all".repeat(100)).unwrap();
    assert!(matches!(SqliteLedger::open(&path), Err(LedgerError::Database(_))));
    let path = directory.path().join("no such directory/ledger");
    assert!(matches!(SqliteLedger::open(&path), Err(LedgerError::File { .. })));
}

#[test]
fn a_full_disk_is_told_and_harms_nothing() {
    let (directory, ledger) = ledger();
    let limit = |pages: u32| {
        let writer = lock(&ledger.writer);
        writer.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    ledger.put_source(&source("s")).unwrap();
    limit(1); // SQLite makes that the pages that there are.
    let big = |n: u32| Message { event: vec![b' '; 3000], ..message(&n.to_string(), 1) };
    let mut taken = 0;
    let error = loop {
        match ledger.enqueue(&big(taken)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LedgerError::Full(_)), "{error:?}");
    let batch: Vec<_> = (1000..1100).map(big).collect();
    assert!(matches!(ledger.deliver("s", "p1", &batch), Err(LedgerError::Full(_))));

    assert_eq!(ledger.position("s").unwrap(), "");
    assert_eq!(ledger.lease(1, 2, 1000).unwrap().len(), taken as usize);
    let sound: String = Connection::open(directory.path().join("ledger"))
        .unwrap()
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
    limit(100_000);
    ledger.deliver("s", "p1", &batch).unwrap();
    assert_eq!(ledger.backlog("acme", "f").unwrap().0, u64::from(taken) + 100);
}

#[test]
fn a_document_of_somebody_else_s_is_named() {
    let (_directory, ledger) = ledger();
    lock(&ledger.writer).execute("UPDATE functions SET document = '{}'", []).unwrap();
    let error = ledger.functions().unwrap_err();
    assert!(matches!(error, LedgerError::Document { what: "function", .. }));
}
