//! Access keys, without a host: they are made before it first starts.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{Place, Said};
use serde_json::json;

impl Place {
    fn data(&self) -> PathBuf {
        self.folder.path().join("new/data")
    }

    /// `calve key LINE --data …`.
    fn key(&self, line: &str) -> Said {
        let mut command = self.command(["key"]);
        command.args(common::words(line)).arg("--data").arg(self.data());
        command.output().unwrap().into()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_is_made_before_there_is_anything_else() {
    let place = Place::new();
    let said = place.key("create --tenant acme --json").status(0);
    assert_eq!(said.stderr, "");
    let key = said.json().remove(0);
    let (id, secret) =
        (key["access_key_id"].as_str().unwrap(), key["secret_access_key"].as_str().unwrap());
    let line = format!("{{\"access_key_id\":\"{id}\",\"secret_access_key\":\"{secret}\"}}\n");
    assert_eq!(said.stdout, line);
    assert_eq!((id.len(), secret.len()), (20, 40));
    assert_eq!(mode(&place.data()), 0o700);
    assert_eq!(mode(&place.data().join("host.db")), 0o600);
}

#[test]
fn people_get_two_lines() {
    let place = Place::new();
    let said = place.key("create --tenant acme --root").status(0).stdout;
    let lines: Vec<Vec<&str>> = said.lines().map(common::words).collect();
    assert_eq!((lines.len(), lines[0][0], lines[1][0]), (2, "key", "secret"), "{said}");
    assert!(lines[0][1].starts_with("AKIA"), "{said}");
}

#[test]
fn secrets_are_shown_once() {
    let place = Place::new();
    let make = |tenant: &str| {
        let key = place.key(&format!("create --json --tenant {tenant}")).status(0).json().remove(0);
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        (text("access_key_id"), text("secret_access_key"))
    };
    let keys = [make("acme"), make("acme"), make("umbrella")];
    let said = [place.key("ls"), place.key("ls --json"), place.key("ls --tenant acme")];
    for said in &said {
        for (_, secret) in &keys {
            assert!(!said.stdout.contains(secret) && !said.stderr.contains(secret), "{said:?}");
        }
    }
    let ids = |said: &Said| keys.iter().filter(|(id, _)| said.stdout.contains(id)).count();
    assert_eq!(said.iter().map(ids).collect::<Vec<_>>(), [3, 3, 2]);
    let listed = &said[1].json()[2];
    assert_eq!(
        (&listed["access_key_id"], &listed["tenant"]),
        (&json!(keys[2].0), &json!("umbrella"))
    );
    assert_eq!(listed["root"], json!(false));

    let (id, _) = &keys[0];
    place.key(&format!("rm {id}")).status(0).silent();
    assert_eq!(ids(&place.key("ls").status(0)), 2);
    let near = place.key(&format!("rm {id}")).status(2).silent();
    near.line(&format!("there is no key `{id}`"));
}

#[test]
fn what_is_wrong_is_named() {
    let place = Place::new();
    place.key("ls").status(2).silent().line("no function host's data here; make a first key");
    assert!(!place.data().exists(), "looking makes nothing");
    place.key("create --tenant Acme").status(2).silent().line("\"Acme\" is no tenant name: use");
    place.key("create --tenant acme").status(0);
    place.key("ls --tenant acne").status(2).silent().line("did you mean `acme`?");
    place.key("rm").status(2).line("--help`");
    let file = place.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut create = place.command(["key", "create", "--tenant", "acme", "--data"]);
    Said::from(create.arg(file.join("data")).output().unwrap()).status(2).line("Not a directory");
    fs::write(place.data().join("host.db"), "no database at all, whatever it is called").unwrap();
    place.key("ls").status(4).silent().line("host.db: the ledger cannot be read or written");
}
