//! Handlers that the Node shim streams (`awslambda.streamifyResponse`). Needs `node` on PATH and fails without it.

// Test functions may unwrap by clippy.toml; their helpers are meant, too.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use calve_proto::limits::{MAX_BODY, MAX_STREAM};
use calve_proto::{Call, ErrorKind, FunctionError, Opening, Session};
use serde_json::json;
use support::{Machine, NODE, call, configure, facts, rss_kib, wait};

/// What came of a call whose result is taken as it comes.
struct Streamed {
    bytes: Vec<u8>,
    content_type: String,
    outcome: Result<Vec<u8>, FunctionError>,
    printed: String,
}

impl Streamed {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    fn error(&self) -> &FunctionError {
        self.outcome.as_ref().unwrap_err()
    }
}

fn send(session: &mut Session<UnixStream>, request_id: &str, event: &str) {
    session.invoke(Call { stream: true, ..Call::new(request_id, event.as_bytes()) }).unwrap();
}

/// Takes what comes; `seen` hears of each part.
fn take(session: &mut Session<UnixStream>, mut seen: impl FnMut(&[u8])) -> Streamed {
    let (mut bytes, mut content_type, mut printed) = (Vec::new(), String::new(), String::new());
    let answer = session.wait_streamed(
        &mut |_, text| printed += &String::from_utf8_lossy(text),
        &mut |part, its_type| {
            seen(part);
            bytes.extend_from_slice(part);
            content_type += its_type;
        },
    );
    Streamed { bytes, content_type, outcome: answer.unwrap().outcome, printed }
}

fn stream(session: &mut Session<UnixStream>, request_id: &str, event: &str) -> Streamed {
    send(session, request_id, event);
    take(session, |_| {})
}

/// A session with `app.handler`.
fn start(machine: &Machine) -> Session<UnixStream> {
    machine.start(configure(NODE, "app.handler"))
}

const PARTS: &str = "
const fs = require('fs');
const { setTimeout: sleep } = require('timers/promises');
exports.handler = awslambda.streamifyResponse(async (event, responseStream, context) => {
  responseStream.setContentType('text/html');
  responseStream.write('<html> ');
  while (!fs.existsSync(event)) await sleep(2);
  responseStream.write(Buffer.alloc(200_000, 'x'));
  responseStream.write('6869', 'hex');
  responseStream.end(context.awsRequestId);
});";

#[test]
fn a_part_reaches_the_host_while_the_handler_is_at_it() {
    let machine = Machine::new(&[("app.js", PARTS)]);
    let mut session = start(&machine);
    let folder = tempfile::tempdir().unwrap();
    for id in ["r-1", "r-2"] {
        let file = folder.path().join(id);
        send(&mut session, id, &json!(file).to_string());
        // The handler goes on when its first part is here, and not before.
        let got = take(&mut session, |_| std::fs::write(&file, "").unwrap());
        assert_eq!(got.outcome.as_deref().unwrap(), b"", "{}", got.printed);
        assert_eq!(got.content_type, "text/html");
        assert_eq!(got.text(), format!("<html> {}hi{id}", "x".repeat(200_000)));
    }
}

