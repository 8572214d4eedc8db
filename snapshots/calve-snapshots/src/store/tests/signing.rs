//! A store that signs what is committed to it.

use std::fs;

use crate::testing::*;
use crate::*;

/// RFC 8032, 7.1, test 2.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n\
    -----END PRIVATE KEY-----\n";

fn signing(f: &Fixture) -> Store {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    fs::write(&path, PRIVATE).unwrap();
    Store::open(f.path("")).unwrap().signing(SigningKey::read(path).unwrap())
}

fn commit(store: &Store, f: &Fixture) -> Result<Digest, Error> {
    f.draft_in(store, "py").commit(recipe())
}

#[test]
fn what_is_committed_is_signed_and_what_stood_there_before_was() {
    let f = Fixture::new();
    f.build("py");
    let store = signing(&f);
    assert!(matches!(store.snapshot("py", &host(), Verify::Full), Err(Error::Unsigned { .. })));
    for _ in 0..3 {
        let id = commit(&store, &f).unwrap();
        assert_eq!(store.snapshot("py", &host(), Verify::Full).unwrap().id(), id);
    }
    let lines = fs::read_to_string(f.path("signatures/py")).unwrap();
    assert!(
        lines.lines().count() <= 2,
        "of what stands there, and of what stood there last: {lines}"
    );
}

#[test]
fn a_name_does_not_move_to_what_cannot_be_signed() {
    let f = Fixture::new();
    let before = f.build("py");
    let store = signing(&f);
    // As many signatures of the old one as there is room for.
    let line = |n: usize| format!("ed25519 {n:064x} {} {before}\n", "0".repeat(128));
    let full = (0..).map(line).scan(0, |len, line| {
        *len += line.len();
        (*len <= 64 << 10).then_some(line)
    });
    fs::write(f.path("signatures/py"), full.collect::<String>()).unwrap();
    assert!(matches!(commit(&store, &f), Err(Error::TooManySigners { .. })));
    assert_eq!(f.open("py").unwrap().id(), before);
    assert_eq!(fs::read_dir(f.path("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(f.path("snapshots")).unwrap().count(), 1);
}
