//! `calve boot` with kernels of a few bytes, on any `/dev/kvm`.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use common::guest::{CHATTER, ECHO, HELLO, SILENT, kernel};
use common::leftovers::{World, wait_until, workers};
use common::{Place, Said};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

/// The command line of a boot.
fn boot(place: &Place, code: &[u8]) -> Command {
    let mut command = place.command(["boot", "--memory", "4", "--kernel"]);
    command.arg(kernel(place.folder.path(), code));
    command
}

fn signal(child: &std::process::Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_speaks_and_resets() {
    let (place, world) = (Place::new(), World::now());
    let said = Said::from(boot(&place, HELLO).output().unwrap()).status(0);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("ok", ""));
    world.assert_unchanged(&place);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_that_goes_on_is_ended() {
    let (place, world) = (Place::new(), World::now());
    let said = boot(&place, SILENT).args(["--timeout", "0.5"]).output().unwrap();
    let said = Said::from(said).status(4).line("machine still ran after 0.5 s").line("--timeout");
    assert_eq!(said.stdout, "?");
    world.assert_unchanged(&place);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_damaged_kernel_is_refused_by_name() {
    let place = Place::new();
    let path = kernel(place.folder.path(), HELLO);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..70]).unwrap();
    let said = Said::from(place.command(["boot", "--kernel"]).arg(&path).output().unwrap());
    said.status(2).silent().line("/kernel");
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_pipe_types() {
    let place = Place::new();
    let mut command = boot(&place, ECHO);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // More than the port's FIFO and more than fits into one write; Ctrl-A is nothing special.
    let text = format!("{}\x01x{}q", "hello ".repeat(40), "world ".repeat(40));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = Said::from(child.wait_with_output().unwrap()).status(0);
    assert_eq!(said.stdout, format!(">{text}"));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_reader_that_leaves_ends_the_machine_quietly() {
    let (place, world) = (Place::new(), World::now());
    let mut child =
        boot(&place, CHATTER).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let said = Said::from(child.wait_with_output().unwrap()).status(0);
    assert_eq!(said.stderr, "");
    world.assert_unchanged(&place);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_signal_ends_the_machine_and_leaves_nothing() {
    for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (place, world) = (Place::new(), World::now());
        let mut child =
            boot(&place, SILENT).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        signal(&child, number);
        Said::from(child.wait_with_output().unwrap()).status(130).line("interrupted");
        world.assert_unchanged(&place);
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_signal_at_any_moment_leaves_nothing() {
    let (place, world) = (Place::new(), World::now());
    for microseconds in (0..40_000).step_by(2_500) {
        let mut command = boot(&place, SILENT);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(microseconds));
        signal(&child, Signal::SIGINT);
        let status = child.wait().unwrap();
        // Before its handlers are in place the signal kills it, which is as good.
        use std::os::unix::process::ExitStatusExt;
        assert!(status.code() == Some(130) || status.signal() == Some(2), "{status:?}");
        world.assert_unchanged(&place);
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_killed_command_takes_its_worker_with_it() {
    let (place, before) = (Place::new(), workers());
    let mut child = boot(&place, SILENT).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    assert_eq!(workers().difference(&before).count(), 1);
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    wait_until(|| workers() == before);
}

/// A boot on a terminal of its own.
struct Session {
    child: std::process::Child,
    keyboard: File,
    terminal: OwnedFd,
    shown: String,
}

impl Session {
    fn start(place: &Place) -> Self {
        let pty = openpty(None, None).unwrap();
        let (program, args) = (common::program(), ["boot", "--memory", "4", "--kernel"]);
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        // setsid makes it the terminal of a new session, as a terminal emulator does, and becomes the command.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program).args(args);
        command.arg(kernel(place.folder.path(), ECHO)).env("TMPDIR", place.temporary());
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        Self { child, keyboard: pty.master.into(), terminal: pty.slave, shown: String::new() }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    /// Reads what the terminal shows until it ends with `end`.
    fn wait_for(&mut self, end: &str) {
        let mut bytes = [0; 256];
        while !self.shown.ends_with(end) {
            let mut fds = [PollFd::new(self.keyboard.as_fd(), PollFlags::POLLIN)];
            let shown = poll(&mut fds, PollTimeout::from(60_000_u16)).unwrap();
            assert_eq!(shown, 1, "no {end:?} after {:?}", self.shown);
            let read = self.keyboard.read(&mut bytes).unwrap();
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    /// Asserts that the command ended with `status` and the terminal is as it was.
    fn ends(mut self, status: i32) {
        assert_eq!(self.child.wait().unwrap().code(), Some(status), "{}", self.shown);
        assert!(!self.is_raw());
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_terminal_is_raw_while_the_guest_has_it() {
    let place = Place::new();
    let mut session = Session::start(&place);
    session.wait_for(">");
    wait_until(|| session.is_raw());
    session.keyboard.write_all(b"ls\x03\x01\x01").unwrap();
    session.wait_for("ls\x03\x01");
    session.keyboard.write_all(b"\x01x").unwrap();
    session.ends(0);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_terminal_is_restored_when_the_guest_ends() {
    let place = Place::new();
    let mut session = Session::start(&place);
    session.wait_for(">");
    session.keyboard.write_all(b"q").unwrap();
    session.ends(0);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_terminal_is_restored_after_a_signal() {
    let place = Place::new();
    let mut session = Session::start(&place);
    session.wait_for(">");
    signal(&session.child, Signal::SIGTERM);
    session.ends(130);
}
