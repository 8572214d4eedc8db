//! Clients of the AWS Lambda Runtime API: PyPI's `awslambdaric`, unchanged, and a bootstrap in a dozen lines of Python.
//!
//! `awslambdaric` is installed by pip into the target folder once. Both tests of it fail where pip cannot.

// Test functions may unwrap by clippy.toml; their helpers are meant, too.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use calve_proto::{Call, ErrorKind, Exit, Opening};
use serde_json::json;
use support::{Machine, PYTHON, call, configure, facts, wait};

/// Version of the client that is tested.
const CLIENT: &str = "awslambdaric==4.2.2";

/// Folder with the installed client.
fn client() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(CLIENT);
        if !folder.join("awslambdaric").is_dir() {
            // Built beside and renamed: an interrupted install is not taken for a whole one.
            let fresh = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let status = Command::new("python3.11")
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT])
                .arg("--target")
                .arg(fresh.path())
                .status()
                .expect("python3.11 with pip is needed: apt install python3-pip");
            assert!(status.success(), "pip cannot install {CLIENT}");
            std::fs::rename(fresh.keep(), &folder).unwrap();
        }
        folder
    })
}

/// A bootstrap that runs `handler` in the client, as a container image's entry point does.
fn ric(code: &str) -> Machine {
    let folder = client().display();
    let bootstrap = format!(
        "#!/bin/sh\nexport PYTHONPATH={folder}:$LAMBDA_TASK_ROOT\nexec python3.11 -m awslambdaric \"$_HANDLER\"\n"
    );
    Machine::new(&[("app.py", code), ("bootstrap", &bootstrap)])
}

#[test]
fn awslambdaric_serves_a_handler_unchanged() {
    let code = "
def handler(event, context):
    print('hello from', context.function_name)
    if event.get('fail'):
        return 1 / 0
    return {'got': event, 'id': context.aws_request_id, 'left': context.get_remaining_time_in_millis()}
";
    let machine = ric(code);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    let outcome = call(&mut session, "r-1", r#"{"n":[1,2]}"#);
    let got = outcome.json();
    assert_eq!((&got["got"], &got["id"]), (&json!({"n": [1, 2]}), &json!("r-1")));
    assert!((20_000..=30_000).contains(&got["left"].as_u64().unwrap()));
    assert_eq!(outcome.stdout(), "hello from demo\n");
    let outcome = call(&mut session, "r-2", r#"{"fail":true}"#);
    assert_eq!(outcome.error().to_string(), "ZeroDivisionError: division by zero");
    assert!(outcome.error().stack_trace[0].contains("app.py"), "{:?}", outcome.error().stack_trace);
    let large = format!("{{\"x\":\"{}\"}}", "a".repeat(4 << 20));
    assert_eq!(
        call(&mut session, "r-3", &large).json()["got"]["x"].as_str().unwrap().len(),
        4 << 20
    );
}

#[test]
fn awslambdaric_runs_its_hooks_around_a_freeze() {
    let code = "
from snapshot_restore_py import register_before_snapshot, register_after_restore
trail = []
register_before_snapshot(trail.append, 'before')
register_after_restore(trail.append, 'after')
def handler(event, context):
    return trail
";
    let machine = ric(code);
    machine.freeze(machine.start(configure(PYTHON, "app.handler")));
    let mut session = machine.connect();
    let first = Some(Call::new("r-1", b"{}"));
    session.open(Opening { thaw: Some(facts("m")), call: first, ..Opening::default() }).unwrap();
    assert_eq!(wait(&mut session).json(), json!(["before", "after"]));
    assert_eq!(call(&mut session, "r-2", "{}").json(), json!(["before", "after"]));
}

#[test]
fn hooks_that_a_warm_up_has_spent_are_no_snapshot() {
    let code = "
from snapshot_restore_py import register_after_restore
register_after_restore(lambda: None)
def handler(event, context):
    return event
";
    let machine = ric(code);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    assert_eq!(call(&mut session, "warm", "1").json(), json!(1));
    let error = machine.try_freeze(session).unwrap_err();
    assert_eq!(
        (error.kind, error.error_type.as_str()),
        (ErrorKind::Hook, "Runtime.RestoreHooksSpent")
    );
}

#[test]
fn a_runtime_that_has_ended_is_no_snapshot() {
    let machine = Machine::new(&[("bootstrap", BOOTSTRAP)]);
    let mut session = machine.start(configure("provided", "x"));
    assert_eq!(call(&mut session, "r-1", "\"exit\"").error().exit, Some(Exit::Status(4)));
    let error = machine.try_freeze(session).unwrap_err();
    assert_eq!(error.kind, ErrorKind::RuntimeExited);
}

#[test]
fn awslambdaric_that_cannot_load_its_handler_says_why() {
    let error = ric("x = 1").start_failing(configure(PYTHON, "app.handler"));
    assert_eq!(
        (error.kind, error.error_type.as_str()),
        (ErrorKind::Init, "Runtime.HandlerNotFound")
    );
    let after = "
from snapshot_restore_py import register_after_restore
@register_after_restore
def f(): raise OSError('disk')
def handler(event, context): return 1
";
    let machine = ric(after);
    machine.freeze(machine.start(configure(PYTHON, "app.handler")));
    let mut session = machine.connect();
    session.open(Opening { thaw: Some(facts("m")), ..Opening::default() }).unwrap();
    let error = session.wait_thawed(&mut |_, _| {}).unwrap().unwrap_err();
    assert_eq!((error.kind, error.error_type.as_str()), (ErrorKind::Hook, "OSError"));
}

/// The smallest client there is: the loop of AWS's custom-runtime tutorial.
const BOOTSTRAP: &str = r#"#!/usr/bin/env python3.11
import json, os, sys, time, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/"
def post(path, data):
    return urllib.request.urlopen(urllib.request.Request(api + path, data)).read()
while True:
    with urllib.request.urlopen(api + "invocation/next") as response:
        id, event = response.headers["Lambda-Runtime-Aws-Request-Id"], json.load(response)
    if event == "exit":
        sys.exit(4)
    if event == "last":
        post(f"invocation/{id}/error", b'{"errorType":"Last","errorMessage":"x"}')
        time.sleep(0.2)
        sys.exit(5)
    if event == "loop":
        time.sleep(1000)
    if event == "text":
        post(f"invocation/{id}/response", b"<html>")
    else:
        post(f"invocation/{id}/response", json.dumps([event, os.environ["_HANDLER"]]).encode())
"#;

#[test]
fn any_bootstrap_runs_and_its_failures_are_typed() {
    let machine = Machine::new(&[("bootstrap", BOOTSTRAP)]);
    let mut session = machine.start(configure("provided", "any.thing"));
    assert_eq!(call(&mut session, "r-1", "5").json(), json!([5, "any.thing"]));
    assert_eq!(call(&mut session, "r-2", "\"text\"").kind(), ErrorKind::InvalidResult);
    assert_eq!(call(&mut session, "r-3", "\"exit\"").error().exit, Some(Exit::Status(4)));
    assert_eq!(call(&mut session, "r-4", "6").json(), json!([6, "any.thing"]));
    // A client that fails and then ends does not take the next call with it.
    assert_eq!(call(&mut session, "last", "\"last\"").error().error_type, "Last");
    assert_eq!(call(&mut session, "next", "8").json(), json!([8, "any.thing"]));
    let timeout = Some(std::time::Duration::from_millis(500));
    session.invoke(Call { timeout, ..Call::new("r-5", b"\"loop\"") }).unwrap();
    assert_eq!(wait(&mut session).kind(), ErrorKind::Timeout);
    assert_eq!(call(&mut session, "r-6", "7").json(), json!([7, "any.thing"]));
}

#[test]
fn a_bootstrap_that_cannot_be_executed_is_an_error_of_init() {
    let machine = Machine::new(&[("bootstrap", "#!/nowhere/to/be/found\n")]);
    let error = machine.start_failing(configure("provided", "x"));
    assert_eq!(error.kind, ErrorKind::Init);
    assert_eq!(error.error_type, "Runtime.InvalidEntrypoint");
}

/// A client that streams: a part, and the rest when the file that the event names is there. `"break"`: never.
const STREAMS: &str = r#"#!/usr/bin/env python3.11
import http.client, json, os, time
def ask(method, path, body=None):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, "/2018-06-01/runtime/invocation/" + path, body)
    answer = connection.getresponse()
    return answer.headers["Lambda-Runtime-Aws-Request-Id"], answer.read()
while True:
    request, event = ask("GET", "next")
    event = json.loads(event)
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.putrequest("POST", "/2018-06-01/runtime/invocation/" + request + "/response")
    connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Content-Type", "text/html")
    connection.endheaders()
    connection.send(b"7\r\n<html> \r\n")
    if event == "break":
        connection.close()
        continue
    while not os.path.exists(event):
        time.sleep(0.002)
    connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (200_000, b"x" * 200_000))
    connection.getresponse().read()
