//! Build, list, open, inspect, rebuild, remove.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use crate::testing::*;
use crate::*;

#[test]
fn what_was_built_is_what_is_opened() {
    let f = Fixture::new();
    let id = f.build("py");
    let snapshot = f.open("py").unwrap();
    assert_eq!((snapshot.name(), snapshot.id()), ("py", id));
    assert_eq!(snapshot.state().encode(), golden_state());
    let mut memory = vec![0; 1 << 20];
    snapshot.memory()[0].read_exact_at(&mut memory, 0).unwrap();
    assert!(memory == Ram::golden().bytes());
    let mut kernel = vec![0; KERNEL.len()];
    snapshot.kernel().read_exact_at(&mut kernel, 0).unwrap();
    assert_eq!(kernel, KERNEL);
    assert!(snapshot.code().is_none());
}

#[test]
fn a_draft_writes_the_golden_manifest() {
    let f = Fixture::new();
    let id = f.draft("py").commit_at(golden_time(), recipe()).unwrap();
    assert_eq!(id.hex(), GOLDEN_ID);
    let written = fs::read(f.path("names/py/manifest.json")).unwrap();
    assert_eq!(written, golden_manifest());
}

#[test]
fn the_same_snapshot_built_again_replaces_a_damaged_one() {
    let f = Fixture::new();
    for name in ["a", "b"] {
        let id = f.draft(name).commit_at(golden_time(), recipe()).unwrap();
        assert_eq!(id.hex(), GOLDEN_ID);
        assert_eq!(f.open(name).unwrap().id(), id);
        super::damage::flip(&f.path("snapshots").join(GOLDEN_ID).join("state"), 30);
        assert!(f.open(name).is_err());
    }
    f.draft("b").commit_at(golden_time(), recipe()).unwrap();
    f.open("a").unwrap();
    f.store.remove("a").unwrap();
    f.open("b").unwrap();
    f.store.remove("b").unwrap();
    assert_eq!(f.files(), [""; 0]);
}

#[test]
fn the_golden_snapshot_opens() {
    let f = Fixture::new();
    f.build("other"); // brings the images
    let dir = f.path("snapshots").join(GOLDEN_ID);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("manifest.json"), golden_manifest()).unwrap();
    fs::write(dir.join("state"), golden_state()).unwrap();
    fs::write(dir.join("memory.0"), Ram::golden().bytes()).unwrap();
    let target = format!("../snapshots/{GOLDEN_ID}");
    std::os::unix::fs::symlink(target, f.path("names/golden")).unwrap();
    assert_eq!(f.open("golden").unwrap().id().hex(), GOLDEN_ID);
}

