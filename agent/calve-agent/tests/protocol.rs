//! The control stream itself, frame by frame: order, refusals, replacement.

// Test functions may unwrap by clippy.toml; their helpers are meant, too.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::os::unix::net::UnixStream;

use calve_proto::frame::{FrameError, FrameReader, FrameWriter};
use calve_proto::wire::guest_frame::Body as Guest;
use calve_proto::wire::host_frame::Body as Host;
use calve_proto::wire::invoke_done::Outcome;
use calve_proto::wire::protocol_error::Code;
use calve_proto::wire::{self, GuestFrame, HostFrame};
use calve_proto::{ErrorKind, Event, Opening};
use support::{Machine, PYTHON, call, configure, facts, wait};

/// A stream without the session's manners.
struct Raw {
    writer: FrameWriter<UnixStream>,
    reader: FrameReader<UnixStream>,
    stream: UnixStream,
}

impl Raw {
    fn connect(machine: &Machine) -> Self {
        let stream = machine.stream();
        Self {
            writer: FrameWriter::new(stream.try_clone().unwrap()),
            reader: FrameReader::new(stream.try_clone().unwrap()),
            stream,
        }
    }

    fn greeted(machine: &Machine) -> Self {
        let mut raw = Self::connect(machine);
        raw.send(Host::Hello(hello()));
        assert!(matches!(raw.receive(), Guest::Welcome(_)));
        raw
    }

    fn send(&mut self, body: Host) {
        self.writer.write(&HostFrame { body: Some(body) }).unwrap();
    }

    fn receive(&mut self) -> Guest {
        self.reader.read::<GuestFrame>().unwrap().body.unwrap()
    }

