//! Frames of a guest to the host's session, between requests of the host.
//!
//! Whatever the guest sends, the session gives no more than its bounds allow: logs up to the limit, results up to
//! 6 MiB, an end for a call that is in flight and for no other; and after an error it is over.

use std::io::{self, Read, Write};
use std::time::Duration;

use calve_proto::frame;
use calve_proto::limits::{MAX_BODY, MAX_CONTENT_TYPE, MAX_STREAM};
use calve_proto::wire::guest_frame::Body;
use calve_proto::wire::{self, GuestFrame};
use calve_proto::{Call, Event, Opening, Session, SessionError};
use prost::Message;

use crate::Seeds;
use crate::input::{Input, Output};

/// Most log bytes that the session is told to take.
const LOG_LIMIT: u64 = 1000;

/// Numbers of the records.
mod op {
    pub(super) const OPEN: u8 = 0;
    pub(super) const INVOKE: u8 = 1;
    pub(super) const CANCEL: u8 = 2;
    pub(super) const FREEZE: u8 = 3;
    pub(super) const PING: u8 = 4;
    pub(super) const CONFIGURE: u8 = 5;
    /// Bytes of the guest.
    pub(super) const BYTES: u8 = 6;
    /// A frame of the guest, of which the body is given and the length is right.
    pub(super) const FRAME: u8 = 7;
    /// A call whose result may come as a stream.
    pub(super) const STREAM: u8 = 8;
    pub(super) const COUNT: u8 = 9;
}

/// What the guest has sent, and nothing more for now.
#[derive(Debug, Default)]
struct Wire(Vec<u8>);

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buf.len().min(self.0.len());
        buf[..count].copy_from_slice(&self.0[..count]);
        self.0.drain(..count);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The session's stream, of which the other end is here.
#[derive(Debug, Default, Clone)]
struct Shared(std::rc::Rc<std::cell::RefCell<Wire>>);

impl Read for Shared {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buf)
    }
}

impl Write for Shared {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the session has given since the last call.
#[derive(Default)]
struct Given {
    calls: usize,
    logs: u64,
    result: usize,
    /// Bytes that the result may have.
    most: usize,
}

pub fn fuzz(data: &[u8]) {
    let wire = Shared::default();
    let mut session = Session::new(wire.clone());
    session.set_log_limit(LOG_LIMIT);
    let mut given = Given::default();
    let mut input = Input::new(data);
    while !input.is_empty() {
        let request = match input.u8() % op::COUNT {
            op::OPEN => open(&mut session, input.u8(), &mut given),
            op::INVOKE => {
                let called = session.invoke(Call::new("r-1", b"{}"));
                given.note(called, MAX_BODY)
            }
            op::STREAM => {
                let called = session.invoke(Call { stream: true, ..Call::new("r-1", b"{}") });
                given.note(called, MAX_STREAM)
            }
            op::CANCEL => session.cancel(),
            op::FREEZE if input.u8() & 1 == 0 => {
                session.prepare_freeze(Some(Duration::from_secs(1)))
            }
            op::FREEZE => session.prepare_fork(None),
            op::PING => session.ping(input.u64()),
            op::CONFIGURE => session.configure(configure()),
            op::BYTES => {
                wire.0.borrow_mut().0.extend(input.bytes());
                Ok(())
            }
            op::FRAME => {
                let body = input.bytes();
                round_trip(body);
                let mut bytes = Vec::new();
                prost::encode_length_delimiter(body.len(), &mut bytes).expect("a short frame");
                bytes.extend(body);
                wire.0.borrow_mut().0.extend(bytes);
                Ok(())
            }
            _ => unreachable!("a number below the count"),
        };
        match request {
            // What the host must not ask for is refused and changes nothing.
            Ok(()) | Err(SessionError::Misuse(_)) => {}
            Err(error) => panic!("a request that the stream takes: {error:?}"),
        }
        if !listen(&mut session, &mut given) {
            return;
        }
    }
}

/// Takes what there is. False where the session is over.
fn listen(session: &mut Session<Shared>, given: &mut Given) -> bool {
    loop {
        match session.next_event() {
            Ok(event) => given.take(event),
            Err(SessionError::TimedOut) => return true,
            Err(error) => {
                // What is printed of a hostile guest's words is bounded.
                assert!(error.to_string().len() < 100_000);
                return false;
            }
        }
    }
}

impl Given {
    fn note(&mut self, called: Result<(), SessionError>, most: usize) -> Result<(), SessionError> {
        if called.is_ok() {
            self.calls += 1;
            assert_eq!(self.calls, 1, "two calls at a time");
            (self.logs, self.result, self.most) = (0, 0, most);
        }
        called
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Log { data, .. } => {
                self.logs += data.len() as u64;
                assert!(self.logs <= LOG_LIMIT, "{} bytes of logs", self.logs);
            }
            Event::ResultChunk { data, content_type } => {
                assert_eq!(self.calls, 1, "a result of no call");
                assert!(content_type.len() <= MAX_CONTENT_TYPE);
                self.result += data.len();
                assert!(self.result <= self.most);
            }
            Event::Done { outcome, .. } => {
                assert_eq!(self.calls, 1, "the end of no call");
                self.calls = 0;
                let tail = outcome.as_ref().map_or(0, Vec::len);
                assert!(self.result + tail <= self.most);
                if let Err(error) = outcome {
                    let _ = error.to_string();
                }
            }
            _ => {}
        }
    }
}

