//! Tests of the code store.

use super::*;

#[test]
fn equal_packages_are_one_and_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let codes = CodeStore::open(folder.path()).unwrap();
    let code = codes.put("one", b"zip", 100).unwrap();
    assert_eq!(codes.put("one", b"zip", 3).unwrap(), code);
    assert_eq!((code.size, codes.used("one"), codes.used("two")), (3, 3, 0));
    assert_eq!(codes.read("one", &code).unwrap(), b"zip");
    assert!(codes.read("two", &code).is_err(), "tenants share nothing");
}

#[test]
fn what_is_too_much_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let codes = CodeStore::open(folder.path()).unwrap();
    codes.put("one", b"12345", 8).unwrap();
    let full = codes.put("one", b"6789", 8);
    assert!(matches!(full, Err(CodesError::Full { used: 5, most: 8 })));
    assert_eq!(codes.used("one"), 5);
}

#[test]
fn reopening_finds_what_is_whole_and_sweeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let code = CodeStore::open(folder.path()).unwrap().put("one", b"zip", 100).unwrap();
    let unfinished = folder.path().join("one").join(".new-abc");
    fs::write(&unfinished, "half").unwrap();

    let codes = CodeStore::open(folder.path()).unwrap();
    assert_eq!(codes.used("one"), 3);
    assert_eq!(codes.read("one", &code).unwrap(), b"zip");
    assert!(!unfinished.exists());
}

#[test]
fn what_nothing_refers_to_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let codes = CodeStore::open(folder.path()).unwrap();
    let (kept, gone) = (codes.put("one", b"a", 9).unwrap(), codes.put("one", b"bb", 9).unwrap());
    codes.collect("one", &BTreeSet::from([kept.sha256.as_str()])).unwrap();
    assert_eq!(codes.used("one"), 1);
    assert!(codes.read("one", &kept).is_ok());
    assert!(codes.read("one", &gone).is_err());
}

#[test]
fn damage_is_found_and_names_stay_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let codes = CodeStore::open(folder.path()).unwrap();
    let code = codes.put("one", b"zip", 9).unwrap();
    fs::write(folder.path().join("one").join(&code.sha256), "zap").unwrap();
    assert!(matches!(codes.read("one", &code), Err(CodesError::Damaged(_))));
    for tenant in ["", "..", "a/b", "."] {
        assert!(matches!(codes.put(tenant, b"x", 9), Err(CodesError::Name(_))));
    }
}
