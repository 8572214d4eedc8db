//! The keyring before a ledger that another process writes to, too.

use std::sync::atomic::Ordering;

use super::{ID, key, keyring, tenant};
use crate::auth::{Keyring, KeyringError};
use crate::ledger::Ledger;
use crate::model::Quota;

#[test]
fn a_first_key_makes_its_tenant() {
    let (ledger, keyring) = keyring();
    let first = keyring.create_key("new-1", false).unwrap();
    let second = keyring.create_key("new-1", true).unwrap();
    assert!(first.id.len() == 20 && first.id.starts_with("AKIA"), "{}", first.id);
    assert_eq!(first.secret.len(), 40);
    assert!(first.id != second.id && first.secret != second.secret);
    assert!(!first.root && second.root);

    let made = keyring.tenant("new-1").unwrap();
    assert!(made.account.len() == 12 && made.account.bytes().all(|b| b.is_ascii_digit()));
    assert_eq!(ledger.tenants().unwrap().len(), 2);
    assert_eq!(*keyring.find(&first.id).unwrap().unwrap(), first);
    assert_eq!(keyring.list_keys("new-1").len(), 2);
    assert_eq!(keyring.tenants().len(), 2);
}

#[test]
fn a_tenant_of_another_process_is_not_made_again() {
    let (ledger, keyring) = keyring();
    let other = crate::model::Tenant { account: "999999999999".to_owned(), ..tenant("other") };
    ledger.put_tenant(&other).unwrap();
    keyring.create_key("other", false).unwrap();
    assert_eq!(*keyring.tenant("other").unwrap(), other);
}

#[test]
fn a_key_that_was_made_before_opens_nothing_until_it_is_added() {
    let (ledger, keyring) = keyring();
    let made = Keyring::mint_key("new-1", true).unwrap();
    assert!(ledger.keys().unwrap().iter().all(|key| key.id != made.id));
    keyring.add_key(&made).unwrap();
    assert_eq!(*keyring.find(&made.id).unwrap().unwrap(), made);
    assert!(keyring.tenant("new-1").is_some());
    assert!(keyring.add_key(&Keyring::mint_key("A", true).unwrap()).is_err());
}

#[test]
fn names_are_checked() {
    let (_, keyring) = keyring();
    let long = "a".repeat(64);
    for bad in ["", "-a", "A", "a_b", "a/b", "ä", "a b", "..", &long] {
        let error = keyring.create_key(bad, false).unwrap_err();
        assert!(matches!(error, KeyringError::Name(_)), "{bad:?}: {error}");
    }
    keyring.create_key(&long[1..], false).unwrap();
    keyring.create_key("0-", false).unwrap();
}

#[test]
fn an_unknown_key_is_looked_for_once_a_second() {
    let (ledger, keyring) = keyring();
    let looks = || ledger.looks.load(Ordering::Relaxed);
    let before = looks();
    let (later, last) = ("AKIALATERLATERLATERA", "AKIALASTLASTLASTLAST");
    ledger.add_key(&key(later, "acme")).unwrap();
    assert!(keyring.known(later).is_none());
    assert!(keyring.find(later).unwrap().is_some());
    assert_eq!(looks(), before + 1);

    // Known now; and others have to wait.
    ledger.add_key(&key(last, "acme")).unwrap();
    assert!(keyring.find(later).unwrap().is_some());
    for _ in 0..100 {
        assert!(keyring.find(last).unwrap().is_none());
    }
    assert_eq!(looks(), before + 1);
    std::thread::sleep(super::super::keyring::PAUSE);
    assert!(keyring.find(last).unwrap().is_some());
}

#[test]
fn what_is_no_key_is_not_looked_for() {
    let (ledger, keyring) = keyring();
    let before = ledger.looks.load(Ordering::Relaxed);
    for id in ["", "AKIA", "AKIA0000000000000000", "ASIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOPQ"]
    {
        assert!(keyring.find(id).unwrap().is_none());
    }
    assert_eq!(ledger.looks.load(Ordering::Relaxed), before);
}

#[test]
fn a_removed_key_opens_nothing() {
    let (ledger, keyring) = keyring();
    assert!(keyring.remove_key(ID).unwrap());
    assert!(!keyring.remove_key(ID).unwrap());
    assert!(keyring.find(ID).unwrap().is_none());

    // By another process.
    let key = keyring.create_key("acme", false).unwrap();
    ledger.remove_key(&key.id).unwrap();
    keyring.reload().unwrap();
    assert!(keyring.find(&key.id).unwrap().is_none());
}

#[test]
fn a_quota_stays() {
    let (ledger, keyring) = keyring();
    let quota = Quota { functions: 3, ..Quota::default() };
    assert_eq!(keyring.set_quota("acme", quota).unwrap().quota, quota);
    assert_eq!(keyring.tenant("acme").unwrap().quota, quota);
    assert_eq!(ledger.tenants().unwrap()[0].quota, quota);
    let error = keyring.set_quota("nobody", quota).unwrap_err();
    assert!(matches!(error, KeyringError::NoTenant(_)), "{error}");
}

#[test]
fn secrets_are_not_printed() {
    let (_, keyring) = keyring();
    let text = format!("{keyring:?} {:?}", keyring.known(ID));
    assert!(!text.contains(super::SECRET), "{text}");
}
