//! Deaths at any moment, and a host that has run out: what is said is an error with a type, and nothing is left behind.
//!
//! Each test counts what its process has, or takes something from it, so each runs in a process of its own.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use calve_fleet::{Fleet, Frozen, Function, WorkerError};
use calve_snapshots::{Role, Store};
use common::{
    ALPHABET, Belongings, SILENCE, eventually, fleet, freeze, is_long, kernel, kill_9, lives,
    shape, start, store,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

/// Where a test of this binary that runs in a process of its own finds what it needs.
const FOLDER: &str = "CALVE_TEST_FOLDER";

/// One test of this binary, as a process of its own.
fn alone(test: &str, folder: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("CALVE_WORKER", common::worker_program()).env(FOLDER, folder);
    command
}

fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

#[track_caller]
fn passes_alone(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    assert!(alone(test, folder.path()).status().unwrap().success());
}

/// Moments that are spread over a span of time, in an order that repeats no pattern of what goes on meanwhile.
fn moments(count: u64, span: Duration) -> impl Iterator<Item = Duration> {
    let span = u64::try_from(span.as_micros()).unwrap();
    (0..count).map(move |n| Duration::from_micros(n * 7919 % span))
}

#[test]
#[ignore = "needs /dev/kvm"]
fn workers_that_are_killed_at_any_moment_leave_nothing() {
    passes_alone("three_hundred_workers_are_killed");
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn three_hundred_workers_are_killed() {
    if folder().is_none() {
        return;
    }
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, ALPHABET), ALPHABET);
    fleet.prepare(shape(), 1).unwrap();
    assert_eq!(workers().len(), 1, "others tell of them");
    drop(fleet.thaw(&frozen).unwrap());
    let before = Belongings::now();
    let (mut died, mut lived) = (0, 0);
    for moment in moments(300, Duration::from_millis(12)) {
        match live(&fleet, &frozen, moment) {
            Ok(()) => lived += 1,
            Err(WorkerError::Died { .. }) => died += 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!("{died} died in the middle of something, {lived} were done with it");
    assert!(died > 50, "the moments are too late");
    assert_eq!(Belongings::now(), before);
    // Whoever comes next is none the worse.
    fleet.thaw(&frozen).unwrap().wait_running().unwrap();
}

/// What a clone does in its life, until it is killed.
fn live(fleet: &Fleet, frozen: &Frozen, moment: Duration) -> Result<(), WorkerError> {
    let mut clone = fleet.thaw(frozen)?;
    let pid = clone.pid();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(moment);
        kill_9(pid);
    });
    let lived = (|| {
        clone.wait_running()?;
        for _ in 0..3 {
            clone = clone.reset()?;
            clone.wait_running()?;
        }
        Ok(())
    })();
    // Before its handle is dropped: the process id is its own for so long.
    killer.join().unwrap();
    lived
}

#[test]
#[ignore = "needs /dev/kvm"]
fn builders_that_are_killed_at_any_moment_leave_a_store_that_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = if is_long() { 300 } else { 60 };
    for moment in moments(rounds, Duration::from_millis(200)) {
        let mut builder =
            alone("a_builder_without_end", folder.path()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        builder.kill().unwrap();
        let status = builder.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "it ended by itself");
        eventually("its workers are gone", || workers().is_empty());
        let store = Store::open(folder.path().join("store")).unwrap();
        for entry in store.list().unwrap() {
            store.verify(&entry.name, &mut |_, _| {}).unwrap();
        }
        let drafts = fs::read_dir(folder.path().join("store/tmp")).unwrap().count();
        assert_eq!(drafts, 0, "opening the store sweeps what nobody owns");
    }
    let store = Store::open(folder.path().join("store")).unwrap();
    assert!(!store.list().unwrap().is_empty(), "none was ever finished");
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn a_builder_without_end() {
    let Some(folder) = folder() else { return };
    let (fleet, store) = (fleet(), Store::open(folder.join("store")).unwrap());
    for path in ["kernel", "root"].map(|name| folder.join(name)) {
        let bytes = if path.ends_with("kernel") { kernel(SILENCE) } else { vec![0; 4096] };
        fs::write(path, bytes).unwrap();
    }
    for number in 0.. {
        let machine = start(&fleet, SILENCE);
        let mut draft = store.draft(&format!("tiny-{}", number % 3)).unwrap();
        draft.add_image(Role::Kernel, &folder.join("kernel")).unwrap();
        draft.add_image(Role::Root, &folder.join("root")).unwrap();
        let function = Function::new("tiny", "provided", "none");
        machine.freeze(&fleet, draft, &function, BTreeMap::new(), &mut |_, _| {}).unwrap();
    }
}

