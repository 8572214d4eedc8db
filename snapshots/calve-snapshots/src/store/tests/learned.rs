//! What was learned of a snapshot's calls: kept for that snapshot, and for no longer than it is there.

use std::fs;
use std::os::unix::fs::symlink;

use crate::store::LearnedError;
use crate::testing::*;
use crate::*;

fn workset() -> Workset {
    Workset::of_pages([(1, true), (2, false), (64, true)])
}

fn learned(f: &Fixture) -> Vec<String> {
    let entries = fs::read_dir(f.path("learned")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_was_learned_is_there_when_the_store_is_opened_again() {
    let f = Fixture::new();
    let id = f.build("py");
    let snapshot = f.open("py").unwrap();
    assert_eq!(f.store.learned(&snapshot).unwrap(), None);
    f.store.learn(&snapshot, &workset()).unwrap();
    let again = Store::open(f.path("")).unwrap();
    let reopened = again.snapshot("py", &host(), Verify::Full).unwrap();
    assert_eq!(again.learned(&reopened).unwrap(), Some(workset()));
    assert_eq!(*reopened.workset(), Workset::default(), "the snapshot is as it was");
    assert_eq!(learned(&f), [id.hex()]);
    // Another takes its place.
    let other = Workset::of_pages([(7, true)]);
    f.store.learn(&snapshot, &other).unwrap();
    assert_eq!(again.learned(&reopened).unwrap(), Some(other));
    assert_eq!(fs::read_dir(f.path("tmp")).unwrap().count(), 0);
}

#[test]
fn what_is_built_anew_under_the_same_name_has_learned_nothing() {
    let f = Fixture::new();
    let old = f.build("py");
    let before = f.open("py").unwrap();
    f.store.learn(&before, &workset()).unwrap();
    let new = f.build("py");
    assert_ne!(old, new);
    let after = f.open("py").unwrap();
    assert_eq!(f.store.learned(&after).unwrap(), None);
    assert_eq!(learned(&f), [""; 0]);
    // Whoever has the old one open yet teaches the new one nothing, and leaves nothing.
    f.store.learn(&before, &workset()).unwrap();
    assert_eq!(f.store.learned(&after).unwrap(), None);
    assert_eq!(learned(&f), [""; 0]);
    // Nor does it help to give it the name.
    f.store.learn(&after, &workset()).unwrap();
    let file = f.path("learned").join(new.hex());
    let text = fs::read(&file).unwrap();
    f.build("py");
    let third = f.open("py").unwrap();
    fs::write(f.path("learned").join(third.id().hex()), text).unwrap();
    assert!(matches!(f.store.learned(&third), Err(LearnedError::Digest)));
}

#[test]
fn it_goes_with_the_last_name_of_its_snapshot() {
    let f = Fixture::new();
    for name in ["a", "b"] {
        f.draft(name).commit_at(golden_time(), recipe()).unwrap();
    }
    f.build("c");
    let (a, c) = (f.open("a").unwrap(), f.open("c").unwrap());
    f.store.learn(&a, &workset()).unwrap();
    f.store.learn(&c, &workset()).unwrap();
    f.store.remove("a").unwrap();
    assert_eq!(f.store.learned(&f.open("b").unwrap()).unwrap(), Some(workset()));
    fs::write(f.path("learned/what-nobody-knows"), b"").unwrap();
    f.store.remove("b").unwrap();
    assert_eq!(learned(&f), [c.id().hex()]);
    f.store.remove("c").unwrap();
    assert_eq!(learned(&f), [""; 0]);
}

#[test]
fn what_is_no_file_of_ours_is_refused_and_learned_anew() {
    let f = Fixture::new();
    let id = f.build("py");
    let snapshot = f.open("py").unwrap();
    f.store.learn(&snapshot, &workset()).unwrap();
    let file = f.path("learned").join(id.hex());
    let refused = || assert!(f.store.learned(&snapshot).is_err());
    fs::write(&file, b"").unwrap();
    refused();
    // A hole as long as can be: nobody reads it to its end.
    fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    refused();
    fs::rename(&file, f.path("elsewhere")).unwrap();
    symlink(f.path("elsewhere"), &file).unwrap();
    refused();
    f.store.learn(&snapshot, &workset()).unwrap();
    assert_eq!(f.store.learned(&snapshot).unwrap(), Some(workset()));
}