#[test]
fn everything_is_the_owners_alone_and_read_only() {
    let f = Fixture::new();
    f.build("py");
    let mode =
        |path: &str| fs::symlink_metadata(f.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for file in f.files() {
        let path = f.path(&file);
        if path.is_symlink() {
            continue;
        }
        assert_eq!(mode(&file), if path.is_dir() { 0o700 } else { 0o400 }, "{file}");
    }
}

#[test]
fn a_store_that_others_may_write_is_refused() {
    let f = Fixture::new();
    fs::set_permissions(f.path(""), fs::Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(Store::open(f.path("")), Err(Error::NotPrivate(_))));
}

#[test]
fn equal_images_are_kept_once() {
    let f = Fixture::new();
    f.build("a");
    f.build("b");
    assert_eq!(fs::read_dir(f.path("images")).unwrap().count(), 2); // kernel, root
    f.store.remove("a").unwrap();
    assert!(f.open("b").is_ok());
    f.store.remove("b").unwrap();
    assert_eq!(f.files(), [""; 0]);
}

#[test]
fn a_damaged_image_in_the_store_is_healed_by_the_next_build() {
    let f = Fixture::new();
    f.build("a");
    let image = f.path("images").join(Digest::of(ROOT).hex());
    fs::remove_file(&image).unwrap();
    fs::write(&image, b"golden root?").unwrap();
    assert!(matches!(f.open("a"), Err(Error::Damaged { .. })));
    f.build("b");
    f.open("a").unwrap();
    f.open("b").unwrap();
}

#[test]
fn a_rebuild_takes_the_place_of_the_old_one() {
    let f = Fixture::new();
    let old = f.build("py");
    let open = f.open("py").unwrap();
    let mut draft = f.draft("py");
    assert_eq!(f.open("py").unwrap().id(), old, "the old one stays until the commit");
    draft.add_image(Role::Code, &f.input("code", b"code")).unwrap();
    let new = draft.commit(recipe_with_code()).unwrap();
    assert_ne!(old, new);
    let snapshot = f.open("py").unwrap();
    assert_eq!(snapshot.id(), new);
    assert!(snapshot.code().is_some());
    assert!(!f.path("snapshots").join(old.hex()).exists());
    // Whoever had the old one open keeps it.
    open.memory()[0].read_exact_at(&mut [0; 4096], 4096).unwrap();
}

#[test]
fn removal_leaves_open_snapshots_alone() {
    let f = Fixture::new();
    f.build("py");
    let snapshot = f.open("py").unwrap();
    f.store.remove("py").unwrap();
    assert_eq!(f.files(), [""; 0]);
    let mut page = [0; 4096];
    snapshot.memory()[0].read_exact_at(&mut page, 2 * 4096).unwrap();
    assert_eq!(page, [2; 4096]);
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let f = Fixture::new();
    let unknown = f.store.remove("py").unwrap_err().to_string();
    assert!(unknown.contains("the store is empty"), "{unknown}");
    f.build("node");
    for error in [f.open("py").map(drop), f.store.remove("py"), f.store.inspect("py").map(drop)] {
        let Err(Error::NotFound { name, known, .. }) = error else { panic!("{error:?}") };
        assert_eq!((&name[..], known), ("py", vec!["node".to_owned()]));
    }
    assert!(matches!(f.open("../node"), Err(Error::InvalidName(_))));
    assert!(matches!(f.store.draft(".node"), Err(Error::InvalidName(_))));
}

#[test]
fn the_list_shows_bad_snapshots_among_the_good() {
    let f = Fixture::new();
    let (b, a) = (f.build("b"), f.build("a"));
    fs::remove_file(f.path("snapshots").join(b.hex()).join("manifest.json")).unwrap();
    let list = f.store.list().unwrap();
    let names: Vec<_> = list.iter().map(|e| (&e.name[..], e.id)).collect();
    assert_eq!(names, [("a", a), ("b", b)]);
    assert_eq!(f.store.names().unwrap(), ["a", "b"]);
    assert!(list[0].manifest.is_ok());
    assert!(matches!(&list[1].manifest, Err(Error::Damaged { name, .. }) if name == "b"));
    f.store.remove("b").unwrap(); // can be removed all the same, without taking images from `a`
    f.open("a").unwrap();
}

#[test]
fn inspection_counts_bytes_on_disk() {
    let f = Fixture::new();
    f.build("py");
    let found = f.store.inspect("py").unwrap();
    let memory = found.files.iter().find(|file| file.name == "memory.0").unwrap();
    assert_eq!(memory.length, 1 << 20);
    assert!((5 * 4096..1 << 20).contains(&memory.on_disk), "{}", memory.on_disk);
    assert_eq!(found.manifest.layers[0].pages, 5);
    assert_eq!(found.sections[0].name, "vcpu.0");
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["sections"][0]["length"], 4);
}

/// Page 2 is all sevens, page 3 zeros.
pub(super) struct Upper(pub(super) MemoryLayout);

impl MemorySource for Upper {
    fn layout(&self) -> &MemoryLayout {
        &self.0
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        for (page, at) in buf.chunks_mut(4096).zip((offset..).step_by(4096)) {
            page.fill(if at == 2 * 4096 { 7 } else { 0 });
        }
        Ok(())
    }
}

#[test]
fn a_snapshot_that_stands_on_another_shares_its_memory_and_outlives_it() {
    let fixture = Fixture::new();
    fixture.build("runtime");
    let base = fixture.open("runtime").unwrap();
    let build = |name: &str| {
        let mut draft = fixture.draft(name);
        draft.stand_on(&base).unwrap();
        let layout = base.manifest().machine.memory.clone();
        let extents = vec![Extent(2, 2)];
        draft.write_layer(&Upper(layout), extents.clone(), &mut |_, _| {}).unwrap();
        let layers = draft.memory().unwrap();
        assert_eq!(
            layers.iter().map(|layer| &layer.1).collect::<Vec<_>>(),
            [&None, &Some(extents)]
        );
        draft.commit(recipe()).unwrap()
    };
    build("a");
    build("b");
    let inode =
        |snapshot: &Snapshot, layer: usize| snapshot.memory()[layer].metadata().unwrap().ino();
    let (a, b) = (fixture.open("a").unwrap(), fixture.open("b").unwrap());
    assert_eq!((a.memory().len(), inode(&a, 0)), (2, inode(&base, 0)));
    assert_eq!(inode(&a, 0), inode(&b, 0));
    assert_eq!(a.manifest().layers[1].pages, 1, "a page of zeros is a hole, but of the layer");
    let shared = |name: &str| {
        let files = fixture.store.inspect(name).unwrap().files;
        files.iter().filter(|f| f.name.starts_with("memory")).map(|f| f.shared).collect::<Vec<_>>()
    };
    assert_eq!(shared("a"), [true, false]);

    // One that was removed meanwhile cannot be stood on; those that stand on it stay whole.
    fixture.store.remove("runtime").unwrap();
    drop((a, b));
    fixture.open("a").unwrap();
    fixture.store.remove("b").unwrap();
    assert_eq!(shared("a"), [false, false]);
    fixture.store.remove("a").unwrap();
    let mut draft = fixture.draft("c");
    let error = draft.stand_on(&base).unwrap_err().to_string();
    assert!(error.contains("memory.0"), "{error}");
}
