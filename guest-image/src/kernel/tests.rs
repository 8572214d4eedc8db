use super::*;
use crate::progress::Silent;
use std::fs;

fn id(version: &str) -> SourceId {
    SourceId { version: version.to_owned(), sha256: "00".repeat(32) }
}

/// Puts a kernel that is only a shape into a cache.
fn plant(cache: &Cache, id: &SourceId) -> PathBuf {
    let dir = cache.kernels().join(key(id));
    fs::create_dir_all(&dir).unwrap();
    for file in ["vmlinux", "bzImage", "System.map", "config"] {
        fs::write(dir.join(file), file).unwrap();
    }
    let manifest = KernelManifest {
        key: key(id),
        release: "6.12-calve".to_owned(),
        source_version: id.version.clone(),
        source_sha256: id.sha256.clone(),
        vmlinux_sha256: digest::of_file(&dir.join("vmlinux")).unwrap(),
        vmlinux_bytes: 7,
        bzimage_sha256: digest::of_file(&dir.join("bzImage")).unwrap(),
        bzimage_bytes: 7,
        build_seconds: 1,
    };
    fsutil::write_json(&dir.join(MANIFEST), &manifest).unwrap();
    fsutil::write_json(&cache.kernels().join(SOURCE), id).unwrap();
    dir
}

/// Any stage at all means that work was begun.
struct NoWork;

impl Progress for NoWork {
    fn stage(&mut self, what: &str) {
        panic!("began: {what}");
    }
}

#[test]
fn a_cached_kernel_needs_no_work() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path());
    let planted = plant(&cache, &id("1"));
    let image = ensure(&cache, &mut NoWork).unwrap();
    assert_eq!(image.vmlinux, planted.join("vmlinux"));
    assert_eq!(image.manifest.source_version, "1");
}

#[test]
fn the_key_follows_the_source() {
    assert_eq!(key(&id("1")), key(&id("1")));
    assert_ne!(key(&id("1")), key(&id("2")));
    let other = SourceId { sha256: "11".repeat(32), ..id("1") };
    assert_ne!(key(&id("1")), key(&other));
}

#[test]
fn a_kernel_with_a_short_or_missing_file_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path());
    let planted = plant(&cache, &id("1"));
    assert!(find(&cache, &id("1")).is_some());
    assert!(find(&cache, &id("2")).is_none());
    fs::write(planted.join("vmlinux"), "vml").unwrap();
    assert!(find(&cache, &id("1")).is_none());
    plant(&cache, &id("1"));
    fs::remove_file(planted.join("bzImage")).unwrap();
    assert!(find(&cache, &id("1")).is_none());
}

#[test]
fn a_cache_that_is_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cache");
    fs::write(&file, "").unwrap();
    let error = ensure(&Cache::at(&file), &mut Silent).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
}
