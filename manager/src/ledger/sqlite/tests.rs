//! Every method once; what needs more is in a module of its own.

use std::collections::BTreeMap;

use super::*;
use crate::model::{Code, Configuration, Policy, Quota, State, Update, Version};

mod file;
mod layers;
mod model;
mod processes;
mod queue;

/// A ledger with the function `acme/f`, and the directory that it is in.
fn ledger() -> (tempfile::TempDir, SqliteLedger) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&directory.path().join("ledger")).unwrap();
    ledger.put_function(&function("acme", "f")).unwrap();
    (directory, ledger)
}

fn function(tenant: &str, name: &str) -> Function {
    let configuration = Configuration {
        runtime: "python3.11".into(),
        handler: "app.handler".into(),
        role: String::new(),
        description: "räksmörgås \"quoted\"".into(),
        timeout_s: 3,
        memory_mib: 128,
        environment: BTreeMap::from([("KEY".into(), "value".into())]),
        layers: Vec::new(),
        dead_letter: String::new(),
        tracing: "PassThrough".into(),
        ephemeral_mib: 512,
        snap_start: "None".into(),
    };
    let latest = Version {
        number: None,
        configuration,
        code: Code { sha256: "00".repeat(32), size: 1 },
        state: State::Pending,
        update: Update::InProgress,
        revision: "r".into(),
        lineage: "l".into(),
        modified: 1,
        snapshot: None,
    };
    Function {
        tenant: tenant.into(),
        name: name.into(),
        versions: BTreeMap::from([(1, Version { number: Some(1), ..latest.clone() })]),
        latest,
        last_number: 1,
        aliases: BTreeMap::new(),
        reserved: Some(5),
        provisioned: BTreeMap::new(),
        event_invoke: BTreeMap::new(),
        urls: BTreeMap::new(),
        tags: BTreeMap::new(),
        policy: Policy::default(),
    }
}

fn message(id: &str, due: Millis) -> Message {
    Message {
        id: id.into(),
        tenant: "acme".into(),
        function: "f".into(),
        qualifier: "$LATEST".into(),
        event: b"{\"n\":1}".to_vec(),
        created: 7,
        due,
        tries: 0,
        source: String::new(),
        trace: "Root=1".into(),
        key: "k".into(),
    }
}

fn record(key: &str, expires: Millis) -> Record {
    Record {
        tenant: "acme".into(),
        function: "f".into(),
        key: key.into(),
        resources: "{}".into(),
        result: vec![0, 255, 1],
        version: "3".into(),
        created: 1,
        expires,
    }
}

fn source(id: &str) -> Source {
    Source {
        id: id.into(),
        tenant: "acme".into(),
        function: "f".into(),
        qualifier: "live".into(),
        settings: "{\"every\":5}".into(),
        enabled: true,
        modified: 9,
    }
}

fn ids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.id.as_str()).collect()
}

#[test]
fn tenants_are_put_and_replaced() {
    let (_directory, ledger) = ledger();
    let mut tenant = Tenant {
        name: "acme".into(),
        account: "123456789012".into(),
        quota: Quota::default(),
        created: 1,
    };
    ledger.put_tenant(&tenant).unwrap();
    tenant.quota.storage = u64::MAX;
    ledger.put_tenant(&tenant).unwrap();
    assert_eq!(ledger.tenants().unwrap(), [tenant]);
}

#[test]
fn keys_are_added_once_and_removed() {
    let (_directory, ledger) = ledger();
    let key = AccessKey {
        id: "AKIA0123456789ABCDEF".into(),
        secret: "secret".into(),
        tenant: "acme".into(),
        root: true,
        created: 1,
    };
    ledger.add_key(&key).unwrap();
    assert!(matches!(ledger.add_key(&key), Err(LedgerError::Exists(_))));
    assert_eq!(ledger.keys().unwrap(), std::slice::from_ref(&key));
    assert!(ledger.remove_key(&key.id).unwrap());
    assert!(!ledger.remove_key(&key.id).unwrap());
    assert_eq!(ledger.keys().unwrap(), []);
}

#[test]
fn a_function_that_is_replaced_keeps_what_belongs_to_it() {
    let (_directory, ledger) = ledger();
    ledger.enqueue(&message("a", 1)).unwrap();
    let mut function = function("acme", "f");
    function.last_number = 2;
    ledger.put_function(&function).unwrap();
    assert_eq!(ledger.functions().unwrap(), [function]);
    assert_eq!(ledger.backlog("acme", "f").unwrap(), (1, Some(7)));
}

