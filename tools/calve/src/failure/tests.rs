use std::io;
use std::path::PathBuf;

use calve_fleet::control::{Refusal, Stage};
use calve_fleet::{BootError, BuildError, CallError, HostError, WorkerError};
use calve_proto::{ErrorKind, FunctionError};
use calve_snapshots::Error as StoreError;

use super::*;

fn status(failure: impl Into<Failure>) -> u8 {
    failure.into().status().unwrap() as u8
}

fn text(failure: impl Into<Failure>) -> String {
    match failure.into() {
        Failure::Told { line, .. } => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_kind_of_function_error_has_its_status() {
    for (kind, wanted) in [
        (ErrorKind::Handler, 1),
        (ErrorKind::RuntimeExited, 1),
        (ErrorKind::OutOfMemory, 1),
        (ErrorKind::InvalidResult, 1),
        (ErrorKind::ResultTooLarge, 1),
        (ErrorKind::Init, 1),
        (ErrorKind::Hook, 1),
        (ErrorKind::InvalidEvent, 2),
        (ErrorKind::Timeout, 4),
        (ErrorKind::InitTimeout, 4),
        (ErrorKind::Cancelled, 4),
        (ErrorKind::Busy, 4),
        (ErrorKind::Agent, 4),
    ] {
        assert_eq!(status(&FunctionError::new(kind, "T", "m")), wanted, "{kind:?}");
    }
}

#[test]
fn the_store_s_errors_are_sorted_by_whose_fault_they_are() {
    let store = PathBuf::from("/s");
    let missing = StoreError::NotFound { name: "a".into(), store, known: vec![] };
    assert_eq!(status(missing), 2);
    assert_eq!(status(StoreError::NameBusy("a".into())), 2);
    assert_eq!(status(StoreError::FormatVersion { name: "a".into(), found: 9 }), 2);
    let source = io::ErrorKind::StorageFull.into();
    assert_eq!(status(StoreError::NoSpace { path: "/s".into(), source }), 3);
    let (wanted, host) = ("GenuineIntel".into(), "AuthenticAMD".into());
    assert_eq!(status(StoreError::CpuVendor { name: "a".into(), wanted, host }), 3);
}

fn refused(stage: Stage) -> WorkerError {
    WorkerError::Refused(Refusal { stage, reason: "no".into() })
}

#[test]
fn the_machine_s_errors_are_sorted_by_whose_fault_they_are() {
    assert_eq!(status(refused(Stage::Shell)), 3);
    assert_eq!(status(refused(Stage::Boot)), 2);
    assert_eq!(status(refused(Stage::Thaw)), 4);
    assert_eq!(status(WorkerError::Cancelled), 130);
    assert_eq!(status(HostError::NoVirtualisation { pvm: true }), 3);
    assert_eq!(status(CallError::Spent), 4);
    assert_eq!(status(BootError::Worker(refused(Stage::Jail))), 3);
    let init = || BootError::Init(FunctionError::new(ErrorKind::Init, "E", "m"));
    assert_eq!(status(init()), 1);
    assert_eq!(status(BuildError::Boot(init())), 1);
    let source = FunctionError::new(ErrorKind::Timeout, "E", "m");
    assert_eq!(status(BuildError::Warm { number: 1, source }), 4);
}

#[test]
fn a_remedy_stands_behind_the_causes() {
    let source = io::Error::from_raw_os_error(28);
    let line = text(StoreError::NoSpace { path: "/s/tmp/a".into(), source });
    assert_eq!(
        line,
        "no space left to write /s/tmp/a: No space left on device (os error 28); free some, or choose another store"
    );
}

#[derive(Debug, thiserror::Error)]
#[error("outer fails: inner fails")]
struct Repeats(#[source] Inner);

#[derive(Debug, thiserror::Error)]
#[error("inner fails")]
struct Inner;

#[test]
fn nothing_is_said_twice() {
    assert_eq!(line(&Repeats(Inner)), "outer fails: inner fails");
}

#[test]
fn a_guest_s_text_cannot_break_the_line() {
    let error = FunctionError::new(ErrorKind::Handler, "E", "a\r\nb\x1b[2J  c");
    assert_eq!(text(&error), "E: a b [2J c");
}

#[test]
fn the_object_is_named_once() {
    assert_eq!(text(Failure::usage("broken").about("py")), "py: broken");
    assert_eq!(text(Failure::usage("no snapshot `py`").about("py")), "no snapshot `py`");
    assert_eq!(text(Failure::usage("cannot run").about("n")), "n: cannot run");
    assert_eq!(text(Failure::usage("/a/b-c is gone").about("/a/b")), "/a/b: /a/b-c is gone");
}
