//! Workers in cgroups of their own: what they may take, and what is said when they take more. In the lab, whose host has
//! cgroups of version 2, and by tiny guests.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use calve_fleet::{
    Access, BootSpec, Fleet, Isolation, Keep, Limiting, Limits, Options, Shape, WorkerError,
};
use calve_jail::cgroup::{self, Cgroups};
use common::{ALPHABET, SILENCE, eventually, kernel, lives};

const CGROUPS: &str = "/sys/fs/cgroup";

fn fleet(limits: Limits) -> Fleet {
    let limiting = Limiting::Each(limits);
    let worker = Some(common::worker_program());
    Fleet::new(Options { worker, limiting, ..Options::default() }).unwrap()
}

/// A folder for a test's cgroups, which goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(Path::new(CGROUPS).join(name))
    }

    fn groups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn text(group: &Path, file: &str) -> String {
    fs::read_to_string(group.join(file)).unwrap().trim().to_owned()
}

fn start(fleet: &Fleet, code: &[u8], memory_mib: u32) -> calve_fleet::Machine {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &kernel(code)).unwrap();
    let shape = Shape::new(memory_mib, 1, 0).unwrap();
    fleet.start(BootSpec::new(shape, file, "")).unwrap()
}

#[test]
#[ignore = "needs the lab"]
fn a_worker_is_born_in_a_cgroup_that_goes_with_it() {
    let folder = Folder::new("calve-test-born");
    let limits = Limits { cpu_weight: 50, ..Limits::under(&folder.0) };
    let fleet = fleet(limits);
    let machine = start(&fleet, SILENCE, 64);
    let [group] = &folder.groups()[..] else { panic!("{:?}", folder.groups()) };
    let of_worker = fs::read_to_string(format!("/proc/{}/cgroup", machine.pid())).unwrap();
    assert_eq!(of_worker.trim(), format!("0::/calve-test-born/{}", name(group)));
    assert_eq!(text(group, "cgroup.procs"), machine.pid().to_string());
    // 64 MiB, a 64th of it, and the overhead.
    assert_eq!(text(group, "memory.max"), (129_u64 << 20).to_string());
    assert_eq!(text(group, "memory.swap.max"), "0");
    assert_eq!(text(group, "cpu.max"), "200000 100000");
    assert_eq!(text(group, "cpu.weight"), "50");
    assert_eq!(text(group, "pids.max"), "13");
    let peak: u64 = text(group, "memory.peak").parse().unwrap();
    println!("a worker around 64 MiB that are not used: {} KiB at its peak", peak >> 10);
    assert!(peak < Limits::MEMORY_OVERHEAD / 4);
    drop(machine);
    assert_eq!(folder.groups(), Vec::<PathBuf>::new());
}

fn name(group: &Path) -> &str {
    group.file_name().unwrap().to_str().unwrap()
}

#[test]
#[ignore = "needs the lab"]
fn a_worker_that_is_killed_for_want_of_the_hosts_memory_is_not_said_to_have_taken_too_much() {
    let folder = Folder::new("calve-test-host");
    let fleet = fleet(Limits::under(&folder.0));
    // The host of the workers, as far as they are concerned: half of what this guest takes.
    fs::write(folder.0.join("memory.max"), (20 << 20).to_string()).unwrap();
    let mut machine = start(&fleet, GLUTTON, 40);
    let error = machine.wait(Duration::from_secs(60)).unwrap_err();
    assert!(matches!(error, WorkerError::HostOutOfMemory { .. }), "{error}");
    drop(machine);
    fs::write(folder.0.join("memory.max"), "max").unwrap();
    let mut next = start(&fleet, SILENCE, 40);
    assert!(matches!(next.wait(Duration::from_secs(1)), Err(WorkerError::TimedOut { .. })));
}

/// While it is born it gives way; what waits for content must not.
#[test]
#[ignore = "needs the lab"]
fn a_shell_that_was_born_ahead_has_its_whole_share() {
    let folder = Folder::new("calve-test-share");
    let fleet = fleet(Limits { cpu_weight: 50, ..Limits::under(&folder.0) });
    let shape = Shape::new(4, 1, 0).unwrap();
    fleet.keep(shape, Keep { least: 1, most: 1 }).unwrap();
    eventually("a shell", || fleet.prepared(shape) == 1);
    let [group] = &folder.groups()[..] else { panic!("{:?}", folder.groups()) };
    assert_eq!(text(group, "cpu.weight"), "50");
    let pid = text(group, "cgroup.procs");
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        // proc(5): the 19th, where the name, which ends with the last parenthesis, is the second.
        let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap();
        assert_eq!(nice, "0", "{stat}");
    }
}

/// Writes to every page from 2 MiB to 34 MiB, time after time.
const GLUTTON: &[u8] = &[
    0xbf, 0x00, 0x00, 0x20, 0x00, // again: mov edi, 0x200000
    0xc6, 0x07, 0x01, // next: mov byte [edi], 1
    0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, // add edi, 0x1000
    0x81, 0xff, 0x00, 0x00, 0x20, 0x02, // cmp edi, 0x2200000
    0x72, 0xef, // jb next
    0xeb, 0xe8, // jmp again
];

