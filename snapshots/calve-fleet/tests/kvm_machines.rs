//! Workers around tiny bare-metal guests: birth, boot, pause, save, thaw, death.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use calve_fleet::{Budget, CallError, CallOptions, Death, End, Fleet, Keep, Options, WorkerError};
use calve_snapshots::Store;
use common::{
    ALPHABET, BYE_WHEN_CLONED, HELLO, SILENCE, child_pids, eventually, fleet, freeze, kill_9,
    lives, shape, start, store,
};
use nix::sys::signal::Signal;

#[test]
#[ignore = "needs /dev/kvm"]
fn shells_wait_until_they_are_wanted() {
    let fleet = fleet();
    fleet.prepare(shape(), 3).unwrap();
    fleet.prepare(shape(), 2).unwrap();
    assert_eq!(fleet.prepared(shape()), 3);
    start(&fleet, HELLO);
    assert_eq!(fleet.prepared(shape()), 2);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_machine_boots_speaks_and_ends() {
    let mut machine = start(&fleet(), HELLO);
    assert_eq!(machine.wait(Duration::from_secs(30)).unwrap(), End::PowerOff);
    assert_eq!(machine.console(), "hello");
}

#[test]
#[ignore = "needs /dev/kvm"]
fn what_clones_were_seen_to_touch_is_made_ready_for_the_next() {
    let (fleet, store) = (fleet(), store());
    let mut machine = start(&fleet, ALPHABET);
    eventually("the guest speaks", || machine.console().len() > 3);
    let frozen = freeze(&fleet, &store, machine, ALPHABET);
    let seen = [0, 1].map(|_| {
        let clone = fleet.thaw(&frozen).unwrap();
        eventually("the clone speaks", || !clone.console().is_empty());
        clone.workset().unwrap()
    });
    let common = seen[0].common(&seen[1]);
    let (touched, written) = common.pages();
    assert!(touched > 0 && written > 0, "{common:?}");
    let taught = frozen.with_workset(&common).unwrap();
    let clone = fleet.thaw(&taught).unwrap();
    eventually("a clone that was told speaks", || !clone.console().is_empty());
    assert_eq!(clone.workset().unwrap().common(&common), common);
    drop(clone);
    // The snapshot is what it was; whoever opens the store next is told, too.
    store.store.learn(frozen.snapshot(), &common).unwrap();
    let next = Store::open(store.store.path()).unwrap();
    let frozen = fleet.open(&next, frozen.snapshot().name()).unwrap();
    let taught = frozen.with_workset(&next.learned(frozen.snapshot()).unwrap().unwrap()).unwrap();
    let clone = fleet.thaw(&taught).unwrap();
    eventually("a clone of that speaks", || !clone.console().is_empty());
    assert_eq!(clone.workset().unwrap().common(&common), common);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_paused_machine_is_silent() {
    let mut machine = start(&fleet(), ALPHABET);
    eventually("the guest speaks", || machine.console().len() > 3);
    machine.pause().unwrap();
    let before = machine.console();
    assert!(machine.wait(Duration::from_millis(100)).is_err());
    assert_eq!(machine.console(), before);
    machine.resume().unwrap();
    eventually("the guest speaks again", || machine.console().len() > before.len());
}

#[test]
#[ignore = "needs /dev/kvm"]
fn many_clones_go_on_where_one_machine_stopped() {
    let (fleet, store) = (fleet(), store());
    let mut machine = start(&fleet, ALPHABET);
    eventually("the guest speaks", || machine.console().len() > 3);
    machine.pause().unwrap();
    let spoken = machine.console();
    let next = successor(spoken.chars().last().unwrap());
    let frozen = freeze(&fleet, &store, machine, ALPHABET);
    assert_eq!(frozen.shape(), shape());

    let mut clones: Vec<_> = (0..12).map(|_| fleet.thaw(&frozen).unwrap()).collect();
    for clone in &mut clones {
        clone.wait_running().unwrap();
        eventually("the clone speaks", || clone.console().len() > 2);
        let said = clone.console();
        // The letter may have been on its way to the port when the machine stopped.
        let first = said.chars().next().unwrap();
        assert!(first == next || successor(first) == next, "{spoken} then {said}");
        assert!(said.chars().zip(said.chars().skip(1)).all(|(a, b)| successor(a) == b), "{said}");
    }
    let mut ids: Vec<_> = clones.iter().map(|clone| clone.machine_id().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), clones.len());
}

fn successor(letter: char) -> char {
    if letter == 'Z' { 'A' } else { char::from(u8::try_from(letter).unwrap() + 1) }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_clone_takes_a_prepared_shell() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, ALPHABET), ALPHABET);
    for ahead in [0, 1, 0, 1] {
        fleet.prepare(frozen.shape(), ahead).unwrap();
        assert_eq!(fleet.prepared(frozen.shape()), ahead);
        let started = Instant::now();
        let mut clone = fleet.thaw(&frozen).unwrap();
        assert_eq!(fleet.prepared(frozen.shape()), 0);
        clone.wait_running().unwrap();
        println!("{ahead} shells ahead: running after {:?}", started.elapsed());
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_reset_clone_goes_on_where_it_was_thawed() {
    let (fleet, store) = (fleet(), store());
    let mut machine = start(&fleet, ALPHABET);
    eventually("the guest speaks", || machine.console().len() > 3);
    machine.pause().unwrap();
    let next = successor(machine.console().chars().last().unwrap());
    let frozen = freeze(&fleet, &store, machine, ALPHABET);
    let mut clone = fleet.thaw(&frozen).unwrap();
    let (pid, mut ids) = (clone.pid(), vec![clone.machine_id().to_owned()]);
    for _ in 0..5 {
        clone.wait_running().unwrap();
        eventually("the clone speaks", || clone.console().len() > 2);
        let first = clone.console().chars().next().unwrap();
        // The letter may have been on its way to the port when the machine stopped.
        assert!(first == next || successor(first) == next, "{first}, not {next}");
        clone = clone.reset().unwrap();
        assert_eq!(clone.pid(), pid);
        ids.push(clone.machine_id().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_clone_is_reset_only_while_it_lives() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, ALPHABET), ALPHABET);
    let clone = fleet.thaw(&frozen).unwrap();
    kill_9(clone.pid());
    let reset = clone.reset().and_then(|mut clone| clone.wait_running());
    assert!(matches!(reset, Err(WorkerError::Died { .. })), "{reset:?}");
    let mortal = freeze(&fleet, &store, start(&fleet, BYE_WHEN_CLONED), BYE_WHEN_CLONED);
    let mut clone = fleet.thaw(&mortal).unwrap();
    let nothing = CallOptions { timeout: Some(Duration::from_secs(30)), ..CallOptions::default() };
    assert!(matches!(clone.call(b"1", nothing), Err(CallError::Worker(WorkerError::Ended { .. }))));
    let reset = clone.reset().and_then(|mut clone| clone.wait_running());
    assert!(reset.is_err());
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_pool_is_refilled_and_survives_the_death_of_its_shells() {
    let fleet = fleet();
    fleet.keep(shape(), Keep { least: 2, most: 3 }).unwrap();
    eventually("there are shells", || fleet.prepared(shape()) == 2);
    for round in 0..3 {
        start(&fleet, HELLO);
        eventually("the one taken is replaced", || fleet.prepared(shape()) >= 2);
        let before = child_pids();
        for pid in &before {
            kill_9(*pid);
        }
        let fresh = || child_pids().iter().filter(|pid| !before.contains(pid)).count();
        eventually("the dead are replaced", || fresh() >= 2 && fleet.prepared(shape()) >= 2);
        start(&fleet, HELLO);
        assert!(fleet.prepared(shape()) <= 3, "round {round}");
    }
    fleet.keep(shape(), Keep::default()).unwrap();
    drop(fleet);
    eventually("no shell outlives its fleet", || child_pids().is_empty());
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_pool_keeps_to_its_budget() {
    let budget = Budget { shells: 3, ..Budget::default() };
    let worker = Some(common::worker_program());
    let fleet = Fleet::new(Options { worker, budget, ..Options::default() }).unwrap();
    let other = calve_fleet::Shape::new(16, 2, 0).unwrap();
    for shape in [shape(), other] {
        fleet.keep(shape, Keep { least: 2, most: 8 }).unwrap();
    }
    let all = || fleet.prepared(shape()) + fleet.prepared(other);
    eventually("there are shells", || all() == 3);
    // Nothing more comes in the time of several births, whatever wakes the thread that makes them.
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(500) {
        fleet.keep(other, Keep { least: 2, most: 8 }).unwrap();
        assert!(child_pids().len() <= 3);
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn threads_thaw_side_by_side() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, ALPHABET), ALPHABET);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let mut clone = fleet.thaw(&frozen).unwrap();
                    clone.wait_running().unwrap();
                    eventually("the clone speaks", || !clone.console().is_empty());
                }
            });
        }
    });
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_clone_outlives_the_thread_and_the_fleet_that_made_it() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, ALPHABET), ALPHABET);
    let clone = std::thread::scope(|s| s.spawn(|| fleet.thaw(&frozen).unwrap()).join().unwrap());
    drop((fleet, frozen));
    let heard = clone.console().len();
    eventually("the clone speaks on", || clone.console().len() > heard + 3);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_worker_that_is_killed_is_a_typed_error() {
    let mut machine = start(&fleet(), SILENCE);
    let pid = machine.pid();
    kill_9(pid);
    let error = machine.wait(Duration::from_secs(30)).unwrap_err();
    let WorkerError::Died { how, .. } = error else { panic!("{error}") };
    assert_eq!(how, Death::Killed(Signal::SIGKILL));
    assert!(!lives(pid), "it was waited for");
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_worker_that_is_killed_ends_a_call() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, SILENCE), SILENCE);
    let mut clone = fleet.thaw(&frozen).unwrap();
    clone.wait_running().unwrap();
    let pid = clone.pid();
    let killer = std::thread::spawn(move || kill_9(pid));
    let error = clone.call(b"{}", CallOptions::default()).unwrap_err();
    killer.join().unwrap();
    assert!(matches!(error, CallError::Worker(WorkerError::Died { .. })), "{error}");
    assert!(matches!(clone.call(b"{}", CallOptions::default()), Err(CallError::Spent)));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_that_does_not_answer_is_killed_in_time() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, ALPHABET), ALPHABET);
    let mut clone = fleet.thaw(&frozen).unwrap();
    let timeout = Some(Duration::from_millis(50));
    let options = CallOptions { timeout, grace: timeout, ..CallOptions::default() };
    let error = clone.call(b"{}", options).unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    assert!(!lives(clone.pid()));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_that_ends_ends_a_call() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, BYE_WHEN_CLONED), BYE_WHEN_CLONED);
    let mut clone = fleet.thaw(&frozen).unwrap();
    let error = clone.call(b"{}", CallOptions::default()).unwrap_err();
    let CallError::Worker(WorkerError::Ended { end, console }) = error else { panic!("{error}") };
    assert_eq!((end, console.as_str()), (End::PowerOff, "bye"));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn an_event_that_is_too_long_does_not_harm_the_clone() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, SILENCE), SILENCE);
    let mut clone = fleet.thaw(&frozen).unwrap();
    let event = vec![b' '; (6 << 20) + 1];
    let error = clone.call(&event, CallOptions::default()).unwrap_err();
    assert!(matches!(error, CallError::Request(_)) && error.to_string().contains("6 MiB"));
    assert!(lives(clone.pid()));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_cancelled_fleet_waits_for_nothing() {
    let fleet = fleet();
    let mut machine = start(&fleet, SILENCE);
    let canceller = fleet.canceller();
    let ctrl_c = std::thread::spawn(move || canceller.cancel());
    let error = machine.wait(Duration::from_secs(30)).unwrap_err();
    assert!(matches!(error, WorkerError::Cancelled));
    ctrl_c.join().unwrap();
    assert!(matches!(fleet.prepare(shape(), 1), Err(WorkerError::Cancelled)));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_kernel_that_is_none_is_refused_with_the_reason() {
    let kernel = tempfile::tempfile().unwrap();
    let spec = calve_fleet::BootSpec::new(calve_fleet::Shape::new(4, 1, 0).unwrap(), kernel, "");
    let error = fleet().start(spec).unwrap_err();
    assert!(matches!(error, WorkerError::Refused(_)));
    assert!(error.to_string().contains("neither an ELF file"), "{error}");
}

#[test]
#[ignore = "needs /dev/kvm"]
fn the_public_door_goes_with_the_clone() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, SILENCE), SILENCE);
    let path = store.dir.path().join("clone.sock");
    let options = calve_fleet::ThawOptions { listen: Some(path.clone()), ..Default::default() };
    let clone = fleet.thaw_with(&frozen, options).unwrap();
    assert_eq!(clone.vsock_path(), Some(&*path));
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    drop(clone);
    assert!(!path.exists());
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_worker_is_in_its_jail_with_all_its_threads() {
    let machine = start(&fleet(), SILENCE);
    let pid = machine.pid();
    let read = |path: &str| std::fs::read_to_string(format!("/proc/{pid}/{path}")).unwrap();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads: Vec<_> = threads.map(|t| t.unwrap().file_name().into_string().unwrap()).collect();
    assert!(threads.len() >= 3, "main, devices, vCPU");
    for thread in threads {
        let status = read(&format!("task/{thread}/status"));
        assert!(status.contains("Seccomp:\t2\n") && status.contains("NoNewPrivs:\t1\n"));
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{status}");
        }
    }
    assert!(read("limits").contains("Max core file size        0                    0"));
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    let stat = read("stat");
    let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap();
    // Process 1 of its pid namespace leads the session.
    assert_eq!(session, pid.to_string());
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_worker_shares_no_namespace_no_file_and_no_user() {
    let fleet = fleet();
    let machines = [start(&fleet, SILENCE), start(&fleet, SILENCE)];
    let link = |pid: &str, name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
    let [a, b] = machines.each_ref().map(|machine| machine.pid().to_string());
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let name = format!("ns/{kind}");
        let all = [link("self", &name), link(&a, &name), link(&b, &name)];
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2], "{kind}: {all:?}");
    }
    let status = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |pid: &str, field: &str| {
        status(pid).lines().find(|line| line.starts_with(field)).unwrap().to_owned()
    };
    assert!(line(&a, "NSpid:").ends_with("\t1"), "{}", status(&a));
    let mounts = std::fs::read_to_string(format!("/proc/{a}/mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(mounts.contains(" / / ro,"), "{mounts}");
    assert_eq!(std::fs::read_dir(format!("/proc/{a}/root")).unwrap().count(), 0);
    if nix::unistd::geteuid().is_root() {
        for field in ["Uid:", "Gid:"] {
            assert!(line(&a, field) != line(&b, field) && !line(&a, field).contains("\t0"));
        }
        assert_eq!(line(&a, "Groups:").trim(), "Groups:");
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn an_idle_clone_is_small() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, SILENCE), SILENCE);
    let mut clone = fleet.thaw(&frozen).unwrap();
    clone.wait_running().unwrap();
    let kib = clone.private_kib().unwrap();
    println!("{kib} KiB private");
    // The budget is 1 MiB for a release build; a debug build is several times that.
    assert!(kib < if cfg!(debug_assertions) { 8 << 10 } else { 1 << 10 }, "{kib} KiB");
}

#[test]
#[ignore = "needs /dev/kvm"]
fn this_host_can_thaw_what_it_froze() {
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, SILENCE), SILENCE);
    let needed = &frozen.snapshot().manifest().cpu;
    let host = calve_fleet::host_cpu().unwrap();
    assert_eq!(needed.vendor, host.vendor);
    assert!(!needed.features.is_empty() && needed.features.is_subset(&host.features));

    let mut poorer = host;
    let lost = needed.features.first().unwrap();
    poorer.features.remove(lost);
    let refused = store.store.snapshot("tiny", &poorer, calve_snapshots::Verify::Full);
    assert!(refused.unwrap_err().to_string().contains(lost));
}