fn configure() -> wire::Configure {
    wire::Configure { runtime: "python3.11".into(), ..wire::Configure::default() }
}

fn open(session: &mut Session<Shared>, what: u8, given: &mut Given) -> Result<(), SessionError> {
    let facts = wire::ThawFacts {
        seed: vec![7; 32],
        wall_clock_ns: 1_800_000_000_000_000_000,
        machine_id: "m-1".into(),
        ..wire::ThawFacts::default()
    };
    let call = (what & 4 != 0).then(|| Call::new("r-1", b"{}"));
    let called = call.is_some();
    let opened = session.open(Opening {
        configure: (what & 1 != 0).then(configure),
        preload: None,
        thaw: (what & 2 != 0).then_some(facts),
        call,
    });
    if called { given.note(opened, MAX_BODY) } else { opened }
}

/// What decodes encodes to what decodes to the same.
fn round_trip(body: &[u8]) {
    let Ok(frame) = GuestFrame::decode(body) else { return };
    let again = frame.encode_to_vec();
    assert_eq!(GuestFrame::decode(&again[..]).expect("what was encoded"), frame);
    let mut whole = Vec::new();
    if frame::encode(&frame, &mut whole).is_ok() {
        assert!(whole.ends_with(&again));
    }
}

pub fn seeds() -> Seeds {
    let frame = |out: Output, body: Body| {
        out.u8(op::FRAME).bytes(&GuestFrame { body: Some(body) }.encode_to_vec())
    };
    let open = |what| {
        let protocol_version = calve_proto::limits::PROTOCOL_VERSION;
        let welcome = wire::Welcome { protocol_version, agent_version: "1".into() };
        frame(Output::new().u8(op::OPEN).u8(what), Body::Welcome(welcome))
    };
    let error = || wire::FunctionError {
        kind: 1,
        error_type: "E".into(),
        error_message: "m".into(),
        stack_trace: vec!["a".into()],
        exit: Some(wire::Exit { how: Some(wire::exit::How::Status(3)) }),
    };
    let request_id = || "r-1".to_owned();
    let done = |out, outcome| {
        frame(
            out,
            Body::InvokeDone(wire::InvokeDone { request_id: request_id(), outcome: Some(outcome) }),
        )
    };
    let ready = |out| frame(out, Body::Ready(wire::Ready { init_us: 5 }));
    let log = |out| frame(out, Body::Log(wire::Log { stream: 1, data: b"hello".to_vec() }));
    let success =
        wire::invoke_done::Outcome::Success(wire::Success { tail: b"{}".to_vec(), size: 4 });
    let data = b"[]".to_vec();
    let chunk = wire::ResultChunk { request_id: request_id(), data, ..Default::default() };
    let failed = wire::invoke_done::Outcome::Error(error());
    let exited = wire::RuntimeExited { exit: error().exit, out_of_memory: true };
    let freeze = |body| frame(open(0).u8(op::FREEZE).u8(0), body).done();
    let refusal = wire::ProtocolError { code: 3, message: "no".into() };
    vec![
        ("call", done(frame(log(ready(open(5))), Body::ResultChunk(chunk)), success).done()),
        (
            "failed",
            done(frame(open(6), Body::Thawed(wire::Thawed {})), failed).u8(op::INVOKE).done(),
        ),
        ("exited", frame(open(0), Body::RuntimeExited(exited)).done()),
        ("frozen", freeze(Body::FreezeReady(wire::FreezeReady { zeroed_bytes: 4096 }))),
        ("not-frozen", freeze(Body::FreezeFailed(wire::FreezeFailed { error: Some(error()) }))),
        ("pong", frame(open(0).u8(op::PING).u64(9), Body::Pong(wire::Pong { nonce: 9 })).done()),
        ("refused", frame(Output::new().u8(op::OPEN).u8(0), Body::ProtocolError(refusal)).done()),
        (
            "init-failed",
            frame(open(1), Body::InitFailed(wire::InitFailed { error: Some(error()) })).done(),
        ),
        (
            "cut",
            frame(open(0), Body::LogTruncated(wire::LogTruncated { dropped: 1 }))
                .u8(op::CANCEL)
                .done(),
        ),
        ("too-long", open(0).u8(op::BYTES).bytes(&[0xff; 4]).done()),
        (
            "in-pieces",
            open(0)
                .u8(op::BYTES)
                .bytes(&[8, 0x32])
                .u8(op::BYTES)
                .bytes(&[6, 8, 2, 0x12, 2, 1, 2])
                .done(),
        ),
    ]
}