#[test]
fn a_part_that_is_neither_text_nor_bytes_is_sent_as_json() {
    let code = "
exports.handler = awslambda.streamifyResponse(async (event, responseStream) => {
  responseStream.write({ a: 1 });
  responseStream.write('');
  responseStream.write(new Uint8Array([33]));
  responseStream.end([2]);
});";
    let machine = Machine::new(&[("app.js", code)]);
    let got = stream(&mut start(&machine), "r-1", "{}");
    assert_eq!(got.text(), r#"{"a":1}![2]"#);
    assert_eq!(got.content_type, "application/octet-stream");
}

const PIPED: &str = "
const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
exports.handler = awslambda.streamifyResponse(async (event, responseStream) => {
  const head = { statusCode: 201, headers: { 'x-a': 'b' }, cookies: ['c=1'] };
  responseStream = awslambda.HttpResponseStream.from(responseStream, head);
  if (event === 'no body') return void responseStream.end();
  await pipeline(Readable.from(['one ', 'two ', 'three']), responseStream);
});";

#[test]
fn a_head_comes_before_the_body() {
    let machine = Machine::new(&[("app.js", PIPED)]);
    let mut session = start(&machine);
    let head = [&br#"{"statusCode":201,"headers":{"x-a":"b"},"cookies":["c=1"]}"#[..], &[0; 8]];
    for (id, event, body) in [("r-1", "{}", &b"one two three"[..]), ("r-2", "\"no body\"", b"")] {
        let got = stream(&mut session, id, event);
        assert_eq!(got.outcome.as_deref().unwrap(), b"", "{}", got.printed);
        assert_eq!(got.content_type, "application/vnd.awslambda.http-integration-response");
        assert_eq!(got.bytes, [head.concat(), body.to_vec()].concat());
    }
}

/// Writes as many pieces of 64 KiB as it is told to, and leaves their number so far in a file.
const LONG: &str = "
const fs = require('fs');
const { once } = require('events');
const piece = Buffer.alloc(1 << 16, 'y');
exports.handler = awslambda.streamifyResponse(async ({ pieces, file }, responseStream) => {
  let drains = 0;
  responseStream.on('drain', () => drains++);
  for (let i = 1; i <= pieces; i++) {
    if (!responseStream.write(piece)) await once(responseStream, 'drain');
    fs.writeFileSync(file, String(i));
  }
  responseStream.end(` ${drains > 0}`);
});";

/// The number in a file, once it stays the same for a while.
fn settled(file: &Path) -> usize {
    let read = || std::fs::read_to_string(file).ok().and_then(|text| text.parse().ok());
    let patience = Instant::now() + Duration::from_secs(60);
    let mut last: Option<usize> = None;
    while Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(500));
        let now = read();
        if let (true, Some(now)) = (now == last, now) {
            return now;
        }
        last = now;
    }
    panic!("the handler never waited");
}

#[test]
fn a_handler_waits_while_its_host_is_behind() {
    const PIECES: usize = 512;
    let machine = Machine::new(&[("app.js", LONG)]);
    let mut session = start(&machine);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("count");
    send(&mut session, "r-1", &json!({ "pieces": PIECES, "file": file }).to_string());
    let written = settled(&file);
    // Two sockets' buffers, and what agent and stream keep.
    assert!(written < 40, "{written} pieces of 64 KiB were written to nobody");
    let agent = rss_kib(machine.agent_pid());
    assert!(agent < 16 << 10, "the agent has {agent} KiB");
    let got = take(&mut session, |_| {});
    assert!(got.outcome.is_ok(), "{:?}", got.outcome);
    assert_eq!(got.bytes.len(), (PIECES << 16) + " true".len());
    assert_eq!(&got.bytes[PIECES << 16..], b" true");
}

/// Gives the session up while a handler waits: its runtime ends, and the next call has another.
#[test]
fn a_host_that_goes_away_ends_a_handler_that_waits_for_it() {
    let machine = Machine::new(&[("app.js", LONG)]);
    let mut session = start(&machine);
    let folder = tempfile::tempdir().unwrap();
    let event = |pieces: usize| json!({ "pieces": pieces, "file": folder.path().join("count") });
    send(&mut session, "r-1", &event(512).to_string());
    settled(&folder.path().join("count"));
    drop(session);
    let mut session = machine.connect();
    session.open(Opening::default()).unwrap();
    assert_eq!(stream(&mut session, "r-2", &event(1).to_string()).bytes.len() >> 16, 1);
}

const FAILS: &str = "
const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
const { setTimeout: sleep } = require('timers/promises');
const ways = {
  'early': async () => { throw new RangeError('bad'); },
  'late': async (out) => { out.write('half'); await sleep(5); throw new RangeError('bad'); },
  'ended': async (out) => { out.end('half'); await sleep(5); throw new RangeError('bad'); },
  'source': async (out) => {
    await pipeline(Readable.from((async function* () { yield 'half'; throw new RangeError('bad'); })()), out);
  },
  'fed': async (out) => {
    const feed = async function* () { yield 'half'; for (;;) { await sleep(30); yield ''; } };
    pipeline(Readable.from(feed()), out).catch((error) => console.log('stopped', error.code));
    await sleep(10);
    throw new RangeError('bad');
  },
  'destroyed': async (out) => { out.write('half'); await sleep(5); out.destroy(new RangeError('bad')); },
  'synchronous': (out) => { for (const c of 'half') out.write(c); throw new RangeError('bad'); },
  'stray': async (out) => { out.write('half'); setTimeout(() => { throw new RangeError('bad'); }, 5); await sleep(1e6); },
  'no promise': (out) => out.end('half'),
  'no end': async (out) => { out.write('half'); },
  'too late': async (out) => { out.write('half'); out.setContentType('text/html'); },
  'no type': async (out) => out.setContentType('a\\nb'),
  'exit': async (out) => { await new Promise((done) => out.write('half', done)); process.exit(3); },
  'fine': async (out) => { out.end(String(process.pid)); return 7; },
  'never': (out) => { out.end('whole'); return new Promise(() => {}); },
  'later': async (out) => { setTimeout(() => out.end('whole'), 50); },
};
exports.handler = awslambda.streamifyResponse((event, out) => ways[event](out));";

