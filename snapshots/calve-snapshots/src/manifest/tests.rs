//! The format is pinned, and what does not add up is refused.

use serde_json::{Value, json};

use super::*;
use crate::testing::{GOLDEN_ID, golden_manifest};

fn with(change: impl FnOnce(&mut Value)) -> Result<Manifest, String> {
    let mut value: Value = serde_json::from_slice(golden_manifest()).unwrap();
    change(&mut value);
    let bytes = serde_json::to_vec(&value).unwrap();
    Manifest::try_from(&bytes[..]).map_err(|e| match e {
        ManifestError::Json(json) => json.to_string(),
        other => other.to_string(),
    })
}

#[test]
fn golden_bytes_are_read_and_written() {
    let manifest = Manifest::try_from(golden_manifest()).unwrap();
    assert_eq!(manifest.encode().unwrap(), golden_manifest());
    assert_eq!(Digest::of(golden_manifest()).hex(), GOLDEN_ID);
    assert_eq!(manifest.machine.memory.regions()[1].file_offset, 512 << 10);
}

#[test]
fn unknown_and_missing_fields_are_refused() {
    assert!(with(|_| {}).is_ok());
    for object in
        ["", "/cpu", "/machine", "/images", "/images/kernel", "/state", "/layers/0", "/function"]
    {
        let error = with(|m| m.pointer_mut(object).unwrap()["zzz"] = json!(1)).unwrap_err();
        assert!(error.contains("zzz"), "{object}: {error}");
    }
    for field in ["cpu", "machine", "images", "state", "layers", "function", "created_ms"] {
        let error = with(|m| drop(m.as_object_mut().unwrap().remove(field))).unwrap_err();
        assert!(error.contains(field), "{field}: {error}");
    }
}

#[test]
fn what_does_not_add_up_is_refused() {
    let layer = json!({"file": "memory.0"});
    let cases: &[(&str, Value, &str)] = &[
        ("/format_version", json!(1), "format version"),
        ("/machine/vcpus", json!(0), "vCPU"),
        ("/machine/vcpus", json!(256), "256"),
        ("/machine/disks", json!(0), "disks"),
        ("/machine/disks", json!(3), "disks"),
        ("/machine/memory_mib", json!(2), "memory_mib"),
        ("/machine/memory", json!([]), "memory regions"),
        ("/machine/memory/1/gpa", json!(4096), "overlaps"),
        ("/machine/memory/1/file_offset", json!(0), "follow"),
        ("/images/kernel/media_type", json!("application/vnd.calve.image.root.v1"), "media type"),
        ("/images/kernel/media_type", json!("text/plain"), "text/plain"),
        ("/images/root/digest", json!("sha256:00"), "digest"),
        ("/images/root/digest", json!(format!("sha256:{}", "A".repeat(64))), "digest"),
        ("/state/length", json!(1 << 30), "limit"),
        ("/layers", json!([]), "one memory layer"),
        ("/layers/0", layer, "missing field"),
        ("/layers/0/file", json!("../../../etc/passwd"), "memory.0"),
        ("/layers/0/file", json!("memory.1"), "memory.0"),
        ("/layers/0", upper(0, json!([[0, 1]])), "extents"),
        ("/layers/0/length", json!(4096), "as long as"),
        ("/layers/0/pages", json!(257), "more pages"),
        ("/layers/0/runs", json!(6), "more pages"),
    ];
    for (place, value, wanted) in cases {
        let error = with(|m| *m.pointer_mut(place).unwrap() = value.clone()).unwrap_err();
        assert!(error.contains(wanted), "{place}: {error}");
    }
}

/// The golden layer, as number `n` and with extents.
fn upper(n: usize, extents: Value) -> Value {
    let golden: Value = serde_json::from_slice(golden_manifest()).unwrap();
    let mut layer = golden["layers"][0].clone();
    layer["file"] = json!(format!("memory.{n}"));
    layer["extents"] = extents;
    layer
}

#[test]
fn upper_layers_say_what_they_have() {
    let add = |layers: &[Value]| {
        with(|m| layers.iter().for_each(|l| m["layers"].as_array_mut().unwrap().push(l.clone())))
    };
    assert!(add(&[upper(1, json!([[0, 2], [2, 1], [200, 56]]))]).is_ok());
    assert!(add(&[upper(1, json!([])), upper(2, json!([[9, 1]]))]).is_ok());
    for (layer, wanted) in [
        (upper(1, Value::Null), "extents"),
        (upper(1, json!([[0, 0]])), "extents"),
        (upper(1, json!([[200, 57]])), "extents"),
        (upper(1, json!([[5, 1], [4, 1]])), "extents"),
        (upper(2, json!([[0, 1]])), "memory.1"),
    ] {
        let error = add(std::slice::from_ref(&layer)).unwrap_err();
        assert!(error.contains(wanted), "{layer}: {error}");
    }
    let many: Vec<_> = (1..=MAX_LAYERS).map(|n| upper(n, json!([]))).collect();
    assert!(add(&many).unwrap_err().contains("not too many"));
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    let mut manifest = Manifest::try_from(golden_manifest()).unwrap();
    manifest.function.env.insert("BIG".into(), "x".repeat(MAX_MANIFEST_LEN));
    assert!(matches!(manifest.encode(), Err(ManifestError::TooLong(_))));
    manifest.function.env.clear();
    manifest.machine.vcpus = 0;
    assert!(matches!(manifest.encode(), Err(ManifestError::Invalid(_))));
}

#[test]
fn other_versions_are_identified() {
    let newer = br#"{"future": [1], "format_version": 7, "architecture": "riscv64"}"#;
    let identity = identify(newer).unwrap();
    assert_eq!((identity.format_version, &identity.architecture[..]), (7, "riscv64"));
    assert!(matches!(identify(b"[]"), Err(ManifestError::Json(_))));
    assert!(matches!(identify(&vec![b' '; MAX_MANIFEST_LEN + 1]), Err(ManifestError::TooLong(_))));
}

#[test]
fn hostile_nesting_does_not_exhaust_the_stack() {
    let deep = "[".repeat(MAX_MANIFEST_LEN);
    assert!(identify(deep.as_bytes()).is_err());
    assert!(Manifest::try_from(deep.as_bytes()).is_err());
    let inside = format!(r#"{{"format_version": 1, "architecture": "x86_64", "x": {deep}"#);
    assert!(identify(&inside.as_bytes()[..MAX_MANIFEST_LEN]).is_err());
}
