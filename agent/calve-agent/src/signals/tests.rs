use std::process::{Command, Stdio};

use nix::sys::signal::kill;

use super::*;

fn pid(child: &std::process::Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

// One test for everything that waits for children: `reap` takes any child of the process, so that two such tests would
// take each other's.
#[test]
#[allow(clippy::zombie_processes)] // waiting for them is what is tested
fn children_are_stopped_reaped_and_told_apart() {
    let signals = Signals::new().unwrap();
    let sleeper = Command::new("sleep").arg("100").stdin(Stdio::null()).spawn().unwrap();
    kill(pid(&sleeper), Signal::SIGSTOP).unwrap();
    assert!(wait_for_stop(pid(&sleeper)).unwrap());
    assert_eq!(reap(), None);
    kill(pid(&sleeper), Signal::SIGKILL).unwrap();
    assert!(!wait_for_stop(pid(&sleeper)).unwrap());
    assert_eq!(reap(), Some((pid(&sleeper), Exit::Signal(9))));

    let failing = Command::new("sh").args(["-c", "exit 42"]).spawn().unwrap();
    assert!(!wait_for_stop(pid(&failing)).unwrap());
    assert_eq!(reap(), Some((pid(&failing), Exit::Status(42))));
    assert!(!signals.drain().unwrap());
}
