//! Builders that are killed, and file systems that fill up, at every step of a build.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::{env, fs};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::testing::*;
use crate::*;

const STORE: &str = "CALVE_TEST_STORE";

#[test]
fn a_builder_killed_at_any_moment() {
    if let Some(store) = env::var_os(STORE) {
        build_for_ever(Store::open(store).unwrap());
    }
    let f = Fixture::new();
    for round in 0..20 {
        let this = "store::tests::crash::a_builder_killed_at_any_moment";
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", this, "--nocapture"])
            .env(STORE, f.path(""))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The child runs on while its line is read: every round ends at another point of a build.
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let built = lines.map(Result::unwrap).filter(|line| line.starts_with("built"));
        assert_eq!(built.take(1 + round % 3).count(), 1 + round % 3);
        child.kill().unwrap();
        child.wait().unwrap();

        Store::open(f.path("")).unwrap();
        let id = f.open("py").expect("the last committed build is whole").id().hex();
        let files = f.files();
        let expected =
            ["", "/manifest.json", "/memory.0", "/state"].map(|n| format!("snapshots/{id}{n}"));
        let (images, others): (Vec<_>, Vec<_>) =
            files.iter().filter(|n| *n != "names/py").partition(|n| n.starts_with("images/"));
        assert_eq!(others, expected.iter().collect::<Vec<_>>(), "round {round}");
        assert_eq!(images.len(), 3, "round {round}");
    }
}

fn build_for_ever(store: Store) -> ! {
    let f = Fixture { dir: tempfile::tempdir_in(store.path().parent().unwrap()).unwrap(), store };
    for n in 0u64.. {
        let mut draft = f.draft("py");
        // Another code image every time, so that there is always garbage to collect.
        draft.add_image(Role::Code, &f.input("code", &n.to_le_bytes())).unwrap();
        draft.commit(recipe_with_code()).unwrap();
        println!("built {n}");
    }
    unreachable!("killed long before")
}

#[test]
fn a_commit_that_fails_at_its_last_step_leaves_nothing() {
    let f = Fixture::new();
    let draft = f.draft("py");
    fs::create_dir(f.path("names/py")).unwrap(); // cannot be replaced by a link
    assert!(matches!(draft.commit(recipe()), Err(Error::Io { .. })));
    fs::remove_dir(f.path("names/py")).unwrap();
    assert_eq!(f.files(), [""; 0]);
}

#[test]
#[ignore = "needs root"]
fn a_read_only_store_can_be_used() {
    let disk = SmallDisk::new("mode=0700,size=1m");
    let path = disk.0.path().join("store");
    let inputs = Fixture::new();
    build_small(&inputs, &Store::open(&path).unwrap()).unwrap();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, disk.0.path(), None::<&str>, flags, None::<&str>).unwrap();
    let store = Store::open(&path).unwrap();
    store.snapshot("py", &host(), Verify::Stamped).unwrap();
    assert!(matches!(store.draft("py"), Err(Error::Io { action: "create", .. })));
    assert!(matches!(store.remove("py"), Err(Error::Io { action: "remove", .. })));
}

#[test]
fn a_full_disk_has_an_error_of_its_own() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let refused = std::io::Write::write_all(&mut &full, b"x").unwrap_err();
    let error = Error::io("write", "/store/memory.0")(refused);
    assert!(matches!(error, Error::NoSpace { .. }));
    assert!(error.to_string().starts_with("no space left to write /store/memory.0"));
}

/// A small tmpfs, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = Some(options);
        mount(Some("none"), dir.path(), Some("tmpfs"), MsFlags::empty(), data).unwrap();
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// Builds on disks that grow by one block, or one inode, at a time: each step of a build is the one
/// that fails on some of them.
fn build_on_growing_disks(options: impl Fn(u32) -> String) {
    let inputs = Fixture::new();
    let (mut full, mut built) = (0, 0);
    for size in 8..32 {
        let disk = SmallDisk::new(&options(size));
        let Ok(store) = Store::open(disk.0.path().join("store")) else { continue };
        let result = build_small(&inputs, &store);
        match result {
            Ok(()) => {
                store.verify("py", &mut |_, _| {}).unwrap();
                built += 1;
            }
            Err(Error::NoSpace { path, .. }) => {
                assert!(path.starts_with(disk.0.path()), "{path:?}");
                let f = Fixture { dir: tempfile::tempdir().unwrap(), store };
                assert_eq!(f.files(), [""; 0], "size {size}");
                full += 1;
            }
            Err(other) => panic!("size {size}: {other:?}"),
        }
    }
    assert!(full > 5 && built > 1, "{full} full, {built} built: the sizes do not straddle a build");
}

fn build_small(inputs: &Fixture, store: &Store) -> Result<(), Error> {
    let mut draft = store.draft("py")?;
    draft.add_image(Role::Kernel, &inputs.input("kernel", KERNEL))?;
    draft.add_image(Role::Root, &inputs.input("root", ROOT))?;
    draft.write_state(&State::try_from(&golden_state()[..]).unwrap())?;
    draft.write_memory(&Ram::golden(), &mut |_, _| {})?;
    draft.commit(recipe()).map(drop)
}

#[test]
#[ignore = "needs root"]
fn a_disk_without_blocks() {
    build_on_growing_disks(|blocks| format!("mode=0700,nr_blocks={}", blocks - 7));
}

#[test]
#[ignore = "needs root"]
fn a_disk_without_inodes() {
    build_on_growing_disks(|inodes| format!("mode=0700,nr_inodes={inodes}"));
}
