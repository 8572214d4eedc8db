//! Workers that are none: programs that are missing, die, or talk nonsense. Needs no /dev/kvm.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use calve_fleet::{Death, Fleet, FleetError, Limiting, Limits, Options, WorkerError};
use common::{lives, shape};
use nix::sys::signal::Signal;

fn fleet_of(program: &Path) -> Fleet {
    Fleet::new(Options { worker: Some(program.into()), ..Options::default() }).unwrap()
}

/// A program that says which process it is and runs `script` with the control socket as descriptor 0.
fn script(dir: &tempfile::TempDir, script: &str) -> PathBuf {
    let path = dir.path().join("worker");
    std::fs::write(&path, format!("#!/bin/sh\necho $$\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn birth_error(text: &str) -> WorkerError {
    let dir = tempfile::tempdir().unwrap();
    fleet_of(&script(&dir, text)).prepare(shape(), 1).unwrap_err()
}

#[test]
fn a_missing_worker_is_named_with_the_remedy() {
    let options = Options { worker: Some("/nowhere/calve-worker".into()), ..Options::default() };
    let error = Fleet::new(options).unwrap_err();
    assert!(matches!(error, FleetError::NoWorker(_)));
    let text = error.to_string();
    assert!(text.contains("/nowhere/calve-worker") && text.contains("CALVE_WORKER"), "{text}");
}

#[test]
fn a_program_that_does_not_start_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker");
    std::fs::write(&path, "no program").unwrap();
    let error = fleet_of(&path).prepare(shape(), 1).unwrap_err();
    assert!(matches!(error, WorkerError::Spawn { .. }), "{error}");
}

#[test]
fn a_worker_that_exits_says_how_and_its_last_words() {
    let error = birth_error("echo 'out of order' >&2; exit 7");
    let WorkerError::Died { how, last_words } = error else { panic!("{error}") };
    assert_eq!((how, last_words.as_str()), (Death::Exited(7), "out of order"));
}

#[test]
fn a_worker_that_is_killed_says_by_what() {
    let error = birth_error("kill -SEGV $$");
    assert!(matches!(error, WorkerError::Died { how: Death::Killed(Signal::SIGSEGV), .. }));
}

#[test]
fn a_worker_that_hangs_up_and_lives_on_is_killed() {
    let error = birth_error("exec <&- ; exec sleep 1000");
    assert!(matches!(error, WorkerError::Died { how: Death::Killed(Signal::SIGKILL), .. }));
}

#[test]
fn nonsense_is_a_breach_of_the_protocol() {
    let error = birth_error("printf 'nonsense' >&0; exec sleep 1000");
    assert!(matches!(error, WorkerError::Protocol(_)), "{error}");
}

#[test]
fn a_report_out_of_turn_is_a_breach_of_the_protocol() {
    // Report::Saved without its two descriptors.
    let error = birth_error("printf '\\003' >&0; exec sleep 1000");
    assert!(matches!(error, WorkerError::Protocol(_)), "{error}");
}

#[test]
fn another_release_is_refused_by_name() {
    // Report::Shell { version: 9 }.
    let error = birth_error("printf '\\000\\011' >&0; exec sleep 1000");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("different releases"), "{source}");
}

#[test]
fn last_words_cannot_command_a_terminal() {
    let error = birth_error("printf '\\033[2Jbye' >&2; exit 1");
    assert!(!error.to_string().contains('\u{1b}'));
}

#[test]
fn whatever_fails_the_process_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let text = format!("echo $$ > {}; printf 'nonsense' >&0; exec sleep 1000", pid_file.display());
    fleet_of(&script(&dir, &text)).prepare(shape(), 1).unwrap_err();
    let pid = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    assert!(!lives(pid));
}

#[test]
fn a_worker_started_by_hand_says_so() {
    let output = std::process::Command::new(common::worker_program()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not by hand"));
}

#[test]
fn a_folder_that_is_no_cgroup_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let limiting = Limiting::Each(Limits::under(folder.path().join("calve")));
    let worker = Some(common::worker_program());
    let error = Fleet::new(Options { worker, limiting, ..Options::default() }).unwrap_err();
    assert!(matches!(error, FleetError::Cgroup(_)), "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("version 2") && source.contains("CALVE_CGROUP=none"), "{source}");
}
