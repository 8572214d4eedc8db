use super::*;
use crate::list::{EntryKind, ls};
use std::fs::{self, File};

/// A file that starts like an agent for the guest.
fn plant_agent(path: &Path, body: &str) {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend([2, 0, 62, 0]);
    elf.extend(body.as_bytes());
    fs::write(path, elf).unwrap();
}

/// A cache with a base tree of one file in place of Debian's packages.
fn plant_base(cache: &Cache) -> Base {
    let recipe = recipe::Recipe::of(Runtime::Provided).digest();
    let id: base::BaseId = serde_json::from_value(serde_json::json!({
        "runtime": "provided", "suite": "bookworm", "recipe": recipe,
        "packages": [{"name": "x", "version": "1", "architecture": "all", "sha256": "00"}],
    }))
    .unwrap();
    let tree = cache.bases().join(format!("provided-{}", id.key())).join("tree");
    fs::create_dir_all(tree.join("usr/sbin")).unwrap();
    fs::write(tree.join("usr/file"), "content").unwrap();
    fsutil::write_json(&cache.bases().join("provided.json"), &id).unwrap();
    Base::remembered(cache, Runtime::Provided).unwrap()
}

/// Counts the stages of a build.
#[derive(Default)]
struct Stages(Vec<String>);

impl Progress for Stages {
    fn stage(&mut self, what: &str) {
        self.0.push(what.to_owned());
    }
}

#[test]
fn an_image_is_built_once_and_anew_for_another_agent() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path().join("cache"));
    let agent = dir.path().join("agent");
    plant_base(&cache);
    plant_agent(&agent, "one");

    let mut stages = Stages::default();
    let first = ensure(&cache, Runtime::Provided, &agent, &mut stages).unwrap();
    assert_eq!(stages.0, ["Packing the provided root image"]);
    assert_eq!(first.digest, digest::of_file(&first.path).unwrap());
    let again = ensure(&cache, Runtime::Provided, &agent, &mut stages).unwrap();
    assert_eq!((again, stages.0.len()), (first.clone(), 1));

    plant_agent(&agent, "two");
    let other = ensure(&cache, Runtime::Provided, &agent, &mut stages).unwrap();
    assert_ne!(other.digest, first.digest);
    // The first agent's image again, in another cache: the same bytes.
    let elsewhere = Cache::at(dir.path().join("elsewhere"));
    plant_base(&elsewhere);
    plant_agent(&agent, "one");
    let same = ensure(&elsewhere, Runtime::Provided, &agent, &mut stages).unwrap();
    assert_eq!(same.digest, first.digest);

    let listed = ls(&cache).unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|e| e.kind == EntryKind::Root && e.name == "provided"));
}

#[test]
fn a_truncated_image_is_built_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path().join("cache"));
    let agent = dir.path().join("agent");
    plant_base(&cache);
    plant_agent(&agent, "one");
    let image = ensure(&cache, Runtime::Provided, &agent, &mut Stages::default()).unwrap();
    File::options().write(true).open(&image.path).unwrap().set_len(100).unwrap();
    let mended = ensure(&cache, Runtime::Provided, &agent, &mut Stages::default()).unwrap();
    assert_eq!(mended.digest, digest::of_file(&mended.path).unwrap());
    assert_eq!(mended, image);
}

#[test]
fn a_base_of_another_recipe_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path());
    let base = plant_base(&cache);
    assert!(Base::remembered(&cache, Runtime::Python311).is_none());
    let path = cache.bases().join("provided.json");
    let changed = fs::read_to_string(&path).unwrap().replace("\"recipe\": \"", "\"recipe\": \"0");
    fs::write(&path, changed).unwrap();
    assert!(Base::remembered(&cache, Runtime::Provided).is_none());
    drop(base);
}

#[test]
fn an_agent_that_is_missing_or_no_program_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path().join("cache"));
    let agent = dir.path().join("agent");
    let error = |agent: &Path| {
        ensure(&cache, Runtime::Provided, agent, &mut Stages::default()).unwrap_err().to_string()
    };
    assert!(error(&agent).contains(agent.to_str().unwrap()));
    fs::write(&agent, "#!/bin/sh\n").unwrap();
    assert!(error(&agent).contains("is no static x86-64 executable"));
}

#[test]
fn only_the_newest_images_of_a_runtime_are_kept() {
    let roots = tempfile::tempdir().unwrap();
    for (n, name) in (0..).zip(["provided-a", "node20-x", "provided-b", "provided-c", "provided-d"])
    {
        let path = roots.path().join(name);
        fs::create_dir(&path).unwrap();
        let made = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n * 60);
        File::open(&path).unwrap().set_modified(made).unwrap();
    }
    // The clock went back: the image just made looks oldest.
    let newest = roots.path().join("provided-a");
    remove_old(roots.path(), Runtime::Provided, &newest).unwrap();
    assert!(newest.is_dir());
    remove_old(roots.path(), Runtime::Provided, &roots.path().join("provided-d")).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(roots.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["node20-x", "provided-b", "provided-c", "provided-d"]);
}
