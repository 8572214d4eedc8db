//! Layers over HTTP: what is asked, what is printed.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::Place;
use common::stub::{Reply, Stub};
use serde_json::{Value, json};

fn version(name: &str, number: u32) -> Value {
    json!({
        "LayerVersionArn": format!("arn:aws:lambda:r:1:layer:{name}:{number}"), "Version": number,
        "CreatedDate": "2026-01-01T00:00:00.000+0000", "CompatibleRuntimes": ["python3.11"],
        "Description": "shared",
    })
}

#[test]
fn a_folder_is_published() {
    let place = Place::new();
    let stub = Stub::always(|| Reply::new(201, version("l", 3)));
    let content = place.folder.path().join("content");
    fs::create_dir_all(content.join("python")).unwrap();
    fs::write(content.join("python/x.py"), "IS = 1\n").unwrap();
    let content = content.to_str().unwrap();
    let line = ["layer", "publish", "l", "--content", content];
    let more = ["--runtime", "python3.11", "--license", "MIT", "--description", "what"];
    let said = stub.calve(&place, &[&line[..], &more].concat()).status(0);
    assert_eq!((&*said.stdout, &*said.stderr), ("arn:aws:lambda:r:1:layer:l:3\n", ""));
    assert_eq!(stub.lines(), ["POST /2018-10-31/layers/l/versions"]);
    let mut asked = stub.heard()[0].json();
    let zip = STANDARD.decode(asked["Content"]["ZipFile"].as_str().unwrap()).unwrap();
    assert_eq!(zip::ZipArchive::new(Cursor::new(zip)).unwrap().len(), 2);
    asked["Content"] = json!("checked");
    assert_eq!(
        asked,
        json!({
            "Content": "checked", "Description": "what", "LicenseInfo": "MIT",
            "CompatibleRuntimes": ["python3.11"],
        })
    );
    stub.calve(&place, &["layer", "publish", "l", "--content", "/nowhere"])
        .status(2)
        .line("cannot read /nowhere: No such file");
    assert_eq!(stub.heard().len(), 1);
}

#[test]
fn layers_are_listed_and_the_versions_of_one() {
    let place = Place::new();
    let stub = Stub::new(|heard, _| {
        let layer = |name, number| json!({ "LayerName": name, "LayerArn": "arn", "LatestMatchingVersion": version(name, number) });
        let page = match &*heard.line {
            "GET /2018-10-31/layers" => json!({ "Layers": [layer("a", 7)], "NextMarker": "a" }),
            "GET /2018-10-31/layers?Marker=a" => json!({ "Layers": [layer("b", 1)] }),
            "GET /2018-10-31/layers/a/versions" => {
                json!({ "LayerVersions": [version("a", 7), version("a", 6)] })
            }
            other => panic!("{other}"),
        };
        Reply::new(200, page)
    });
    let said = stub.calve(&place, &["layer", "ls"]).status(0);
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{said:#?}");
    assert!(lines[1].starts_with("a") && lines[1].contains(":layer:a:7"), "{said:#?}");
    let said = stub.calve(&place, &["layer", "ls", "--json"]).status(0).json();
    assert_eq!(said[1]["LayerName"], "b");
    let said = stub.calve(&place, &["layer", "ls", "a", "--json"]).status(0).json();
    assert_eq!(said, [version("a", 7), version("a", 6)]);
    assert!(stub.calve(&place, &["layer", "ls", "a"]).status(0).stdout.contains("python3.11"));
}

#[test]
fn versions_are_removed_by_name_or_arn() {
    let place = Place::new();
    let stub = Stub::always(|| Reply::new(204, ""));
    let arn = "arn:aws:lambda:r:1:layer:b:2";
    assert_eq!(stub.calve(&place, &["layer", "rm", "a:1", arn]).status(0).stdout, "");
    let path = "DELETE /2018-10-31/layers";
    let of_arn = format!("{path}/arn%3Aaws%3Alambda%3Ar%3A1%3Alayer%3Ab/versions/2");
    assert_eq!(stub.lines(), [format!("{path}/a/versions/1"), of_arn]);
    stub.calve(&place, &["layer", "rm", "a"])
        .status(2)
        .line("a: which version? Write NAME:VERSION");
}