"#;

#[test]
fn a_stream_reaches_the_host_while_its_function_is_at_it() {
    let machine = Machine::new(&[("bootstrap", STREAMS)]);
    let mut session = machine.start(configure("provided", "x"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("go-on");
    let event = json!(file).to_string();
    session.invoke(Call { stream: true, ..Call::new("r-1", event.as_bytes()) }).unwrap();
    let (mut result, mut types) = (Vec::new(), Vec::new());
    let answer = session.wait_streamed(&mut |_, _| {}, &mut |bytes, content_type| {
        // The function goes on when its first part is here, and not before.
        std::fs::write(&file, "").unwrap();
        result.extend_from_slice(bytes);
        types.push(content_type.to_owned());
    });
    assert_eq!(answer.unwrap().outcome.unwrap(), b"");
    assert_eq!((&result[..7], result.len()), (&b"<html> "[..], 200_007));
    assert_eq!(types.remove(0), "text/html");
    assert!(types.iter().all(String::is_empty));

    // What breaks off is no result, and the machine goes on.
    session.invoke(Call { stream: true, ..Call::new("r-2", b"\"break\"") }).unwrap();
    let mut result = Vec::new();
    let answer =
        session.wait_streamed(&mut |_, _| {}, &mut |bytes, _| result.extend_from_slice(bytes));
    let error = answer.unwrap().outcome.unwrap_err();
    assert_eq!(
        (error.error_type.as_str(), &result[..]),
        ("Runtime.TruncatedResponse", &b"<html> "[..])
    );

    // A host that wants no stream gets a result, which this is none of.
    let error = call(&mut session, "r-3", &event);
    assert_eq!(error.kind(), ErrorKind::InvalidResult);
}

#[test]
fn a_stream_has_the_deadline_of_its_call() {
    let machine = Machine::new(&[("bootstrap", STREAMS)]);
    let mut session = machine.start(configure("provided", "x"));
    let timeout = Some(std::time::Duration::from_millis(300));
    let call = Call { stream: true, timeout, ..Call::new("r-1", b"\"/nowhere\"") };
    session.invoke(call).unwrap();
    let mut result = Vec::new();
    let answer =
        session.wait_streamed(&mut |_, _| {}, &mut |bytes, _| result.extend_from_slice(bytes));
    assert_eq!(answer.unwrap().outcome.unwrap_err().kind, ErrorKind::Timeout);
}