#[test]
#[ignore = "needs the lab"]
fn however_far_a_worker_is_kept_apart_it_is_in_its_cgroup() {
    let folder = Folder::new("calve-test-apart");
    for isolation in [Isolation::None, Isolation::Own, Isolation::UIDS] {
        let limiting = Limiting::Each(Limits::under(&folder.0));
        let (worker, isolation) = (Some(common::worker_program()), Some(isolation));
        let options = Options { worker, isolation, limiting, ..Options::default() };
        let fleet = Fleet::new(options).unwrap();
        let machine = start(&fleet, SILENCE, 4);
        let [group] = &folder.groups()[..] else { panic!("{:?}", folder.groups()) };
        assert_eq!(text(group, "cgroup.procs"), machine.pid().to_string());
        drop(machine);
        assert_eq!(folder.groups(), Vec::<PathBuf>::new());
    }
}

#[test]
#[ignore = "needs the lab"]
fn fleets_of_one_folder_leave_each_other_alone() {
    let folder = Folder::new("calve-test-fleets");
    let fleets = [0, 1].map(|_| fleet(Limits::under(&folder.0)));
    let machines = fleets.each_ref().map(|fleet| start(fleet, SILENCE, 4));
    assert_eq!(folder.groups().len(), 2);
    // Nobody is in it yet, and its fleet lives: no sweep may take it.
    let cgroups = Cgroups::open(&folder.0, false).unwrap();
    let limits = cgroup::Limits {
        memory: 1 << 20,
        cpu_percent: 100,
        cpu_weight: 100,
        processes: 1,
        io: vec![],
    };
    let waiting = cgroups.make(&limits).unwrap();
    let third = fleet(Limits::under(&folder.0));
    assert_eq!(folder.groups().len(), 3);
    drop((machines, fleets, third, waiting));
    assert_eq!(folder.groups(), Vec::<PathBuf>::new());
}

#[test]
#[ignore = "needs the lab"]
fn a_worker_that_takes_too_much_is_killed_and_the_reason_named() {
    let folder = Folder::new("calve-test-memory");
    // As if it did not need its machine's memory: half of what this guest takes.
    let limits = Limits { memory_overhead: 0, ..Limits::under(&folder.0) };
    let fleet = fleet(limits);
    let mut machine = start(&fleet, GLUTTON, 40);
    let [group] = &folder.groups()[..] else { panic!("{:?}", folder.groups()) };
    fs::write(group.join("memory.max"), (20 << 20).to_string()).unwrap();
    let error = machine.wait(Duration::from_secs(60)).unwrap_err();
    assert!(matches!(error, WorkerError::OutOfMemory { .. }), "{error}");
    assert!(error.to_string().contains("40 MiB"), "{error}");
    // The next one is not the worse for it.
    drop(machine);
    start(&fleet, SILENCE, 40);
}

#[test]
#[ignore = "needs the lab"]
fn a_worker_that_was_held_back_has_that_said_with_its_delay() {
    let folder = Folder::new("calve-test-processor");
    let limits = Limits { cpu_percent: Some(5), ..Limits::under(&folder.0) };
    let fleet = fleet(limits);
    let mut machine = start(&fleet, ALPHABET, 4);
    let error = machine.wait(Duration::from_secs(2)).unwrap_err();
    let WorkerError::TimedOut { throttled, .. } = &error else { panic!("{error}") };
    assert!(*throttled > Duration::from_millis(500), "{error}");
    assert!(error.to_string().contains("its cgroup allowed it no processor for"), "{error}");
}

#[test]
#[ignore = "needs the lab"]
fn a_snapshot_and_its_clones_fit_their_limits() {
    let folder = Folder::new("calve-test-freeze");
    let fleet = fleet(Limits::under(&folder.0));
    let store = common::store();
    let machine = {
        let mut spec = BootSpec::new(common::shape(), tiny(GLUTTON_OF_4_MIB), "");
        spec.disks = vec![(tiny_root(), Access::ReadOnly)];
        fleet.start(spec).unwrap()
    };
    let frozen = common::freeze(&fleet, &store, machine, GLUTTON_OF_4_MIB);
    let mut clones: Vec<_> = (0..3).map(|_| fleet.thaw(&frozen).unwrap()).collect();
    clones.iter_mut().for_each(|clone| clone.wait_running().unwrap());
    assert_eq!(folder.groups().len(), 3);
    drop(clones);
    assert_eq!(folder.groups().len(), 0);
}

/// Writes to every page from 2 MiB to 4 MiB, time after time.
const GLUTTON_OF_4_MIB: &[u8] = &[
    0xbf, 0x00, 0x00, 0x20, 0x00, // again: mov edi, 0x200000
    0xc6, 0x07, 0x01, // next: mov byte [edi], 1
    0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, // add edi, 0x1000
    0x81, 0xff, 0x00, 0x00, 0x40, 0x00, // cmp edi, 0x400000
    0x72, 0xef, // jb next
    0xeb, 0xe8, // jmp again
];

fn tiny(code: &[u8]) -> fs::File {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &kernel(code)).unwrap();
    file
}