/// Every worker that lives. Nobody else starts any meanwhile.
fn workers() -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("comm").trim() == "calve-worker" && !read("stat").contains(") Z")
    })
    .collect()
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_fleet_without_descriptors_says_so_and_goes_on_when_there_are_some() {
    passes_alone("a_fleet_with_ever_fewer_descriptors");
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn a_fleet_with_ever_fewer_descriptors() {
    if folder().is_none() {
        return;
    }
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, SILENCE), SILENCE);
    drop(fleet.thaw(&frozen).unwrap());
    let before = Belongings::now();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let open = u64::try_from(before.files).unwrap();
    let mut refused = 0;
    for room in (0..24).rev() {
        setrlimit(Resource::RLIMIT_NOFILE, open + room, hard).unwrap();
        let thawed = fleet.thaw(&frozen).and_then(|mut clone| clone.wait_running());
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        if let Err(error) = thawed {
            assert!(
                matches!(error, WorkerError::Setup(..) | WorkerError::Spawn { .. }),
                "with room for {room}: {error:?}"
            );
            refused += 1;
        }
    }
    assert!(refused > 3, "the limits are too high");
    assert_eq!(Belongings::now(), before);
    fleet.thaw(&frozen).unwrap().wait_running().unwrap();
}

/// A fleet with all that it keeps is larger than any of its machines, and would be the first otherwise.
#[test]
#[ignore = "needs /dev/kvm"]
fn a_host_without_memory_kills_a_worker_before_the_fleet() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, SILENCE), SILENCE);
    let mut clone = fleet.thaw(&frozen).unwrap();
    clone.wait_running().unwrap();
    let adjusted = |pid| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(adjusted(clone.pid().to_string()).trim(), "1000");
    assert_ne!(adjusted("self".to_owned()).trim(), "1000");
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_host_whose_kvm_is_gone_is_named() {
    passes_alone("a_fleet_without_kvm");
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn a_fleet_without_kvm() {
    if folder().is_none() {
        return;
    }
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, SILENCE), SILENCE);
    // A device that opens and is none, for this process and its workers alone.
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    // The fleet's thread, which makes the workers, shares what this one has left.
    drop(fleet);
    let fleet = common::fleet();
    mount(Some("/dev/null"), "/dev/kvm", none, MsFlags::MS_BIND, none).unwrap();
    let mut clone = fleet.thaw(&frozen).unwrap();
    let error = clone.wait_running().unwrap_err();
    let WorkerError::Refused(refusal) = &error else { panic!("{error:?}") };
    assert!(refusal.reason.contains("kvm") || refusal.reason.contains("KVM"), "{error}");
    assert!(!lives(clone.pid()) || File::open("/dev/kvm").is_ok());
}

#[test]
#[ignore = "needs /dev/kvm"]
fn resets_take_nothing_more_and_more() {
    passes_alone("a_clone_is_reset_time_after_time");
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn a_clone_is_reset_time_after_time() {
    if folder().is_none() {
        return;
    }
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, ALPHABET), ALPHABET);
    let mut clone = fleet.thaw(&frozen).unwrap();
    let descriptors = |pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let cycle = |clone: calve_fleet::Clone| {
        let mut clone = clone.reset().unwrap();
        clone.wait_running().unwrap();
        clone
    };
    for _ in 0..20 {
        clone = cycle(clone);
    }
    let (before, kib) = (Belongings::now(), clone.private_kib().unwrap());
    let files = descriptors(clone.pid());
    let rounds = if is_long() { 2000 } else { 200 };
    for _ in 0..rounds {
        clone = cycle(clone);
    }
    assert_eq!(Belongings::now(), before);
    assert_eq!(descriptors(clone.pid()), files);
    let more = clone.private_kib().unwrap().saturating_sub(kib);
    println!("{rounds} resets: {more} KiB more");
    assert!(more < 64, "{more} KiB more after {rounds} resets");
}
