use std::io::{Cursor, Read, Write};

use proptest::prelude::*;

use super::*;
use crate::frame::FrameReader;
use crate::limits::{MAX_BODY, MAX_CONTENT_TYPE, MAX_ERROR_MESSAGE};
use crate::wire::{GuestFrame, HostFrame, guest_frame::Body as Guest, invoke_done::Outcome};
use crate::{ErrorKind, Exit, FunctionError};

/// A guest that says what it was given, whatever it hears.
struct Script {
    said: Cursor<Vec<u8>>,
    heard: Vec<u8>,
}

impl Read for Script {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.said.read(buf)
    }
}

impl Write for Script {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.heard.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn session(frames: &[Guest]) -> Session<Script> {
    let mut bytes = Vec::new();
    for body in frames {
        frame::encode(&GuestFrame { body: Some(body.clone()) }, &mut bytes).unwrap();
    }
    raw(bytes)
}

fn raw(bytes: Vec<u8>) -> Session<Script> {
    Session::new(Script { said: Cursor::new(bytes), heard: Vec::new() })
}

fn welcome() -> Guest {
    let agent_version = "1".into();
    Guest::Welcome(wire::Welcome { protocol_version: PROTOCOL_VERSION, agent_version })
}

fn chunk(request_id: &str, size: usize) -> Guest {
    let (request_id, data) = (request_id.into(), vec![b'1'; size]);
    Guest::ResultChunk(wire::ResultChunk { request_id, data, ..Default::default() })
}

fn done(request_id: &str, tail: &[u8], size: usize) -> Guest {
    let success = wire::Success { tail: tail.into(), size: size as u64 };
    let outcome = Some(Outcome::Success(success));
    Guest::InvokeDone(wire::InvokeDone { request_id: request_id.into(), outcome })
}

fn log(size: usize) -> Guest {
    Guest::Log(wire::Log { stream: 1, data: vec![b'x'; size] })
}

fn thaw() -> wire::ThawFacts {
    wire::ThawFacts {
        seed: vec![1; 32],
        wall_clock_ns: 1,
        machine_id: "m".into(),
        ..Default::default()
    }
}

/// Opens with a call of id `r` and returns what the wait for its answer gives.
fn call(frames: &[Guest]) -> Result<Answer, SessionError> {
    let mut session = session(frames);
    let call = Some(Call::new("r", b"{}"));
    session.open(Opening { call, ..Opening::default() }).unwrap();
    session.wait_answer(&mut |_, _| {})
}

#[test]
fn a_warm_call_is_one_frame_there_and_back() {
    let mut session = session(&[welcome(), Guest::Thawed(wire::Thawed {}), done("r", b"7", 1)]);
    let call = Some(Call::new("r", b"{}"));
    session.open(Opening { thaw: Some(thaw()), call, ..Opening::default() }).unwrap();
    let answer = session.wait_answer(&mut |_, _| {}).unwrap();
    assert_eq!(answer.outcome, Ok(b"7".to_vec()));
    assert!(answer.first_byte <= Instant::now());
    let mut heard = FrameReader::new(&session.stream().heard[..]);
    let hello: HostFrame = heard.read().unwrap();
    let Some(Body::Hello(hello)) = hello.body else { panic!("{hello:?}") };
    assert_eq!(hello.invoke.unwrap().body, b"{}");
    assert!(hello.thaw.is_some());
    assert!(heard.read::<HostFrame>().is_err(), "nothing but Hello");
}

#[test]
fn a_large_event_fills_its_first_frame_and_follows_in_chunks() {
    let event = vec![b'7'; MAX_BODY];
    let mut session = session(&[]);
    let call = Some(Call::new("r", &event));
    session.open(Opening { thaw: Some(thaw()), call, ..Opening::default() }).unwrap();
    let heard = session.into_stream().heard;
    let mut reader = FrameReader::new(&heard[..]);
    let mut got = Vec::new();
    while got.len() < event.len() {
        match reader.read::<HostFrame>().unwrap().body.unwrap() {
            Body::Hello(hello) => got.extend(hello.invoke.unwrap().body),
            Body::InvokeChunk(chunk) => got.extend(chunk.data),
            other => panic!("{other:?}"),
        }
        assert!(got.len() >= MAX_CHUNK, "the first frame is full");
    }
    assert!(got == event);
}

#[test]
fn results_are_assembled_and_checked_against_their_size() {
    let answer = call(&[welcome(), chunk("r", 3), log(5), chunk("r", 2), done("r", b"22", 7)]);
    assert_eq!(answer.unwrap().outcome, Ok(b"1111122".to_vec()));
    let wrong = call(&[welcome(), chunk("r", 3), done("r", b"22", 4)]).unwrap_err();
    assert!(matches!(wrong, SessionError::OutOfBounds { frame: "InvokeDone" }), "{wrong}");
    let mut endless = vec![welcome()];
    endless.extend((0..=MAX_BODY / MAX_CHUNK).map(|_| chunk("r", MAX_CHUNK)));
    let wrong = call(&endless).unwrap_err();
    assert!(matches!(wrong, SessionError::TooMuch { what: "result", .. }), "{wrong}");
}

#[test]
fn what_was_not_asked_for_ends_the_session() {
    let cases: [(&[Guest], &str); 8] = [
        (&[log(1)], "a frame before Welcome"),
        (&[welcome(), welcome()], "Welcome"),
        (&[welcome(), Guest::Ready(wire::Ready::default())], "Ready"),
        (&[welcome(), Guest::Thawed(wire::Thawed {})], "Thawed"),
        (&[welcome(), Guest::FreezeReady(wire::FreezeReady::default())], "FreezeReady"),
        (&[welcome(), Guest::Pong(wire::Pong { nonce: 1 })], "Pong"),
        (&[welcome(), chunk("other", 1)], "ResultChunk"),
        (&[welcome(), done("other", b"", 0)], "InvokeDone"),
    ];
    for (frames, named) in cases {
        match call(frames).unwrap_err() {
            SessionError::Unexpected { frame } | SessionError::ForeignRequest { frame } => {
                assert_eq!(frame, named);
            }
            other => panic!("{named}: {other}"),
        }
    }
    let unknown = [0_u8, 0, 0];
    let mut session = raw(unknown.to_vec());
    session.open(Opening::default()).unwrap();
    assert!(matches!(session.next_event(), Err(SessionError::Unexpected { .. })));
}

#[test]
fn values_outside_their_bounds_end_the_session() {
    let error = |message: String, lines: usize| {
        let stack_trace = vec![String::new(); lines];
        let error = wire::FunctionError {
            kind: 1,
            error_message: message,
            stack_trace,
            ..Default::default()
        };
        let outcome = Some(Outcome::Error(error));
        Guest::InvokeDone(wire::InvokeDone { request_id: "r".into(), outcome })
    };
    let no_outcome = wire::InvokeDone { request_id: "r".into(), outcome: None };
    for bad in [
        error("x".repeat(MAX_ERROR_MESSAGE + 1), 0),
        error(String::new(), 65),
        Guest::InvokeDone(no_outcome),
        Guest::Log(wire::Log { stream: 9, data: vec![1] }),
        Guest::Log(wire::Log { stream: 1, data: Vec::new() }),
        log(MAX_CHUNK + 1),
        chunk("r", 0),
        Guest::RuntimeExited(wire::RuntimeExited::default()),
    ] {
        let wrong = call(&[welcome(), bad]).unwrap_err();
        assert!(matches!(wrong, SessionError::OutOfBounds { .. }), "{wrong}");
    }
    assert!(call(&[welcome(), error("x".repeat(MAX_ERROR_MESSAGE), 64)]).unwrap().outcome.is_err());
}

#[test]
fn errors_keep_their_kind_and_their_exit() {
    let error = FunctionError {
        exit: Some(Exit::Signal(9)),
        ..FunctionError::new(ErrorKind::OutOfMemory, "Runtime.OutOfMemory", "killed")
    };
    let outcome = Some(Outcome::Error(error.clone().into()));
    let done = Guest::InvokeDone(wire::InvokeDone { request_id: "r".into(), outcome });
    assert_eq!(call(&[welcome(), done]).unwrap().outcome, Err(error));
}

#[test]
fn logs_go_to_the_sink_up_to_the_limit() {
    let mut session = session(&[welcome(), log(10), log(10), log(10)]);
    session.set_log_limit(20);
    session.open(Opening { call: Some(Call::new("r", b"")), ..Opening::default() }).unwrap();
    let mut seen = 0;
    let wrong = session.wait_answer(&mut |_, bytes| seen += bytes.len()).unwrap_err();
    assert!(matches!(wrong, SessionError::TooMuch { what: "logs", limit: 20 }), "{wrong}");
    assert_eq!(seen, 20);
}

#[test]
fn a_guest_of_another_version_is_named() {
    let other = wire::Welcome { protocol_version: 2, agent_version: String::new() };
    let wrong = call(&[Guest::Welcome(other)]).unwrap_err();
    assert!(matches!(wrong, SessionError::Version { guest: 2 }));
    let refusal = wire::ProtocolError { code: 1, message: "this agent speaks 2".into() };
    let wrong = call(&[Guest::ProtocolError(refusal)]).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "guest refused the request (UnsupportedVersion): this agent speaks 2"
    );
}