#[test]
fn an_error_before_or_in_the_middle_of_a_stream_is_the_outcome() {
    let machine = Machine::new(&[("app.js", FAILS)]);
    let mut session = start(&machine);
    let pid = stream(&mut session, "r-0", "\"fine\"");
    assert!(pid.printed.contains("ignore return values"), "{}", pid.printed);
    for (i, (way, bytes)) in [
        ("early", ""),
        ("late", "half"),
        ("ended", "half"),
        ("source", "half"),
        ("fed", "half"),
        ("destroyed", "half"),
        ("synchronous", "half"),
    ]
    .into_iter()
    .enumerate()
    {
        let got = stream(&mut session, &format!("r-{way}"), &json!(way).to_string());
        assert_eq!(got.error().kind, ErrorKind::Handler, "{way}");
        assert_eq!(got.error().to_string(), "RangeError: bad", "{way}");
        assert!(got.error().stack_trace[1].contains("app.js"), "{way}");
        assert_eq!(got.text(), bytes, "{way}: what was written before is there");
        let after = stream(&mut session, &format!("a-{i}"), "\"fine\"");
        assert_eq!(after.text(), pid.text(), "{way}: the runtime goes on");
    }
}

#[test]
fn what_a_streaming_handler_must_not_do_has_its_message() {
    let machine = Machine::new(&[("app.js", FAILS)]);
    let mut session = start(&machine);
    for (way, message) in [
        ("no promise", "Error: Streaming does not support non-async handlers."),
        ("no end", "Error: Response stream is not finished."),
        ("too late", "Runtime.InvalidStreamingOperation: Cannot set content-type, too late."),
        ("no type", "TypeError: Invalid content type"),
    ] {
        let got = stream(&mut session, &way.replace(' ', "-"), &json!(way).to_string());
        assert_eq!(got.error().to_string(), message);
    }
}

#[test]
fn a_runtime_that_ends_in_the_middle_of_a_stream_is_the_outcome() {
    let machine = Machine::new(&[("app.js", FAILS)]);
    let mut session = start(&machine);
    let pid = stream(&mut session, "r-1", "\"fine\"");
    let got = stream(&mut session, "r-2", "\"stray\"");
    assert_eq!((got.error().to_string().as_str(), got.text()), ("RangeError: bad", "half"));
    let got = stream(&mut session, "r-3", "\"exit\"");
    assert_eq!((got.error().kind, got.text()), (ErrorKind::RuntimeExited, "half"));
    assert_ne!(stream(&mut session, "r-4", "\"fine\"").text(), pid.text());
}

#[test]
fn a_stream_is_whole_when_it_is_finished_and_its_handler_has_no_more_to_do() {
    let machine = Machine::new(&[("app.js", FAILS)]);
    let mut session = start(&machine);
    for way in ["later", "never"] {
        let got = stream(&mut session, way, &json!(way).to_string());
        assert_eq!((got.outcome.is_ok(), got.text()), (true, "whole"), "{way}");
    }
}

#[test]
fn a_stream_that_nobody_ends_has_the_deadline_of_its_call() {
    let code = "
exports.handler = awslambda.streamifyResponse(async (event, responseStream) => {
  setInterval(() => responseStream.write('.'), 20);
});";
    let machine = Machine::new(&[("app.js", code)]);
    let mut session = start(&machine);
    let timeout = Some(Duration::from_millis(500));
    session.invoke(Call { stream: true, timeout, ..Call::new("r-1", b"1") }).unwrap();
    let got = take(&mut session, |_| {});
    assert_eq!(got.error().kind, ErrorKind::Timeout);
    assert!(got.text().starts_with('.'));
}

