//! Other versions, other hosts, and manifests forged with a matching id.

use std::fs;

use serde_json::{Value, json};

use crate::testing::*;
use crate::*;

/// Changes the manifest of `name` and gives the snapshot the id that goes with it.
fn forge(f: &Fixture, name: &str, change: impl FnOnce(&mut Value)) {
    let old = fs::read_link(f.path("names").join(name)).unwrap();
    let old = f.path("names").join(old);
    let mut manifest =
        serde_json::from_slice(&fs::read(old.join("manifest.json")).unwrap()).unwrap();
    change(&mut manifest);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let id = Digest::of(&bytes).hex();
    fs::remove_file(old.join("manifest.json")).unwrap();
    fs::write(old.join("manifest.json"), bytes).unwrap();
    fs::rename(&old, f.path("snapshots").join(&id)).unwrap();
    fs::remove_file(f.path("names").join(name)).unwrap();
    std::os::unix::fs::symlink(format!("../snapshots/{id}"), f.path("names").join(name)).unwrap();
}

fn opened_after(change: impl FnOnce(&mut Value)) -> Error {
    let f = Fixture::new();
    f.build("py");
    forge(&f, "py", change);
    f.open("py").unwrap_err()
}

#[test]
fn another_format_version() {
    let error = opened_after(|m| {
        m["format_version"] = json!(3);
        m["a field of the future"] = json!({});
    });
    assert!(matches!(&error, Error::FormatVersion { name, found: 3 } if name == "py"), "{error:?}");
    assert!(error.to_string().contains("rebuild it with `calve snapshot build`"));
}

#[test]
fn another_architecture() {
    for other in ["aarch64", "riscv64"] {
        let error = opened_after(|m| m["architecture"] = json!(other));
        assert!(matches!(&error, Error::Architecture { found, .. } if found == other), "{error:?}");
    }
}

#[test]
fn another_cpu() {
    let f = Fixture::new();
    f.build("py");
    let open = |host: &Host| f.store.snapshot("py", host, Verify::Structure);
    assert!(open(&host()).is_ok());
    let intel = Host { vendor: "GenuineIntel".into(), ..host() };
    let error = open(&intel).unwrap_err();
    assert!(matches!(&error, Error::CpuVendor { host, .. } if host == "GenuineIntel"), "{error:?}");
    let mut older = host();
    older.features.remove("avx2");
    let error = open(&older).unwrap_err();
    assert!(
        matches!(&error, Error::CpuFeatures { missing, .. } if *missing == ["avx2"]),
        "{error:?}"
    );
    f.store.verify("py", &mut |_, _| {}).unwrap(); // asks for no host
}

#[test]
fn the_state_is_of_the_manifests_architecture() {
    let f = Fixture::new();
    f.build("py");
    forge(&f, "py", |m| m["architecture"] = json!("aarch64"));
    let arm = Host { architecture: Architecture::Aarch64, ..host() };
    let error = f.store.snapshot("py", &arm, Verify::Structure).unwrap_err();
    assert!(matches!(error, Error::Damaged { damage: Damage::Architecture, .. }), "{error:?}");
}

#[test]
fn page_counts_must_be_true() {
    let error = opened_after(|m| m["layers"][0]["pages"] = json!(6));
    assert!(matches!(&error, Error::Damaged { file, .. } if file == "manifest.json"), "{error:?}");
}

#[test]
fn a_forged_manifest_is_refused_before_its_files_are_opened() {
    let error = opened_after(|m| m["layers"][0]["file"] = json!("/etc/passwd"));
    assert!(matches!(&error, Error::Damaged { file, .. } if file == "manifest.json"), "{error:?}");
}

#[test]
fn a_manifest_over_its_bound_is_not_read() {
    let f = Fixture::new();
    let id = f.build("py");
    let path = f.path("snapshots").join(id.hex()).join("manifest.json");
    fs::remove_file(&path).unwrap();
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(f.open("py"), Err(Error::Damaged { .. })));
}

#[test]
fn links_out_of_the_store_are_not_followed() {
    let f = Fixture::new();
    let id = f.build("py").hex();
    let dir = f.path("snapshots").join(&id);
    let outside = f.dir.path().join("memory");
    fs::rename(dir.join("memory.0"), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, dir.join("memory.0")).unwrap();
    let error = f.open("py").unwrap_err();
    assert!(matches!(error, Error::Damaged { damage: Damage::NotRegular, .. }), "{error:?}");
    // Nor is the directory, nor a name that links elsewhere.
    let moved = f.dir.path().join("moved");
    fs::rename(&dir, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &dir).unwrap();
    assert!(matches!(f.open("py"), Err(Error::Damaged { .. })));
    std::os::unix::fs::symlink(&moved, f.path("names/out")).unwrap();
    assert!(matches!(f.open("out"), Err(Error::NotFound { .. })));
}

#[test]
fn stamps_spare_the_second_reading_and_no_more() {
    let f = Fixture::new();
    let id = f.build("py");
    let mut read = 0;
    let open = |read: &mut u64| {
        *read = 0;
        let mut progress = |done, _| *read = done;
        crate::snapshot::open(&f.store, "py", Some(&host()), Verify::Stamped, None, &mut progress)
    };
    let all = 5 * 4096 + (KERNEL.len() + ROOT.len()) as u64;
    open(&mut read).unwrap();
    assert_eq!(read, all, "nothing is stamped yet");
    let memory = f.path("snapshots").join(id.hex()).join("memory.0");
    // A stamp is only given to a file that has been left alone for a while: wait for that.
    while !crate::store::Stamp::of(&fs::File::open(&memory).unwrap()).unwrap().settled() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    open(&mut read).unwrap();
    assert_eq!(read, all, "this time it leaves stamps");
    open(&mut read).unwrap();
    assert_eq!(read, 0, "nothing need be read again");
    super::damage::flip(&memory, 5000);
    let error = open(&mut read).unwrap_err();
    assert!(matches!(&error, Error::Damaged { file, .. } if file == "memory.0"), "{error:?}");
}