#[test]
fn a_function_goes_with_everything_of_its_own() {
    let (_directory, ledger) = ledger();
    ledger.put_function(&function("acme", "g")).unwrap();
    let others = Message { function: "g".into(), ..message("other", 1) };
    for message in [&message("a", 1), &message("b", 1), &others] {
        ledger.enqueue(message).unwrap();
    }
    ledger.bury("b", 2, "reason").unwrap();
    ledger.put_record(&record("k", 100)).unwrap();
    ledger.put_source(&source("s")).unwrap();
    ledger.remove_function("acme", "f").unwrap();
    ledger.remove_function("acme", "f").unwrap();

    assert!(matches!(ledger.enqueue(&message("c", 1)), Err(LedgerError::Missing { .. })));
    assert!(matches!(ledger.put_record(&record("k", 9)), Err(LedgerError::Missing { .. })));
    ledger.put_function(&function("acme", "f")).unwrap();
    assert_eq!(ids(&ledger.lease(9, 10, 9).unwrap()), ["other"]);
    assert_eq!(ledger.dead_letters("acme", "f", 9).unwrap(), []);
    assert_eq!(ledger.record("acme", "k", 1).unwrap(), None);
    assert_eq!(ledger.sources().unwrap(), []);
}

#[test]
fn a_record_holds_until_it_runs_out() {
    let (_directory, ledger) = ledger();
    ledger.put_record(&record("k", 50)).unwrap();
    ledger.put_record(&record("k", 100)).unwrap();
    assert_eq!(ledger.record("acme", "k", 99).unwrap(), Some(record("k", 100)));
    assert_eq!(ledger.record("acme", "k", 100).unwrap(), None);
    assert_eq!(ledger.record("other", "k", 1).unwrap(), None);
}

#[test]
fn a_claim_is_one_owner_s() {
    let (_directory, ledger) = ledger();
    let claim = |owner, now, until| ledger.claim("acme", "k", owner, now, until).unwrap();
    assert!(claim("a", 0, 10));
    assert!(!claim("b", 9, 20));
    assert!(claim("a", 9, 12), "its owner may have it for longer");
    assert!(!claim("b", 11, 20));
    assert!(claim("b", 12, 20));
    ledger.unclaim("acme", "k", "a").unwrap();
    assert!(!claim("a", 13, 30), "only the owner can give it up");
    ledger.unclaim("acme", "k", "b").unwrap();
    assert!(claim("a", 13, Millis::MAX));
    assert!(!claim("b", 1 << 62, 0), "the end of time is later than that");
}

#[test]
fn a_source_keeps_its_position() {
    let (_directory, ledger) = ledger();
    assert_eq!(ledger.position("s").unwrap(), "");
    ledger.put_source(&source("s")).unwrap();
    ledger.deliver("s", "p1", &[]).unwrap();
    let disabled = Source { enabled: false, ..source("s") };
    ledger.put_source(&disabled).unwrap();
    assert_eq!(ledger.sources().unwrap(), [disabled]);
    assert_eq!(ledger.position("s").unwrap(), "p1");
    assert!(ledger.remove_source("s").unwrap());
    assert!(!ledger.remove_source("s").unwrap());
    assert!(matches!(ledger.deliver("s", "p2", &[]), Err(LedgerError::Missing { .. })));
}

#[test]
fn known_messages_are_not_delivered_again() {
    let (_directory, ledger) = ledger();
    ledger.put_source(&source("s")).unwrap();
    ledger.deliver("s", "p1", &[message("a", 1), message("b", 1)]).unwrap();
    ledger.bury("a", 2, "reason").unwrap();
    ledger.deliver("s", "p2", &[message("a", 1), message("b", 1), message("c", 1)]).unwrap();
    assert_eq!(ids(&ledger.lease(5, 10, 9).unwrap()), ["b", "c"]);
    assert_eq!(ledger.position("s").unwrap(), "p2");
}

#[test]
fn a_delivery_is_whole_or_not_at_all() {
    let (_directory, ledger) = ledger();
    ledger.put_source(&source("s")).unwrap();
    let lost = Message { function: "gone".into(), ..message("b", 1) };
    let error = ledger.deliver("s", "p1", &[message("a", 1), lost]).unwrap_err();
    assert!(matches!(error, LedgerError::Missing { what: "function" }));
    assert_eq!(ledger.position("s").unwrap(), "");
    assert_eq!(ledger.next_due().unwrap(), None);
}

#[test]
fn what_has_run_out_is_swept_away() {
    let (_directory, ledger) = ledger();
    let now = DEAD_LETTER_AGE + 100;
    for (id, buried) in [("old", 100), ("young", 101)] {
        ledger.enqueue(&message(id, 1)).unwrap();
        ledger.bury(id, buried, "reason").unwrap();
    }
    // More than one transaction takes.
    let expired: Vec<_> = (0..2500).map(|n| record(&n.to_string(), now)).collect();
    ledger.write(|t| expired.iter().try_for_each(|record| records::put(t, record))).unwrap();
    ledger.put_record(&record("holds", now + 1)).unwrap();
    ledger.claim("acme", "k", "a", 0, now).unwrap();
    assert_eq!(ledger.sweep(now).unwrap(), 2502);
    assert_eq!(ledger.sweep(now).unwrap(), 0);
    let left = ledger.dead_letters("acme", "f", 9).unwrap();
    assert_eq!(left.iter().map(|letter| letter.message.id.as_str()).collect::<Vec<_>>(), ["young"]);
    assert!(ledger.record("acme", "holds", now).unwrap().is_some());
}
