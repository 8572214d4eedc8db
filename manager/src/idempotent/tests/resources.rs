//! Files, honest and otherwise.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::SystemTime;

use nix::sys::stat::Mode;

use super::*;

/// The folder of tenants `acme` and `other`.
fn folder() -> (tempfile::TempDir, Resources) {
    let folder = tempfile::tempdir().unwrap();
    for tenant in ["acme", "other"] {
        std::fs::create_dir(folder.path().join(tenant)).unwrap();
        std::fs::write(folder.path().join(tenant).join("a"), tenant).unwrap();
    }
    let resources = Resources::open(folder.path()).unwrap();
    (folder, resources)
}

#[test]
fn a_state_is_the_hash_of_the_content() {
    let (folder, resources) = folder();
    let path = folder.path().join("acme/prices/today.csv");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "abc").unwrap();
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(resources.state("acme", "prices/today.csv").as_deref(), Some(abc));
    std::fs::write(&path, "").unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(resources.state("acme", "prices/today.csv").as_deref(), Some(empty));
    assert_ne!(resources.state("acme", "a"), resources.state("other", "a"));
}

#[test]
fn a_hash_is_remembered_until_its_file_changes() {
    let (folder, resources) = folder();
    let path = folder.path().join("acme/a");
    let first = resources.state("acme", "a").unwrap();
    assert_eq!(resources.remembered(), 0, "it was just written");
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(resources.state("acme", "a").as_ref(), Some(&first));
    assert_eq!(resources.remembered(), 1);
    // Same length, and the time of before put back: the change time tells.
    let modified = path.metadata().unwrap().modified().unwrap();
    std::fs::write(&path, "emca").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let second = resources.state("acme", "a").unwrap();
    assert_ne!(second, first);
    // Another file of its name.
    std::fs::write(folder.path().join("acme/b"), "acme").unwrap();
    std::fs::rename(folder.path().join("acme/b"), &path).unwrap();
    assert_eq!(resources.state("acme", "a"), Some(first));
}

#[test]
fn a_file_of_the_future_is_never_remembered() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let stamp = crate::idempotent::resources::stamp(file.as_file()).unwrap();
    let settled = crate::idempotent::resources::settled;
    assert!(!settled(stamp, SystemTime::now() - Duration::from_secs(3600)));
    assert!(!settled(stamp, SystemTime::UNIX_EPOCH - Duration::from_secs(1)));
    assert!(settled(stamp, SystemTime::now() + Duration::from_secs(3600)));
}

#[test]
fn only_files_of_the_tenant_have_a_state() {
    let (folder, resources) = folder();
    let acme = folder.path().join("acme");
    let outside = folder.path().join("other/a");
    symlink(&outside, acme.join("link")).unwrap();
    symlink("a", acme.join("link-inside")).unwrap();
    symlink(folder.path().join("other"), acme.join("link-folder")).unwrap();
    symlink(".", acme.join("link-here")).unwrap();
    nix::unistd::mkfifo(&acme.join("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(acme.join("socket")).unwrap();
    std::fs::create_dir(acme.join("folder")).unwrap();
    let absolute = outside.to_str().unwrap();
    let long = "x/".repeat(600) + "x";
    for name in [
        "link",
        "link-inside",
        "link-folder/a",
        "link-here/a",
        "fifo",
        "socket",
        "folder",
        "folder/",
        "missing",
        "a/a",
        "",
        ".",
        "..",
        "/",
        "../other/a",
        "folder/../a",
        "./a",
        "a/",
        "//a",
        "a\0",
        "a\n",
        absolute,
        "/etc/passwd",
        &long,
    ] {
        assert_eq!(resources.state("acme", name), None, "{name:?}");
    }
    assert!(resources.state("acme", "a").is_some());
    for tenant in ["", ".", "..", "acme/folder", "nobody", "/"] {
        assert_eq!(resources.state(tenant, "a"), None, "{tenant:?}");
    }
}

#[test]
fn a_tenants_folder_is_no_link() {
    let (folder, resources) = folder();
    symlink("other", folder.path().join("third")).unwrap();
    assert_eq!(resources.state("third", "a"), None);
}

#[test]
fn large_files_and_long_lists_have_no_state() {
    let (folder, resources) = folder();
    let file = std::fs::File::create(folder.path().join("acme/large")).unwrap();
    file.set_len(LARGEST_RESOURCE + 1).unwrap();
    assert_eq!(resources.state("acme", "large"), None);
    let names = |many| vec!["a".to_owned(); many];
    assert!(resources.states("acme", &names(MOST_RESOURCES)).is_some());
    assert_eq!(resources.states("acme", &names(MOST_RESOURCES + 1)), None);
}

#[test]
fn states_are_told_all_or_none() {
    let (_folder, resources) = folder();
    let names = |names: &[&str]| names.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
    assert_eq!(resources.states("acme", &[]).as_deref(), Some("{}"));
    assert_eq!(resources.states("acme", &names(&["a", "missing"])), None);
    assert!(Resources::open(Path::new("/nowhere")).is_err());
}
