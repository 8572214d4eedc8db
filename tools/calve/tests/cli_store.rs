//! Snapshots without a machine: names, damage, listing, removal.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::frozen::{flip_bit, folder, plant, rewrite_manifest, truncate};
use common::{Place, Said};
use serde_json::json;

/// A place with snapshots `resize` and `greet`.
fn place() -> Place {
    let place = Place::new();
    plant(&place.store(), "resize");
    plant(&place.store(), "greet");
    place
}

impl Place {
    /// What every command says that has to read a broken snapshot.
    #[track_caller]
    fn refuses(&self, name: &str, text: &str) {
        for line in [&["snapshot", "verify", name][..], &["run", name, "--event", "{}"]] {
            self.calve(line).status(2).silent().line(text).line(name);
        }
    }
}

#[test]
fn a_whole_snapshot_is_verified_inspected_and_listed() {
    let place = place();
    let id = place.calve(["snapshot", "verify", "resize"]).status(0).stdout;
    let id = id.trim();
    assert!(id.starts_with("sha256:"), "{id}");

    let inspected = &place.calve(["snapshot", "inspect", "resize"]).status(0).json()[0];
    assert_eq!(inspected["id"], id);
    assert_eq!(inspected["manifest"]["function"]["handler"], "app.handler");

    let table = place.calve(["snapshot", "ls"]).status(0).stdout;
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("NAME ") && rows.len() == 3, "{table}");
    assert!(rows[2].starts_with("resize ") && rows[2].contains("4.00 KiB"), "{table}");

    let lines = place.calve(["snapshot", "ls", "--json"]).status(0).json();
    assert_eq!(lines[1]["name"], "resize");
    assert_eq!((&lines[1]["frozen_bytes"], &lines[1]["error"]), (&json!(4096), &json!(null)));
}

#[test]
fn an_unknown_name_is_told_the_nearest() {
    let place = place();
    for line in [
        &["run", "resise", "--event", "{}"][..],
        &["snapshot", "inspect", "resise"],
        &["snapshot", "verify", "resise"],
        &["snapshot", "rm", "resise"],
    ] {
        place
            .calve(line)
            .status(2)
            .silent()
            .line("no snapshot `resise`")
            .line("did you mean `resize`?");
    }
    place.calve(["snapshot", "verify", "x"]).status(2).line("it has greet, resize");
    place.calve(["snapshot", "verify", "../resize"]).status(2).line("is no snapshot name");
    let empty = Place::new();
    empty.calve(["snapshot", "verify", "x"]).status(2).line("the store is empty");
}

#[test]
fn a_truncated_snapshot_is_refused() {
    for file in ["memory.0", "state"] {
        let place = place();
        truncate(&folder(&place.store(), "resize").join(file));
        place.refuses("resize", &format!("{file} is damaged"));
    }
    let place = place();
    truncate(&folder(&place.store(), "resize").join("manifest.json"));
    place.refuses("resize", "manifest.json is damaged");
}

#[test]
fn a_flipped_bit_is_found() {
    let place = place();
    flip_bit(&folder(&place.store(), "resize").join("state"), 30);
    place.refuses("resize", "state is damaged");
    let memory = folder(&place.store(), "greet").join("memory.0");
    flip_bit(&memory, 5000);
    let said = place.calve(["snapshot", "verify", "greet"]).status(2).silent();
    said.line("memory.0 is damaged: its digest is").line("rebuild it with `calve snapshot build`");
}

#[test]
fn another_format_version_is_refused() {
    let place = place();
    rewrite_manifest(&place.store(), "resize", |manifest| manifest["format_version"] = json!(99));
    place.refuses("resize", "has format version 99");
    // One bad snapshot does not hide the others.
    let lines = place.calve(["snapshot", "ls", "--json"]).status(0).json();
    assert_eq!(lines[0]["error"], json!(null));
    assert!(lines[1]["error"].as_str().unwrap().contains("format version 99"));
    let table = place.calve(["snapshot", "ls"]).status(0).stdout;
    assert!(table.contains("unreadable: see `calve snapshot verify resize`"), "{table}");
}

#[test]
fn a_removed_snapshot_is_gone_and_others_stay() {
    let place = place();
    let said = place.calve(["snapshot", "rm", "resize", "nope", "greet"]).status(2).silent();
    said.line("no snapshot `nope`");
    let table = place.calve(["snapshot", "ls", "--json"]).status(0).stdout;
    assert_eq!(table, "");
    for folder in ["images", "snapshots", "names", "tmp"] {
        assert_eq!(fs::read_dir(place.store().join(folder)).unwrap().count(), 0, "{folder}");
    }
}

#[test]
fn a_store_that_others_can_write_is_refused() {
    let place = place();
    fs::set_permissions(place.store(), fs::Permissions::from_mode(0o777)).unwrap();
    place.calve(["snapshot", "ls"]).status(2).line("can be written by other users");
}

#[test]
fn a_place_that_can_be_no_store_is_refused() {
    let place = Place::new();
    let file = place.folder.path().join("file");
    fs::write(&file, "").unwrap();
    for store in [file.clone(), file.join("below"), "/proc/nothing".into()] {
        let output = place.command(["snapshot", "ls", "--store"]).arg(store).output().unwrap();
        Said::from(output).status(2).line("choose another store with --store");
    }
}

#[test]
fn the_default_store_is_in_the_users_data_folder() {
    let place = Place::new();
    let home = place.folder.path();
    let mut command = place.command(["snapshot", "ls"]);
    command.env_remove("CALVE_STORE").env_remove("XDG_DATA_HOME").env("HOME", home);
    Said::from(command.output().unwrap()).status(0);
    assert!(home.join(".local/share/calve/names").is_dir());
    command.env("XDG_DATA_HOME", home.join("data")).env("CALVE_STORE", "");
    Said::from(command.output().unwrap()).status(0);
    assert!(home.join("data/calve/names").is_dir());
}
