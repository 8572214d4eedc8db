//! Drafts: one builder a name, nothing left behind.

use std::fs;
use std::io;

use crate::testing::*;
use crate::*;

#[test]
fn a_dropped_draft_leaves_nothing() {
    let f = Fixture::new();
    drop(f.draft("py"));
    assert_eq!(f.files(), [""; 0]);
}

#[test]
fn a_dropped_rebuild_leaves_the_old_snapshot() {
    let f = Fixture::new();
    let id = f.build("py");
    let before = f.files();
    drop(f.draft("py"));
    assert_eq!(f.files(), before);
    assert_eq!(f.open("py").unwrap().id(), id);
}

#[test]
fn one_builder_a_name() {
    let f = Fixture::new();
    let first = f.draft("py");
    assert!(matches!(f.store.draft("py"), Err(Error::NameBusy(name)) if name == "py"));
    let second = Store::open(f.path("")).unwrap();
    assert!(matches!(second.draft("py"), Err(Error::NameBusy(_))));
    let other = second.draft("node").unwrap();
    drop(other);
    first.commit(recipe()).unwrap();
    drop(second.draft("py").unwrap()); // the name is free again
    f.open("py").unwrap();
}

#[test]
fn a_commit_wants_every_part() {
    let f = Fixture::new();
    let commit = |parts: &[&str]| {
        let mut draft = f.store.draft("py").unwrap();
        for part in parts {
            match *part {
                "state" => draft.write_state(&State::try_from(&golden_state()[..]).unwrap()),
                "memory" => draft.write_memory(&Ram::golden(), &mut |_, _| {}),
                _ => draft.add_image(Role::Kernel, &f.input("k", KERNEL)).map(drop),
            }
            .unwrap();
        }
        match draft.commit(recipe()) {
            Err(Error::Incomplete { missing, .. }) => missing,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(commit(&[]), "state");
    assert_eq!(commit(&["state"]), "memory");
    assert_eq!(commit(&["state", "memory"]), "kernel");
    assert_eq!(commit(&["state", "memory", "kernel"]), "root image");
    assert_eq!(f.files(), [""; 0]);
}

#[test]
fn parts_may_be_written_again() {
    let f = Fixture::new();
    let mut draft = f.draft("py");
    draft.add_image(Role::Root, &f.input("root2", b"second root")).unwrap();
    draft.write_state(&State::new(Architecture::X86_64, vec![]).unwrap()).unwrap();
    draft.write_memory(&Ram::golden(), &mut |_, _| {}).unwrap();
    draft.commit(recipe()).unwrap();
    let snapshot = f.open("py").unwrap();
    assert!(snapshot.state().sections().is_empty());
    assert_eq!(snapshot.manifest().images.root.digest, Digest::of(b"second root"));
}

#[test]
fn one_file_in_two_roles() {
    let f = Fixture::new();
    for name in ["new", "adopted"] {
        let mut draft = f.draft(name);
        draft.add_image(Role::Code, &f.input("root", ROOT)).unwrap();
        draft.commit(recipe_with_code()).unwrap();
        f.open(name).unwrap();
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let f = Fixture::new();
    let mut draft = f.store.draft("py").unwrap();
    let missing = draft.add_image(Role::Root, &f.path("nowhere"));
    assert!(matches!(missing, Err(Error::Io { action: "open", .. })), "{missing:?}");
    let fifo = f.dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [f.dir.path(), &fifo, "/dev/zero".as_ref()] {
        assert!(matches!(draft.add_image(Role::Root, path), Err(Error::NotAnImage(_))), "{path:?}");
    }
}

#[test]
fn a_recipe_that_does_not_fit_is_refused() {
    let f = Fixture::new();
    let mut recipe = recipe();
    recipe.vcpus = 0;
    assert!(matches!(f.draft("py").commit(recipe), Err(Error::Describe { .. })));
    assert_eq!(f.files(), [""; 0]);
}

#[test]
fn unreadable_memory_is_the_machines_fault() {
    struct Broken(MemoryLayout);
    impl MemorySource for Broken {
        fn layout(&self) -> &MemoryLayout {
            &self.0
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            Err(io::Error::other("gone"))
        }
    }
    let f = Fixture::new();
    let broken = Broken(Ram::golden().layout);
    let result = f.store.draft("py").unwrap().write_memory(&broken, &mut |_, _| {});
    assert!(matches!(result, Err(Error::ReadMemory(_))));
}

#[test]
fn leftovers_of_dead_builders_are_swept_when_the_store_is_opened() {
    let f = Fixture::new();
    f.build("py");
    let before = f.files();
    // As kill -9 leaves them: a draft that nobody locks, a link not yet in its place, and a snapshot
    // that was renamed but not named, with an image of its own.
    fs::create_dir(f.path("tmp/dead")).unwrap();
    fs::write(f.path("tmp/dead/memory.0"), b"half").unwrap();
    std::os::unix::fs::symlink("x", f.path("tmp/.link-py")).unwrap();
    let nameless = f.path("snapshots").join(Digest::of(b"nameless").hex());
    fs::create_dir(&nameless).unwrap();
    fs::write(nameless.join("manifest.json"), b"{}").unwrap();
    fs::write(f.path("images").join(Digest::of(b"image").hex()), b"image").unwrap();

    let alive = f.draft("alive"); // its builder lives: not swept
    Store::open(f.path("")).unwrap();
    alive.commit(recipe()).unwrap();
    f.store.remove("alive").unwrap();
    assert_eq!(f.files(), before);
}