#[test]
fn the_callers_mistakes_are_named_before_anything_is_sent() {
    let mut session = session(&[]);
    assert!(matches!(session.prepare_freeze(None), Err(SessionError::Misuse(_))));
    let long = vec![b'1'; MAX_BODY + 1];
    for call in [Call::new("", b""), Call::new("a b", b""), Call::new("r", &long)] {
        let wrong = session.open(Opening { call: Some(call), ..Opening::default() });
        assert!(matches!(wrong, Err(SessionError::BadRequest { .. })));
    }
    let short = wire::ThawFacts { seed: vec![0; 31], ..thaw() };
    let wrong = session.open(Opening { thaw: Some(short), ..Opening::default() });
    assert!(matches!(wrong, Err(SessionError::BadRequest { what: "seed", .. })));
    let env = vec![wire::EnvVar { name: "A=B".into(), value: String::new() }];
    let wrong = session.open(Opening {
        configure: Some(wire::Configure { env, ..Default::default() }),
        ..Opening::default()
    });
    assert!(matches!(wrong, Err(SessionError::BadRequest { .. })));
    assert!(session.stream().heard.is_empty());
}

#[test]
fn time_outs_can_be_retried_and_the_deadline_cannot() {
    /// One byte at a time, a time-out before each.
    struct Drip(Cursor<Vec<u8>>, bool);
    impl Read for Drip {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                Err(std::io::ErrorKind::WouldBlock.into())
            } else {
                self.0.read(&mut buf[..1])
            }
        }
    }
    impl Write for Drip {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let script = session(&[welcome(), chunk("r", 3), done("r", b"2", 4)]).into_stream().said;
    let mut session = Session::new(Drip(script, false));
    session.open(Opening { call: Some(Call::new("r", b"")), ..Opening::default() }).unwrap();
    let answer = loop {
        match session.wait_answer(&mut |_, _| {}) {
            Ok(answer) => break answer,
            Err(SessionError::TimedOut) => {}
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(answer.outcome, Ok(b"1112".to_vec()));
    session.set_deadline(Some(Instant::now()));
    assert!(matches!(session.next_event(), Err(SessionError::DeadlinePassed)));
}

#[test]
fn short_deadlines_do_not_become_the_default() {
    assert_eq!(request::millis(None), 0);
    assert_eq!(request::millis(Some(Duration::ZERO)), 1);
    assert_eq!(request::millis(Some(Duration::from_nanos(1_000_001))), 2);
    assert_eq!(request::millis(Some(Duration::MAX)), u32::MAX);
}

proptest! {
    #[test]
    fn hostile_guests_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let mut session = raw(bytes);
        session.open(Opening { call: Some(Call::new("r", b"")), thaw: Some(thaw()), ..Opening::default() }).unwrap();
        while session.next_event().is_ok() {}
    }

    #[test]
    fn hostile_frames_never_panic(
        ids in proptest::collection::vec((0_u8..16, 0_i32..20, ".{0,80}", 0_usize..100), 0..40),
    ) {
        let frames: Vec<Guest> = ids.into_iter().map(|(which, number, text, size)| match which {
            0 | 1 => welcome(),
            2 => Guest::Ready(wire::Ready { init_us: u64::MAX }),
            3 => Guest::Thawed(wire::Thawed {}),
            4 => Guest::Log(wire::Log { stream: number, data: vec![0; size] }),
            5 => Guest::LogTruncated(wire::LogTruncated { dropped: u64::MAX }),
            6 | 7 => chunk("r", size),
            8 => chunk(&text, size),
            9 => done("r", text.as_bytes(), size),
            10 => Guest::ProtocolError(wire::ProtocolError { code: number, message: text }),
            11 => Guest::Pong(wire::Pong { nonce: size as u64 }),
            12 => Guest::FreezeReady(wire::FreezeReady { zeroed_bytes: u64::MAX }),
            13 => Guest::InitFailed(wire::InitFailed { error: None }),
            _ => Guest::InvokeDone(wire::InvokeDone {
                request_id: "r".into(),
                outcome: Some(Outcome::Error(wire::FunctionError { kind: number, error_type: text, ..Default::default() })),
            }),
        }).collect();
        let mut session = session(&frames);
        session.open(Opening { call: Some(Call::new("r", b"")), ..Opening::default() }).unwrap();
        let _ = session.wait_answer(&mut |_, _| {});
    }
}

#[test]
fn a_stream_is_passed_on_and_may_be_long_or_break_off() {
    let part = |content_type: &str, size| {
        let (request_id, data) = ("r".into(), vec![b'x'; size]);
        Guest::ResultChunk(wire::ResultChunk {
            request_id,
            data,
            content_type: content_type.into(),
        })
    };
    let open = |session: &mut Session<Script>| {
        let call = Some(Call { stream: true, ..Call::new("r", b"{}") });
        session.open(Opening { call, ..Opening::default() }).unwrap();
    };
    // More than a result may have that is kept whole.
    let parts = MAX_BODY / MAX_CHUNK + 1;
    let mut frames = vec![welcome(), part("text/html", MAX_CHUNK)];
    frames.extend((1..parts).map(|_| part("", MAX_CHUNK)));
    frames.push(done("r", b"yz", parts * MAX_CHUNK + 2));
    let mut guest = session(&frames);
    open(&mut guest);
    let (mut size, mut types) = (0, Vec::new());
    let mut take = |bytes: &[u8], content_type: &str| {
        size += bytes.len();
        types.push(content_type.to_owned());
    };
    let answer = guest.wait_streamed(&mut |_, _| {}, &mut take).unwrap();
    assert_eq!(answer.outcome.unwrap(), b"");
    assert_eq!(
        (size, types.len(), types[0].as_str()),
        (parts * MAX_CHUNK + 2, parts + 1, "text/html")
    );

    let error = FunctionError::new(ErrorKind::Handler, "Late", "too late");
    let outcome = Some(Outcome::Error(error.into()));
    let failed = Guest::InvokeDone(wire::InvokeDone { request_id: "r".into(), outcome });
    let mut guest = session(&[welcome(), part("text/html", 1), failed]);
    open(&mut guest);
    let mut size = 0;
    let answer = guest.wait_streamed(&mut |_, _| {}, &mut |bytes, _| size += bytes.len());
    assert_eq!((answer.unwrap().outcome.unwrap_err().error_type.as_str(), size), ("Late", 1));

    // Nor does a guest say what it likes.
    let mut guest = session(&[welcome(), part(&"x".repeat(MAX_CONTENT_TYPE + 1), 1)]);
    open(&mut guest);
    let answer = guest.wait_streamed(&mut |_, _| {}, &mut |_, _| {});
    assert!(matches!(answer, Err(SessionError::OutOfBounds { frame: "ResultChunk" })));
}
