//! Tests of what becomes of versions.

use super::super::testing::{Bench, snapshot};
use super::*;

fn function() -> Function {
    Function::clone(&Bench::new().create("f").function)
}

fn failure() -> BuildFailure {
    BuildFailure { code: "FunctionError".into(), reason: "it raised".into() }
}

#[test]
fn a_new_function_becomes_active() {
    let mut latest = function().latest;
    assert!(is_building(&latest) && check_settled(&latest, "arn").is_err());
    let revision = latest.revision.clone();
    assert!(finish(&mut latest, &revision, Ok(snapshot("s"))));
    assert_eq!((&latest.state, &latest.update), (&State::Active, &Update::Successful));
    assert!(check_settled(&latest, "arn").is_ok());
}

#[test]
fn a_new_function_that_cannot_be_built_may_be_mended() {
    let mut latest = function().latest;
    let revision = latest.revision.clone();
    assert!(finish(&mut latest, &revision, Err(failure())));
    assert!(matches!(&latest.state, State::Failed { code, .. } if code == "FunctionError"));
    assert!(check_settled(&latest, "arn").is_ok());

    begin(&mut latest, 1);
    assert_eq!((&latest.state, &latest.update), (&State::Pending, &Update::InProgress));
    let revision = latest.revision.clone();
    assert!(finish(&mut latest, &revision, Ok(snapshot("s"))));
    assert_eq!((&latest.state, &latest.update), (&State::Active, &Update::Successful));
}

#[test]
fn an_update_that_fails_leaves_what_answers() {
    let mut latest = function().latest;
    let first = latest.revision.clone();
    finish(&mut latest, &first, Ok(snapshot("s")));
    begin(&mut latest, 1);
    assert_eq!((&latest.state, &latest.update), (&State::Active, &Update::InProgress));
    assert!(check_settled(&latest, "arn").unwrap_err().message.contains("in progress"));
    let second = latest.revision.clone();
    assert!(finish(&mut latest, &second, Err(failure())));
    assert_eq!(latest.state, State::Active);
    assert_eq!(latest.snapshot, Some(snapshot("s")));
    assert!(matches!(latest.update, Update::Failed { .. }));
}

#[test]
fn results_of_other_builds_are_nobodys() {
    let mut latest = function().latest;
    assert!(!finish(&mut latest, "another", Ok(snapshot("s"))));
    let revision = latest.revision.clone();
    assert!(finish(&mut latest, &revision, Ok(snapshot("s"))));
    assert!(!finish(&mut latest, &revision, Ok(snapshot("t"))), "once is enough");
    assert_eq!(latest.snapshot, Some(snapshot("s")));
}

#[test]
fn what_was_published_last_is_not_published_again() {
    let mut function = function();
    assert_eq!(publish(&mut function, Some("first".into()), 1).unwrap(), 1);
    assert_eq!(publish(&mut function, None, 2).unwrap(), 1);
    function.latest.configuration.timeout_s = 9;
    assert_eq!(publish(&mut function, None, 3).unwrap(), 2);
    assert_eq!(function.versions[&1].configuration.description, "first");

    // Numbers are not given twice, and what failed is worth another try.
    function.versions.remove(&2);
    assert_eq!(publish(&mut function, None, 4).unwrap(), 3);
    function.versions.get_mut(&3).unwrap().state =
        State::Failed { code: String::new(), reason: String::new() };
    assert_eq!(publish(&mut function, None, 5).unwrap(), 4);
}

#[test]
fn builds_are_begun_once() {
    let before = function();
    assert_eq!(begun(None, &before), [None]);
    let mut after = before.clone();
    publish(&mut after, None, 1).unwrap();
    assert_eq!(begun(Some(&before), &after), [Some(1)]);
    assert_eq!(begun(None, &after), [None, Some(1)]);
    assert!(begun(Some(&after), &after).is_empty());
}

#[test]
fn versions_have_an_end() {
    let mut function = function();
    for n in 0..500 {
        function.latest.configuration.memory_mib = n;
        publish(&mut function, None, 1).unwrap();
    }
    assert_eq!(publish(&mut function, None, 1).unwrap(), 500, "the last one is still the last one");
    function.latest.configuration.memory_mib = 501;
    let full = publish(&mut function, None, 1).unwrap_err();
    assert_eq!(full.name, "ServiceQuotaExceededException");
}

#[test]
fn a_version_that_is_lost_is_built_anew_as_another_revision() {
    let mut function = function();
    let first = function.latest.revision.clone();
    finish(&mut function.latest, &first, Ok(snapshot("s")));
    let before = function.clone();
    assert!(!lose(&mut function, "another"));
    assert_eq!(function, before);
    assert!(lose(&mut function, "s") && !lose(&mut function, "s"));
    assert_eq!((&function.latest.state, &function.latest.snapshot), (&State::Restoring, &None));
    assert_eq!(function.latest.modified, before.latest.modified);
    assert_eq!(begun(Some(&before), &function), [None]);
    assert!(check_settled(&function.latest, "arn").is_err());
    // What was begun before is nobody's any more.
    assert!(!finish(&mut function.latest, &first, Ok(snapshot("s"))));
    let second = function.latest.revision.clone();
    assert!(finish(&mut function.latest, &second, Ok(snapshot("t"))));
    assert_eq!(
        (&function.latest.state, &function.latest.update),
        (&State::Active, &Update::Successful)
    );
}

#[test]
fn what_is_lost_during_an_update_waits_for_that() {
    let mut function = function();
    let first = function.latest.revision.clone();
    finish(&mut function.latest, &first, Ok(snapshot("s")));
    begin(&mut function.latest, 1);
    let before = function.clone();
    assert!(lose(&mut function, "s"));
    assert_eq!(begun(Some(&before), &function), []);
    let second = function.latest.revision.clone();
    assert!(finish(&mut function.latest, &second, Err(failure())));
    assert!(matches!(function.latest.state, State::Failed { .. }));
}

#[test]
fn what_is_built_anew_is_the_same_work() {
    let mut function = function();
    let first = function.latest.revision.clone();
    let lineage = function.latest.lineage.clone();
    assert!(!lineage.is_empty());
    finish(&mut function.latest, &first, Ok(snapshot("s")));
    assert!(lose(&mut function, "s"));
    assert_eq!(function.latest.lineage, lineage);
    touch(&mut function.latest, 1);
    assert_eq!(function.latest.lineage, lineage);
    // What is deployed is work of its own, also where nothing has changed.
    begin(&mut function.latest, 1);
    assert_ne!(function.latest.lineage, lineage);
    publish(&mut function, None, 1).unwrap();
    assert_ne!(function.versions[&1].lineage, function.latest.lineage);
}

#[test]
fn what_has_no_lineage_yet_goes_by_the_name_of_its_snapshot() {
    let old = Snapshot { lineage: String::new(), ..snapshot("s") };
    assert_eq!((old.lineage(), snapshot("s").lineage()), ("s", "of s"));
    let mut function = function();
    let first = function.latest.revision.clone();
    finish(&mut function.latest, &first, Ok(old));
    function.latest.lineage = String::new();
    let mut failed = function.clone();
    failed.latest.update = Update::Failed { code: String::new(), reason: String::new() };
    assert!(lose(&mut function, "s") && lose(&mut failed, "s"));
    assert_eq!((&*function.latest.lineage, &*failed.latest.lineage), ("s", ""));
}