fn tiny_root() -> fs::File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    file
}

#[test]
#[ignore = "needs the lab"]
fn groups_of_a_fleet_that_was_killed_are_removed_by_the_next() {
    let folder = Folder::new("calve-test-orphans");
    let mut embedder = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "an_embedder_with_a_worker",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("CALVE_WORKER", common::worker_program())
        .env("CALVE_TEST_CGROUP", &folder.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let worker = || {
        let [group] = &folder.groups()[..] else { return None };
        fs::read_to_string(group.join("cgroup.procs")).ok()?.trim().parse().ok()
    };
    let mut pid = None;
    eventually("there is a worker", || {
        pid = worker();
        pid.is_some()
    });
    embedder.kill().unwrap();
    embedder.wait().unwrap();
    eventually("the worker is gone", || !lives(pid.unwrap()) || worker().is_none());
    assert_eq!(folder.groups().len(), 1, "nobody was there to remove it");
    eventually("the next fleet removes it", || {
        drop(fleet(Limits::under(&folder.0)));
        folder.groups().is_empty()
    });
}

#[test]
#[ignore = "needs the lab"]
fn whoever_outlives_a_fleet_is_killed_by_the_next_and_others_are_left_alone() {
    use std::os::unix::process::ExitStatusExt;
    let folder = Folder::new("calve-test-outlived");
    let sleeper = |name: &str| {
        let group = folder.0.join(name);
        fs::create_dir_all(&group).unwrap();
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        child
    };
    // No process has such an id (proc(5), `pid_max`).
    let (mut worker, mut stranger) = (sleeper("4999999-0"), sleeper("app.slice"));
    drop(fleet(Limits::under(&folder.0)));
    assert_eq!(worker.wait().unwrap().signal(), Some(9));
    assert_eq!(stranger.try_wait().unwrap(), None);
    let [left] = &folder.groups()[..] else { panic!("{:?}", folder.groups()) };
    assert_eq!(name(left), "app.slice");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    fs::remove_dir(left).unwrap();
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn an_embedder_with_a_worker() {
    let Some(folder) = std::env::var_os("CALVE_TEST_CGROUP") else { return };
    let fleet = fleet(Limits::under(folder));
    let _machine = start(&fleet, SILENCE, 4);
    // Until it is killed.
    std::thread::park();
}

/// Whoever is not root here: `setpriv` asks for no name.
const USER: u32 = 1000;

#[test]
#[ignore = "needs the lab"]
fn a_user_to_whom_a_cgroup_was_delegated_has_workers_shut_in_and_limited() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let folder = Folder::new("calve-test-user");
    // What an administrator does, or systemd with Delegate=yes.
    fs::write(format!("{CGROUPS}/cgroup.subtree_control"), "+cpu +memory +pids").unwrap();
    let embedders = folder.0.join("embedder");
    fs::create_dir_all(&embedders).unwrap();
    fs::write(folder.0.join("cgroup.subtree_control"), "+cpu +memory +pids").unwrap();
    for path in ["", "cgroup.procs", "cgroup.subtree_control", "embedder", "embedder/cgroup.procs"]
    {
        chown(folder.0.join(path), Some(USER), Some(USER)).unwrap();
    }
    fs::set_permissions("/dev/kvm", fs::Permissions::from_mode(0o666)).unwrap();
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec setpriv --reuid {USER} --regid {USER} --clear-groups \"$@\"",
        embedders.display()
    );
    let status = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "an_embedder_without_privileges", "--ignored", "--test-threads=1"])
        .arg("--nocapture")
        .env("CALVE_WORKER", common::worker_program())
        .env("CALVE_TEST_CGROUP", folder.0.join("workers"))
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(fs::read_dir(folder.0.join("workers")).unwrap().flatten().filter(is_dir).count(), 0);
    for group in ["workers", "embedder"] {
        fs::remove_dir(folder.0.join(group)).unwrap();
    }
}

fn is_dir(entry: &fs::DirEntry) -> bool {
    entry.path().is_dir()
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn an_embedder_without_privileges() {
    let Some(folder) = std::env::var_os("CALVE_TEST_CGROUP") else { return };
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let fleet = fleet(Limits::under(&folder));
    let mut machine = start(&fleet, ALPHABET, 4);
    eventually("the guest speaks", || machine.console().len() > 3);
    let status = fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).split_whitespace().next().unwrap()
    };
    assert_eq!(field("Uid:"), USER.to_string());
    for capabilities in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(field(capabilities), 16).unwrap(), 0, "{capabilities}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1", "2"));
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{namespace}"));
        // Those of a process that cannot be looked into are another's, too.
        assert_ne!(of(&machine.pid().to_string()).ok(), of("self").ok(), "{namespace}");
    }
    let group = fs::read_to_string(format!("/proc/{}/cgroup", machine.pid())).unwrap();
    let group = group.trim().strip_prefix("0::/").unwrap().to_owned();
    let max = fs::read_to_string(Path::new(CGROUPS).join(group).join("memory.max")).unwrap();
    assert_ne!(max.trim(), "max");
}
