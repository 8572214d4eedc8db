use std::fs::File;
use std::process::Command;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{getpid, getuid};

use super::*;
use crate::{Inside, Jail};

/// Runs one ignored test of this binary in a jail and says how what was inside ended.
fn inside(test: &str, isolation: Isolation) -> WaitStatus {
    let program = std::env::current_exe().unwrap();
    let args = ["--exact", test, "--ignored", "--nocapture", "--test-threads=1"];
    let mut command = Command::new(program);
    let output = command.args(args).env("CALVE_TEST_ISOLATION", isolation.to_string()).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // The harness has said something before, on the same line.
    let pid = said.split_whitespace().last().and_then(|word| word.parse().ok());
    let ended = waitpid(Pid::from_raw(pid.expect("a process id")), None).unwrap();
    print!("{}", String::from_utf8_lossy(&output.stderr));
    ended
}

fn enter() -> Inside {
    let isolation = std::env::var("CALVE_TEST_ISOLATION").unwrap().parse().unwrap();
    let jail = Jail::new(std::os::unix::process::parent_id()).isolation(isolation);
    jail.enter(|| ()).unwrap().0
}

/// Ends without the test harness. A failed assertion ends it otherwise, by the harness's panic.
fn well() -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(42) }
}

fn is_well(ended: WaitStatus) -> bool {
    matches!(ended, WaitStatus::Exited(_, 42))
}

#[test]
fn what_is_inside_is_process_1_and_opens_nothing() {
    assert!(is_well(inside("isolation::tests::child_finds_nothing", Isolation::most())));
    assert!(is_well(inside("isolation::tests::child_finds_nothing", Isolation::Own)));
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_finds_nothing() {
    let _inside = enter();
    assert_eq!(getpid().as_raw(), 1);
    let entries = std::fs::read_dir("/").unwrap().count();
    assert_eq!(entries, 0);
    for path in ["/proc/self/status", "/dev/null", "/etc/passwd", "/..", "../../etc/passwd"] {
        let opened = File::open(path);
        assert!(path == "/.." || opened.is_err(), "{path}");
    }
    let made = File::create("/made").unwrap_err();
    assert_eq!(made.raw_os_error(), Some(libc::EROFS));
    let bound = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.connect("127.0.0.1:9"));
    // The loopback of a new network namespace is down.
    assert!(bound.is_err());
    well();
}

#[test]
fn as_root_each_has_a_user_of_its_own() {
    assert!(geteuid().is_root(), "run the tests as root");
    let range = Isolation::Uids { first: 1_900_000_000, count: 1 };
    assert!(is_well(inside("isolation::tests::child_is_the_user", range)));
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_is_the_user() {
    let _inside = enter();
    assert_eq!(getuid().as_raw(), 1_900_000_000);
    assert_eq!(nix::unistd::getgid().as_raw(), 1_900_000_000);
    assert_eq!(setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)), Err(Errno::EINVAL));
    well();
}

#[test]
fn a_copy_ends_with_process_1() {
    let ended = inside("isolation::tests::child_leaves_a_copy", Isolation::most());
    assert!(is_well(ended));
}

/// Would not end before its copy does, if that lived on: the copy holds standard error, to whose end the test reads.
#[test]
#[ignore = "a process of its own, run by another test"]
fn child_leaves_a_copy() {
    let inside = enter();
    inside.seal().unwrap();
    // SAFETY: the copy does nothing but wait.
    if unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } == 0 {
        loop {
            // SAFETY: waits for nothing, for ever.
            unsafe { libc::poll(std::ptr::null_mut(), 0, -1) };
        }
    }
    well();
}

#[test]
fn what_is_written_is_read() {
    for isolation in [Isolation::None, Isolation::Own, Isolation::UIDS] {
        assert_eq!(isolation.to_string().parse::<Isolation>().unwrap(), isolation);
    }
    for text in ["", "uids:0:5", "uids:5:0", "uids:4294967295:1", "uids:1", "uids:a:b", "all"] {
        assert!(text.parse::<Isolation>().is_err(), "{text}");
    }
}
