//! Layer versions: their numbers, and who sees them.

use super::*;

fn layer(tenant: &str, name: &str) -> LayerVersion {
    LayerVersion {
        tenant: tenant.into(),
        name: name.into(),
        number: 0,
        code: Code { sha256: "11".repeat(32), size: 7 },
        unzipped: 9,
        description: "räksmörgås".into(),
        license: "MIT".into(),
        runtimes: vec!["python3.11".into()],
        architectures: Vec::new(),
        created: 1,
    }
}

fn numbered(tenant: &str, name: &str, number: u32) -> LayerVersion {
    LayerVersion { number, ..layer(tenant, name) }
}

#[test]
fn each_layer_of_each_tenant_is_numbered_by_itself() {
    let (_directory, ledger) = ledger();
    for (tenant, name, number) in
        [("acme", "b", 1), ("acme", "a", 1), ("acme", "a", 2), ("other", "a", 1)]
    {
        assert_eq!(ledger.add_layer(&layer(tenant, name)).unwrap(), number);
    }
    let of_acme = [numbered("acme", "a", 1), numbered("acme", "a", 2), numbered("acme", "b", 1)];
    assert_eq!(ledger.layers("acme").unwrap(), of_acme);
    assert_eq!(ledger.layer("acme", "a", 2).unwrap(), Some(numbered("acme", "a", 2)));
    assert_eq!(ledger.layer("other", "a", 2).unwrap(), None);
}

#[test]
fn a_number_is_not_given_twice() {
    let (directory, ledger) = ledger();
    ledger.add_layer(&layer("acme", "a")).unwrap();
    assert!(ledger.remove_layer("acme", "a", 1).unwrap());
    assert!(!ledger.remove_layer("acme", "a", 1).unwrap());
    assert_eq!(ledger.layers("acme").unwrap(), []);
    drop(ledger);
    let ledger = SqliteLedger::open(&directory.path().join("ledger")).unwrap();
    assert_eq!(ledger.add_layer(&layer("acme", "a")).unwrap(), 2);
}

#[test]
fn a_ledger_of_before_layers_gets_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../schema-1.sql")).unwrap();
    let mut document = serde_json::to_value(function("acme", "f")).unwrap();
    let configuration = document["latest"]["configuration"].as_object_mut().unwrap();
    configuration.remove("layer_versions");
    configuration.insert("layers".into(), vec!["arn:aws:lambda:r:1:layer:kept:1"].into());
    let sql = "INSERT INTO functions (tenant, name, document) VALUES ('acme', 'f', ?1)";
    old.execute(sql, [document.to_string()]).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);

    let ledger = SqliteLedger::open(&path).unwrap();
    // What was kept of layers was never mounted, nor looked at.
    assert_eq!(ledger.functions().unwrap(), [function("acme", "f")]);
    assert_eq!(ledger.add_layer(&layer("acme", "a")).unwrap(), 1);
}