    fn error_kind(&mut self) -> (String, ErrorKind) {
        match self.receive() {
            Guest::InvokeDone(wire::InvokeDone {
                request_id,
                outcome: Some(Outcome::Error(e)),
            }) => {
                let kind = e.kind();
                (request_id, kind)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The refusal that ends the stream.
    fn refusal(mut self) -> Code {
        let Guest::ProtocolError(error) = self.receive() else { panic!("no refusal") };
        assert!(!error.message.is_empty());
        assert!(matches!(self.reader.read::<GuestFrame>(), Err(FrameError::Closed)));
        error.code()
    }
}

fn hello() -> wire::Hello {
    wire::Hello { protocol_version: 1, ..wire::Hello::default() }
}

fn invoke(request_id: &str, size: u64, body: &[u8]) -> Host {
    Host::Invoke(wire::Invoke {
        request_id: request_id.into(),
        body_size: size,
        body: body.into(),
        ..wire::Invoke::default()
    })
}

const SLOW: &str =
    "import time\ndef handler(event, context):\n    time.sleep(event)\n    return 1\n";

#[test]
fn what_breaks_the_protocol_is_named_and_ends_the_stream() {
    let machine = Machine::new(&[]);
    let mut raw = Raw::connect(&machine);
    raw.send(Host::Hello(wire::Hello { protocol_version: 2, ..wire::Hello::default() }));
    assert_eq!(raw.refusal(), Code::UnsupportedVersion);

    let mut raw = Raw::connect(&machine);
    raw.send(Host::PrepareFreeze(wire::PrepareFreeze::default()));
    assert_eq!(raw.refusal(), Code::Unexpected);

    let mut raw = Raw::greeted(&machine);
    raw.send(Host::Hello(hello()));
    assert_eq!(raw.refusal(), Code::Unexpected);

    let mut raw = Raw::connect(&machine);
    raw.stream.write_all(&[0xff, 0xff, 0xff, 0x7f]).unwrap();
    assert_eq!(raw.refusal(), Code::Malformed);

    let mut raw = Raw::connect(&machine);
    raw.stream.write_all(&[3, 0xff, 0xff, 0xff]).unwrap();
    assert_eq!(raw.refusal(), Code::Malformed);

    let bad = [
        invoke("", 1, b"1"),
        invoke("a b", 1, b"1"),
        invoke("r", 1, b"12"),
        invoke("r", 7 << 20, b"1"),
        Host::Configure(wire::Configure::default()),
        Host::Configure(wire::Configure {
            runtime: "../node".into(),
            ..wire::Configure::default()
        }),
        Host::InvokeChunk(wire::InvokeChunk::default()),
    ];
    for frame in bad {
        let mut raw = Raw::greeted(&machine);
        raw.send(frame);
        assert_eq!(raw.refusal(), Code::OutOfBounds);
    }
    let mut raw = Raw::connect(&machine);
    let short = wire::ThawFacts { seed: vec![1; 8], ..facts("m") };
    raw.send(Host::Hello(wire::Hello { thaw: Some(short), ..hello() }));
    assert!(matches!(raw.receive(), Guest::Welcome(_)));
    assert_eq!(raw.refusal(), Code::OutOfBounds);
}

#[test]
fn a_machine_without_a_function_says_so_and_is_configured_once() {
    let machine = Machine::new(&[("app.py", SLOW)]);
    let mut raw = Raw::greeted(&machine);
    raw.send(invoke("r-1", 1, b"0"));
    assert_eq!(raw.error_kind(), ("r-1".into(), ErrorKind::NotConfigured));
    raw.send(Host::Configure(configure(PYTHON, "app.handler")));
    assert!(matches!(raw.receive(), Guest::Ready(_)));
    raw.send(Host::Configure(configure(PYTHON, "app.handler")));
    assert_eq!(raw.refusal(), Code::Unexpected);
}

#[test]
fn one_call_at_a_time_and_each_id_once() {
    let machine = Machine::new(&[("app.py", SLOW)]);
    drop(machine.start(configure(PYTHON, "app.handler")));
    let mut raw = Raw::greeted(&machine);
    // The event of the first call is not complete, so it stays in flight for as long as we like.
    raw.send(invoke("r-1", 1, b""));
    raw.send(invoke("r-2", 1, b"0"));
    assert_eq!(raw.error_kind(), ("r-2".into(), ErrorKind::Busy));
    raw.send(invoke("r-1", 1, b"0"));
    assert_eq!(raw.error_kind(), ("r-1".into(), ErrorKind::DuplicateRequest));
    raw.send(Host::PrepareFreeze(wire::PrepareFreeze::default()));
    assert!(matches!(raw.receive(), Guest::FreezeFailed(_)));
    // Chunks of the refused call are passed over.
    raw.send(Host::InvokeChunk(wire::InvokeChunk { request_id: "r-2".into(), data: b"9".into() }));
    raw.send(Host::InvokeChunk(wire::InvokeChunk { request_id: "r-1".into(), data: b"0".into() }));
    let Guest::InvokeDone(done) = raw.receive() else { panic!() };
    assert_eq!(done.request_id, "r-1");
    assert!(matches!(done.outcome, Some(Outcome::Success(_))));
    raw.send(invoke("r-1", 1, b"0"));
    assert_eq!(raw.error_kind(), ("r-1".into(), ErrorKind::DuplicateRequest));
    raw.send(Host::Cancel(wire::Cancel { request_id: "r-1".into() }));
    raw.send(Host::Ping(wire::Ping { nonce: 3 }));
    assert!(matches!(raw.receive(), Guest::Pong(wire::Pong { nonce: 3 })));
}

#[test]
fn a_newer_stream_replaces_an_idle_one_and_not_a_busy_one() {
    let machine = Machine::new(&[("app.py", SLOW)]);
    let mut old = machine.start(configure(PYTHON, "app.handler"));
    let mut new = Raw::greeted(&machine);
    assert!(old.next_event().is_err(), "the idle stream is closed");
    new.send(invoke("r-1", 1, b""));
    new.send(Host::Ping(wire::Ping { nonce: 3 }));
    assert!(matches!(new.receive(), Guest::Pong(_)));
    assert_eq!(Raw::connect(&machine).refusal(), Code::Occupied);
    new.send(Host::InvokeChunk(wire::InvokeChunk { request_id: "r-1".into(), data: b"0".into() }));
    assert!(matches!(new.receive(), Guest::InvokeDone(_)));
}

#[test]
fn configure_and_the_first_call_may_come_in_one_frame() {
    let machine = Machine::new(&[("app.py", SLOW)]);
    let mut session = machine.connect();
    let configure = Some(configure(PYTHON, "app.handler"));
    let call = Some(calve_proto::Call::new("r-1", b"0"));
    session.open(Opening { configure, call, ..Opening::default() }).unwrap();
    assert_eq!(wait(&mut session).json(), 1);
}

#[test]
fn a_call_for_a_function_that_does_not_start_gets_its_error() {
    let machine = Machine::new(&[("app.py", "raise KeyError('k')")]);
    let mut session = machine.connect();
    let configure = Some(configure(PYTHON, "app.handler"));
    let first = Some(calve_proto::Call::new("r-1", b"0"));
    session.open(Opening { configure, call: first, ..Opening::default() }).unwrap();
    let outcome = wait(&mut session);
    assert_eq!(
        (outcome.kind(), outcome.error().error_type.as_str()),
        (ErrorKind::Init, "KeyError")
    );
    // Each further call tries again, as AWS Lambda does.
    assert_eq!(call(&mut session, "r-2", "0").kind(), ErrorKind::Init);
}

#[test]
fn a_frozen_machine_takes_no_call_before_its_facts() {
    let machine = Machine::new(&[("app.py", SLOW)]);
    machine.freeze(machine.start(configure(PYTHON, "app.handler")));
    let mut session = machine.connect();
    session.open(Opening::default()).unwrap();
    assert_eq!(call(&mut session, "r-1", "0").kind(), ErrorKind::Busy);
    let mut session = machine.connect();
    session.open(Opening { thaw: Some(facts("m")), ..Opening::default() }).unwrap();
    session.wait_thawed(&mut |_, _| {}).unwrap().unwrap();
    assert_eq!(call(&mut session, "r-2", "0").json(), 1);
}

#[test]
fn no_user_code_runs_in_a_frozen_machine() {
    let code = "import threading, time\nticks = []\ndef tick():\n    while True:\n        ticks.append(time.monotonic())\n        time.sleep(0.001)\nthreading.Thread(target=tick, daemon=True).start()\ndef handler(event, context):\n    seen = len(ticks)\n    while len(ticks) == seen:\n        time.sleep(0.001)\n    return max(b - a for a, b in zip(ticks, ticks[1:]))\n";
    let machine = Machine::new(&[("app.py", code)]);
    machine.freeze(machine.start(configure(PYTHON, "app.handler")));
    let frozen = std::time::Duration::from_millis(300);
    // Time has to pass while it is frozen: that is what is measured.
    std::thread::sleep(frozen);
    let mut session = machine.connect();
    let first = Some(calve_proto::Call::new("r-1", b"0"));
    session.open(Opening { thaw: Some(facts("m")), call: first, ..Opening::default() }).unwrap();
    let gap = wait(&mut session).json().as_f64().unwrap();
    assert!(gap >= frozen.as_secs_f64(), "the thread paused for {gap} s only");
}

#[test]
fn an_unknown_runtime_is_named() {
    let machine = Machine::new(&[]);
    let error = machine.start_failing(configure("python3.99", "app.handler"));
    assert_eq!(error.kind, ErrorKind::Init);
    assert!(error.error_message.contains("`python3.99` is not in this root image"), "{error}");
    let machine = Machine::new(&[]);
    let error = machine.start_failing(configure("provided", "x"));
    assert!(error.error_message.contains("no executable `bootstrap`"), "{error}");
}

#[test]
fn a_machine_answers_a_ping_before_it_is_told_who_it_is() {
    let machine = Machine::new(&[]);
    let mut session = machine.connect();
    session.ping(7).unwrap();
    assert!(matches!(session.next_event().unwrap(), Event::Pong { nonce: 7 }));
    session.open(Opening { thaw: Some(facts("m-1")), ..Opening::default() }).unwrap();
    session.wait_thawed(&mut |_, _| {}).unwrap().unwrap();
}
