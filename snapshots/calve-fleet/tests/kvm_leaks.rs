//! Nothing is left behind: not after 500 clones, not after the fleet's own violent end.
//!
//! Each test counts what its process has, so each runs in a process of its own.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use common::{
    ALPHABET, Belongings, SILENCE, eventually, fleet, freeze, lives, shape, start, store,
};

/// Runs one test of this binary in a process of its own.
fn alone(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("CALVE_WORKER", common::worker_program());
    command.env("CALVE_TEST_ALONE", "1");
    command
}

fn is_alone() -> bool {
    std::env::var_os("CALVE_TEST_ALONE").is_some()
}

#[test]
#[ignore = "needs /dev/kvm"]
fn five_hundred_clones_leave_nothing() {
    assert!(alone("five_hundred_clones").status().unwrap().success());
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn five_hundred_clones() {
    if !is_alone() {
        return;
    }
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, ALPHABET), ALPHABET);
    let cycle = |n: usize| {
        let door = (n.is_multiple_of(10)).then(|| store.dir.path().join(format!("{n}.sock")));
        let options = calve_fleet::ThawOptions { listen: door, ..Default::default() };
        let mut clone = fleet.thaw_with(&frozen, options).unwrap();
        clone.wait_running().unwrap();
    };
    cycle(0);
    let before = Belongings::now();
    let started = std::time::Instant::now();
    let rounds = if common::is_long() { 2000 } else { 500 };
    (0..rounds).for_each(cycle);
    println!("{rounds} births, thaws and discards in {:?}", started.elapsed());
    assert_eq!(Belongings::now(), before);
    let sockets = std::fs::read_dir(store.dir.path()).unwrap().flatten();
    assert!(!sockets.into_iter().any(|e| e.path().extension().is_some_and(|e| e == "sock")));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_shell_that_died_is_not_used() {
    assert!(alone("a_dead_shell").status().unwrap().success());
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn a_dead_shell() {
    if !is_alone() {
        return;
    }
    let (fleet, store) = (fleet(), store());
    let frozen = freeze(&fleet, &store, start(&fleet, ALPHABET), ALPHABET);
    fleet.prepare(frozen.shape(), 1).unwrap();
    let [shell] = common::child_pids()[..] else { panic!("one child, the shell") };
    common::kill_9(shell);
    // Until its last thread is gone; the fleet is left to take its exit status.
    let shell = Id::Pid(Pid::from_raw(shell.try_into().unwrap()));
    waitid(shell, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    fleet.thaw(&frozen).unwrap().wait_running().unwrap();
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_fleet_that_is_killed_takes_its_workers_along() {
    let mut embedder =
        alone("an_embedder_with_three_workers").stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(embedder.stdout.take().unwrap());
    let pids: Vec<u32> = output
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.rsplit_once("worker ")?.1.parse().ok())
        .take(3)
        .collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| lives(*pid)));
    embedder.kill().unwrap();
    embedder.wait().unwrap();
    // They are nobody's children now: init reaps them, when it gets round to it.
    eventually("every worker is gone", || pids.iter().all(|pid| is_gone(*pid)));
}

fn is_gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn an_embedder_with_three_workers() {
    if !is_alone() {
        return;
    }
    let fleet = fleet();
    let machine = start(&fleet, SILENCE);
    println!("worker {}", machine.pid());
    fleet.prepare(shape(), 2).unwrap();
    for pid in common::child_pids().into_iter().filter(|pid| *pid != machine.pid()) {
        println!("worker {pid}");
    }
    // Until it is killed.
    std::thread::park();
}
