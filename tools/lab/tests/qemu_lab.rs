//! Boots real labs: one for each test function, as a boot takes seconds. They need QEMU and are
//! slow, so they show as ignored unless asked for; `cargo xtask test` asks.

#![allow(clippy::unwrap_used)] // in the functions that the tests are made of

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;

const LAB: &str = env!("CARGO_BIN_EXE_calve-lab");

/// A finished command.
#[derive(Debug)]
struct Said {
    stdout: String,
    stderr: String,
    status: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code(),
        }
    }
}

/// The persistent lab of a test, which ends with the test, also a failing one.
struct Lab {
    runtime: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { runtime: tempfile::tempdir().unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LAB);
        command.args(arguments).env("XDG_RUNTIME_DIR", self.runtime.path());
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn say(&self, arguments: &[&str]) -> Said {
        self.command(arguments).output().unwrap().into()
    }

    fn shell(&self, script: &str) -> Said {
        self.say(&["exec", "--timeout", "60", "--", "sh", "-c", script])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.say(&["down"]);
    }
}

/// Waits until a process has ended that is no child of ours.
fn await_end(pid: &str) {
    let tail = ["20", "tail", "--pid", pid, "-f", "/dev/null"];
    assert!(Command::new("timeout").args(tail).status().unwrap().success(), "{pid} lives on");
}

#[test]
#[ignore = "needs QEMU: run by cargo xtask test"]
fn a_one_shot_lab_is_a_kvm_host_and_leaves_nothing() {
    let kept = tempfile::Builder::new().prefix("lab").tempdir().unwrap();
    let read = kept.path().join("read");
    fs::write(&read, "from outside").unwrap();
    let script = format!(
        "cat {0}; echo changed > {0}; test -c /dev/kvm && echo \" $CALVE_LAB\"; echo apart >&2; exit 7",
        read.display()
    );
    let lab = Command::new(LAB).args(["run", "--", "sh", "-c", &script]).current_dir("/").output();
    let said = Said::from(lab.unwrap());
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("from outside 1\n", "apart\n"));
    assert_eq!(said.status, Some(7));
    assert_eq!(fs::read_to_string(&read).unwrap(), "from outside", "the lab wrote to this machine");

    let mut lab = Command::new(LAB)
        .args(["run", "--", "sh", "-c", "echo running; exec sleep 1000"])
        .current_dir("/")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", lab.id());
    let qemu = fs::read_to_string(children);
    let mut line = String::new();
    BufReader::new(lab.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "running\n");
    let qemu = match qemu.unwrap().trim().to_owned() {
        // Read too early above: QEMU had not been started yet.
        none if none.is_empty() => {
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", lab.id())).unwrap()
        }
        pid => pid,
    };
    lab.kill().unwrap();
    lab.wait().unwrap();
    await_end(qemu.trim());
}

#[test]
#[ignore = "needs QEMU: run by cargo xtask test"]
fn a_persistent_lab_serves_many_callers() {
    let lab = Lab::new();
    assert_eq!(lab.say(&["status"]).stdout, "down\n");
    let early = lab.shell("true");
    assert!(early.stderr.contains("is not up") && early.status == Some(125), "{early:?}");
    let up = lab.say(&["up", "--mem", "2048"]);
    assert_eq!(up.status, Some(0), "{up:?}");
    assert!(lab.say(&["up"]).stderr.contains("is up already"));

    statuses_are_kept(&lab);
    output_is_complete(&lab);
    callers_run_at_once(&lab);
    changed_files_are_seen(&lab);
    nothing_outlives_its_caller(&lab);
    a_dead_host_says_why(&lab);
}