#[test]
fn a_call_that_wants_no_stream_gets_it_whole() {
    let code = "
exports.handler = awslambda.streamifyResponse(async (event, responseStream) => {
  if (typeof event === 'number') while (event-- > 0) responseStream.write(Buffer.alloc(1 << 20, '1'));
  else for (const part of event) responseStream.write(part);
  responseStream.end();
});";
    let machine = Machine::new(&[("app.js", code)]);
    let mut session = start(&machine);
    assert_eq!(call(&mut session, "r-1", r#"["{\"a\"", ":", "1}"]"#).json(), json!({ "a": 1 }));
    // As of a client of the Runtime API, what is no JSON is no result.
    assert_eq!(call(&mut session, "r-2", r#"["half"]"#).kind(), ErrorKind::InvalidResult);
    session.invoke(Call::new("r-3", b"6")).unwrap();
    assert_eq!(wait(&mut session).answer.outcome.unwrap().len(), MAX_BODY);
    assert_eq!(call(&mut session, "r-4", "7").kind(), ErrorKind::ResultTooLarge);

    // One that wants it may have more, and not without bound.
    let got = stream(&mut session, "r-5", "7");
    assert_eq!((got.outcome.is_ok(), got.bytes.len()), (true, 7 << 20));
    let got = stream(&mut session, "r-6", &((MAX_STREAM >> 20) + 1).to_string());
    assert_eq!(got.error().kind, ErrorKind::ResultTooLarge);
    assert_eq!(call(&mut session, "r-7", r#"["1"]"#).json(), json!(1));
}

#[test]
fn a_handler_that_is_not_marked_is_called_as_ever() {
    let code = "
exports.handler = async (event, context) => ({ event, id: context.awsRequestId, global: typeof awslambda });";
    let machine = Machine::new(&[("app.js", code)]);
    let mut session = start(&machine);
    let expected = json!({ "event": 1, "id": "r-1", "global": "object" });
    assert_eq!(call(&mut session, "r-1", "1").json(), expected);
    // Where the host would take a stream, it has the value all the same.
    let got = stream(&mut session, "r-2", "1");
    let value: serde_json::Value = serde_json::from_slice(&got.bytes).unwrap();
    assert_eq!((&value["id"], got.content_type.as_str()), (&json!("r-2"), ""));
}

#[test]
fn a_late_writer_of_one_call_does_not_get_into_the_next() {
    let code = "
let kept;
exports.handler = awslambda.streamifyResponse(async (event, out) => {
  if (event === 'keep') { kept = out; out.write('kept'); throw new Error('over'); }
  const wrote = await new Promise((done) => kept.write('stale', done));
  kept.end();
  out.end(`fresh ${wrote instanceof Error}`);
});";
    let machine = Machine::new(&[("app.js", code)]);
    let mut session = start(&machine);
    assert_eq!(stream(&mut session, "r-1", "\"keep\"").error().to_string(), "Error: over");
    let got = stream(&mut session, "r-2", "1");
    assert_eq!((got.outcome.is_ok(), got.text()), (true, "fresh true"));
}

#[test]
fn a_clone_streams_after_its_hooks() {
    let code = "
const trail = [];
calve.beforeSnapshot(() => trail.push('before'));
calve.afterRestore(async () => { await null; trail.push('after'); });
exports.handler = awslambda.streamifyResponse(async (event, out) => {
  for (const name of trail) out.write(name + ' ');
  out.end('1');
});";
    let machine = Machine::new(&[("app.js", code)]);
    let mut session = start(&machine);
    assert_eq!(call(&mut session, "warm", "{}").json(), json!(1));
    machine.freeze(session);
    let mut session = machine.connect();
    let first = Call { stream: true, ..Call::new("r-1", b"{}") };
    session
        .open(Opening { thaw: Some(facts("m-1")), call: Some(first), ..Opening::default() })
        .unwrap();
    assert_eq!(take(&mut session, |_| {}).text(), "before after 1");
    assert_eq!(stream(&mut session, "r-2", "{}").text(), "before after 1");
}

#[test]
fn a_runtime_that_was_started_without_a_function_streams_for_it() {
    let code = "
import { setTimeout as sleep } from 'timers/promises';
export const handler = awslambda.streamifyResponse(async (event, out) => {
  out.write('a');
  await sleep(1);
  out.end('b');
});";
    let machine = Machine::new(&[("app.mjs", code)]);
    let mut session = machine.preload(NODE);
    session.configure(configure(NODE, "app.handler")).unwrap();
    session.wait_ready(&mut |_, _| {}).unwrap().unwrap();
    assert_eq!(stream(&mut session, "r-1", "{}").text(), "ab");
}
