//! Signed snapshots: keys as OpenSSL makes them, and hosts that refuse what nobody they trust has signed.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Place;
use common::frozen::plant;

/// A private key and its public one, each in a folder of its own below `place`.
fn keys(place: &Place, whose: &str) -> (PathBuf, PathBuf) {
    let (private, public) = (place.folder.path().join(whose), place.folder.path().join("trusted"));
    for folder in [&private, &public] {
        fs::create_dir_all(folder).unwrap();
    }
    let (private, public) = (private.join("key.pem"), public.join(format!("{whose}.pem")));
    let openssl = |args: &[&str], out: &Path| {
        let done = Command::new("openssl").args(args).arg("-out").arg(out).status();
        assert!(done.expect("openssl: apt-get install openssl").success());
    };
    openssl(&["genpkey", "-algorithm", "ed25519"], &private);
    openssl(&["pkey", "-pubout", "-in", private.to_str().unwrap()], &public);
    (private, public)
}

impl Place {
    fn verify(&self, name: &str, keys: &Path) -> common::Said {
        self.calve(["snapshot", "verify", name, "--trusted-keys", keys.to_str().unwrap()])
    }

    fn sign(&self, name: &str, key: &Path) -> common::Said {
        self.calve(["snapshot", "sign", name, "--key", key.to_str().unwrap()])
    }
}

#[test]
fn only_what_a_trusted_key_has_signed_is_opened() {
    let place = Place::new();
    plant(&place.store(), "resize");
    let (ours, trusted) = keys(&place, "ours");
    let (theirs, strangers) = keys(&place, "strangers");

    let refused = place.verify("resize", &trusted).status(2).silent();
    refused.line("`resize` is not signed by anybody whom this host trusts").line("snapshot sign");
    let run = ["run", "resize", "--event", "{}"];
    let demanding = place.command(run).env("CALVE_TRUSTED_KEYS", &trusted).output().unwrap();
    common::Said::from(demanding).status(2).silent().line("is not signed");

    let id = place.calve(["snapshot", "verify", "resize"]).status(0).stdout;
    assert_eq!(place.sign("resize", &theirs).status(0).stdout, id);
    place.verify("resize", &trusted).status(2).line("is not signed");
    assert_eq!(place.sign("resize", &ours).status(0).stdout, id);
    assert_eq!(place.sign("resize", &ours).status(0).stdout, id);
    for keys in [&*trusted, &*strangers, trusted.parent().unwrap()] {
        assert_eq!(place.verify("resize", keys).status(0).stdout, id);
    }
    let lines = fs::read_to_string(place.store().join("signatures/resize")).unwrap();
    assert_eq!(lines.lines().count(), 2, "each key's once: {lines}");
}

#[test]
fn a_signature_is_of_one_build_of_one_name() {
    let place = Place::new();
    let (ours, trusted) = keys(&place, "ours");
    plant(&place.store(), "resize");
    place.sign("resize", &ours).status(0);
    let signatures = place.store().join("signatures");
    // The same snapshot under another name.
    let link = fs::read_link(place.store().join("names/resize")).unwrap();
    std::os::unix::fs::symlink(link, place.store().join("names/pay")).unwrap();
    fs::copy(signatures.join("resize"), signatures.join("pay")).unwrap();
    place.verify("pay", &trusted).status(2).line("`pay` has a forged signature");
    // Another build of the same name.
    plant(&place.store(), "resize");
    place.verify("resize", &trusted).status(2).line("is not signed");
    place.sign("resize", &ours).status(0);
    place.verify("resize", &trusted).status(0);
    place.calve(["snapshot", "rm", "resize"]).status(0);
    assert!(!signatures.join("resize").exists());
}

#[test]
fn what_is_no_signature_and_what_is_no_key_is_named() {
    let place = Place::new();
    let (ours, trusted) = keys(&place, "ours");
    plant(&place.store(), "resize");
    place.sign("resize", &ours).status(0);
    let file = place.store().join("signatures/resize");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "ed25519 of course\n").unwrap();
    let refused = place.verify("resize", &trusted).status(2).silent();
    refused.line("signatures/resize is damaged: line 1 is no signature");
    place.sign("resize", &ours).status(0);
    place.verify("resize", &trusted).status(0);

    place.sign("resize", &trusted).status(2).silent().line("ours.pem: is no Ed25519 private key");
    place.verify("resize", &ours).status(2).silent().line("key.pem: is no Ed25519 public key");
    place.verify("resize", Path::new("/nowhere")).status(2).line("/nowhere: cannot be read");
    place.verify("resize", Path::new("")).status(2).silent().line("CALVE_TRUSTED_KEYS) is empty");
    let empty = place.temporary();
    place.verify("resize", &empty).status(2).line("nobody would be trusted");
    place.sign("resise", &ours).status(2).line("did you mean `resize`?");
}