#[test]
#[ignore = "needs QEMU: run by cargo xtask test"]
fn a_held_lab_ends_with_its_holder() {
    let lab = Lab::new();
    let mut holder = lab.command(&["up", "--hold", "--mem", "1024"]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    assert_eq!(lab.shell("echo here").stdout, "here\n");
    // What the kernel does when the process that holds the other end dies.
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    assert_eq!(lab.say(&["status"]).stdout, "down\n");
    assert_eq!(fs::read_dir(lab.runtime.path().join("calve-lab")).unwrap().count(), 0);
}

fn statuses_are_kept(lab: &Lab) {
    assert_eq!(lab.shell("exit 42").status, Some(42));
    assert_eq!(lab.shell("kill -TERM $$").status, Some(128 + 15));
    let missing = lab.say(&["exec", "--", "/no/such/program"]);
    assert!(missing.stderr.contains("/no/such/program") && missing.status == Some(127));
    let refused = lab.say(&["exec", "--cwd", "/run/nowhere", "--", "true"]);
    assert!(refused.stderr.contains("no folder /run/nowhere") && refused.status == Some(125));
    let slow = lab.say(&["exec", "--timeout", "1", "--", "sleep", "1000"]);
    assert!(slow.stderr.contains("ended after 1 s") && slow.status == Some(124), "{slow:?}");
}

fn output_is_complete(lab: &Lab) {
    let said = lab.shell("seq 1 300000; seq 1 1000 >&2");
    let numbers = |last| (1..=last).map(|n| format!("{n}\n")).collect::<String>();
    assert!(said.stdout == numbers(300_000) && said.stderr == numbers(1000));
}

/// Each of the two can only end while the other one runs.
fn callers_run_at_once(lab: &Lab) {
    assert_eq!(lab.shell("mkfifo /dev/shm/meet").status, Some(0));
    thread::scope(|scope| {
        let writer = scope.spawn(|| lab.shell("echo met > /dev/shm/meet"));
        assert_eq!(lab.shell("cat /dev/shm/meet").stdout, "met\n");
        assert_eq!(writer.join().unwrap().status, Some(0));
    });
}

fn changed_files_are_seen(lab: &Lab) {
    let kept = tempfile::Builder::new().prefix("lab").tempdir().unwrap();
    let (old, new) = (kept.path().join("old"), kept.path().join("new"));
    fs::write(&old, "1").unwrap();
    let cat = format!("cat {} {}", old.display(), new.display());
    assert_eq!(lab.shell(&cat).stdout, "1");
    fs::write(&old, "2").unwrap();
    fs::write(&new, "3").unwrap();
    assert_eq!(lab.shell(&cat).stdout, "23");
}

/// A process in a session of its own, in a command whose caller is killed, is the hardest to end.
fn nothing_outlives_its_caller(lab: &Lab) {
    let script = "setsid flock /dev/shm/held sh -c 'echo held; exec sleep 1000' & wait";
    let mut caller = lab.command(&["exec", "--", "sh", "-c", script]);
    let mut caller = caller.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(caller.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    assert!(lab.say(&["status"]).stdout.contains("1 of 8 ports busy"));
    caller.kill().unwrap();
    caller.wait().unwrap();
    assert_eq!(lab.shell("flock /dev/shm/held echo free").stdout, "free\n");

    // The end of the command itself ends the rest as well.
    let script =
        "setsid flock /dev/shm/held sh -c 'echo held; exec sleep 1000' & read line < /dev/shm/go";
    assert_eq!(lab.shell("mkfifo /dev/shm/go").status, Some(0));
    thread::scope(|scope| {
        let caller = scope.spawn(|| lab.shell(script));
        assert_eq!(lab.shell("echo > /dev/shm/go").status, Some(0));
        assert_eq!(caller.join().unwrap().status, Some(0));
    });
    assert_eq!(lab.shell("flock /dev/shm/held echo free").stdout, "free\n");
}

fn a_dead_host_says_why(lab: &Lab) {
    let said = lab.shell("echo c > /proc/sysrq-trigger");
    assert_eq!(said.status, Some(125));
    assert!(said.stderr.contains("nested host ended") && said.stderr.contains("sysrq"), "{said:?}");
    assert_eq!(lab.say(&["status"]).stdout, "down\n");
    assert!(lab.shell("true").stderr.contains("is not up"));
    assert!(lab.say(&["down"]).stderr.contains("is not up"));
}
