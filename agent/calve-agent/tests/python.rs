//! The Python shim: results, errors, context, hooks. Needs `python3.11` on PATH and fails without it.

// Test functions may unwrap by clippy.toml; their helpers are meant, too.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::net::UnixStream;

use calve_proto::{ErrorKind, Event, Opening, Session, wire};
use serde_json::json;
use support::{Machine, PYTHON, call, configure, facts, wait};

const ECHO: &str = r#"
import os, sys, logging
logging.getLogger().setLevel(logging.INFO)
print("loading")

def handler(event, context):
    print("hello", event["name"])
    print("careful", file=sys.stderr)
    logging.info("served")
    return {
        "event": event,
        "id": context.aws_request_id,
        "name": context.function_name,
        "memory": context.memory_limit_in_mb,
        "left": context.get_remaining_time_in_millis(),
        "arn": context.invoked_function_arn,
        "task": os.environ["LAMBDA_TASK_ROOT"],
        "cwd": os.getcwd(),
        "env": os.environ.get("GREETING"),
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
    }
"#;

#[test]
fn a_handler_gets_its_event_and_its_context() {
    let machine = Machine::new(&[("app.py", ECHO)]);
    let mut configure = configure(PYTHON, "app.handler");
    configure.env.push(calve_proto::wire::EnvVar { name: "GREETING".into(), value: "hei".into() });
    let mut session = machine.start(configure);
    let outcome = call(&mut session, "r-1", r#"{"name":"Åse","n":[1,2.5,null]}"#);
    let got = outcome.json();
    assert_eq!(got["event"], json!({"name": "Åse", "n": [1, 2.5, null]}));
    assert_eq!(got["id"], "r-1");
    assert_eq!(got["name"], "demo");
    assert_eq!(got["memory"], "256");
    assert_eq!(got["arn"], "arn:aws:lambda:local:000000000000:function:demo");
    assert_eq!(got["env"], "hei");
    assert_eq!(got["trace"], json!(null));
    assert_eq!(got["cwd"], got["task"]);
    let left = got["left"].as_u64().unwrap();
    assert!((20_000..=30_000).contains(&left), "{left}");
    let stdout = outcome.stdout();
    assert!(stdout.starts_with("hello Åse\n[INFO]\t"), "{stdout}");
    assert!(stdout.ends_with("Z\tr-1\tserved\n"), "{stdout}");
    assert_eq!(outcome.stderr(), "careful\n");
}

#[test]
fn what_is_printed_on_import_precedes_ready() {
    let machine = Machine::new(&[("app.py", ECHO)]);
    let mut session = machine.connect();
    let configure = configure(PYTHON, "app.handler");
    session.open(Opening { configure: Some(configure), ..Opening::default() }).unwrap();
    let mut printed = Vec::new();
    session.wait_ready(&mut |_, bytes| printed.extend_from_slice(bytes)).unwrap().unwrap();
    assert_eq!(printed, b"loading\n");
}

#[test]
fn a_raised_error_comes_with_type_message_and_the_users_frames() {
    let code = "def inner(x):\n    return 1 / x\n\ndef handler(event, context):\n    return inner(event)\n";
    let machine = Machine::new(&[("app.py", code)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    let outcome = call(&mut session, "r-1", "0");
    let error = outcome.error();
    assert_eq!(error.kind, ErrorKind::Handler);
    assert_eq!(error.to_string(), "ZeroDivisionError: division by zero");
    assert_eq!(error.stack_trace.len(), 2, "{:?}", error.stack_trace);
    assert!(error.stack_trace[0].contains("app.py\", line 5, in handler"));
    assert!(error.stack_trace[1].contains("app.py\", line 2, in inner"));
    // The runtime lives on.
    assert_eq!(call(&mut session, "r-2", "4").json(), json!(0.25));
}

#[test]
fn each_way_not_to_load_has_its_name() {
    let cases = [
        ("app.handler", "import nowhere_to_be_found", "Runtime.ImportModuleError"),
        ("other.handler", "", "Runtime.ImportModuleError"),
        ("app.missing", "x = 1", "Runtime.HandlerNotFound"),
        ("handler", "", "Runtime.MalformedHandlerName"),
        ("sys.exit", "", "Runtime.BuiltInModuleConflict"),
        ("app.handler", "def handler(:", "Runtime.UserCodeSyntaxError"),
        ("app.handler", "raise RuntimeError('no luck')", "RuntimeError"),
    ];
    for (handler, code, error_type) in cases {
        let machine = Machine::new(&[("app.py", code)]);
        let error = machine.start_failing(configure(PYTHON, handler));
        assert_eq!(error.kind, ErrorKind::Init, "{handler}: {error}");
        assert_eq!(error.error_type, error_type, "{handler}: {error}");
    }
    let machine = Machine::new(&[("app.py", "def f():\n    raise KeyError('k')\nf()\n")]);
    let error = machine.start_failing(configure(PYTHON, "app.handler"));
    assert!(error.stack_trace[0].contains("app.py\", line 3"), "{:?}", error.stack_trace);
}

#[test]
fn values_that_are_no_json_are_marshal_errors() {
    let code = "import decimal\ndef handler(event, context):\n    return eval(event)\n";
    let machine = Machine::new(&[("app.py", code)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    for (i, value) in
        ["object()", "{1, 2}", "b'raw'", "float('nan')", "{(1, 2): 3}"].iter().enumerate()
    {
        let outcome = call(&mut session, &format!("r-{i}"), &json!(value).to_string());
        assert_eq!(outcome.kind(), ErrorKind::InvalidResult, "{value}");
        assert_eq!(outcome.error().error_type, "Runtime.MarshalError");
    }
    let outcome =
        call(&mut session, "d", r#""[decimal.Decimal('3'), decimal.Decimal('1.5'), None]""#);
    assert_eq!(outcome.json(), json!([3, 1.5, null]));
    let outcome = call(&mut session, "e", "{not json");
    assert_eq!(outcome.kind(), ErrorKind::InvalidEvent);
}

const HOOKS: &str = r#"
import random, secrets, uuid, tempfile, time
from snapshot_restore_py import register_before_snapshot, register_after_restore

trail = []

@register_before_snapshot
def first_registered():
    trail.append("before 1")

register_before_snapshot(trail.append, "before 2")

@register_after_restore
def restored():
    trail.append("after 1")

register_after_restore(lambda n: trail.append(n), n="after 2")
random.seed(1)
uuid.uuid1()
next(tempfile._get_candidate_names())

def handler(event, context):
    return {"trail": trail, "random": random.random(), "node": uuid.uuid1().node,
            "name": next(tempfile._get_candidate_names())}
"#;

#[test]
fn hooks_run_once_in_order_around_a_freeze() {
    let machine = Machine::new(&[("app.py", HOOKS)]);
    machine.freeze(machine.start(configure(PYTHON, "app.handler")));
    let mut session = machine.connect();
    let call = calve_proto::Call::new("r-1", b"{}");
    session
        .open(Opening { thaw: Some(facts("m-1")), call: Some(call), ..Opening::default() })
        .unwrap();
    let got = wait(&mut session).json();
    // The last one registered runs first before the snapshot, the first one after it.
    assert_eq!(got["trail"], json!(["before 2", "before 1", "after 1", "after 2"]));
    assert_ne!(got["random"], json!(0.13436424411240122), "random still has its frozen seed");
    assert_eq!(std::fs::read_to_string(machine.run_dir().join("machine-id")).unwrap(), "m-1");
}

/// Draws without a pause, and knows what the generator gives until it is reseeded.
const RESTLESS: &str = r#"
import random, threading, time

random.seed(7)
known = random.Random(7)
last = 0

def draw():
    global last
    while True:
        # Before it draws: between a draw and a look at the clock, it may be stopped and frozen.
        now = time.monotonic_ns()
        if random.getrandbits(64) == known.getrandbits(64):
            last = now

threading.Thread(target=draw, daemon=True).start()

def handler(event, context):
    return {"last": last}
"#;

#[test]
fn threads_draw_nothing_after_a_thaw_that_they_would_have_drawn_without() {
    let machine = Machine::new(&[("app.py", RESTLESS)]);
    machine.freeze(machine.start(configure(PYTHON, "app.handler")));
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    let thawed_ns = now.tv_sec() * 1_000_000_000 + now.tv_nsec();
    let mut session = machine.connect();
    let call = calve_proto::Call::new("r-1", b"{}");
    session
        .open(Opening { thaw: Some(facts("m-1")), call: Some(call), ..Opening::default() })
        .unwrap();
    let last = wait(&mut session).json()["last"].as_i64().unwrap();
    assert!(0 < last && last < thawed_ns, "{} ns too late", last - thawed_ns);
    // And they go on: so does the rest.
    assert!(support::call(&mut session, "r-2", "{}").answer.outcome.is_ok());
}

#[test]
fn a_failing_hook_is_reported_as_one() {
    let before = "from snapshot_restore_py import *\n@register_before_snapshot\ndef f(): raise OSError('disk')\ndef handler(e, c): pass\n";
    let machine = Machine::new(&[("app.py", before)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    session.prepare_freeze(None).unwrap();
    let error = session.wait_freeze_ready(&mut |_, _| {}).unwrap().unwrap_err();
    assert_eq!((error.kind, error.error_type.as_str()), (ErrorKind::Hook, "OSError"));

    let after = before.replace("before_snapshot", "after_restore");
    let machine = Machine::new(&[("app.py", &after)]);
    machine.freeze(machine.start(configure(PYTHON, "app.handler")));
    let mut session = machine.connect();
    let call = calve_proto::Call::new("r-1", b"{}");
    session
        .open(Opening { thaw: Some(facts("m-1")), call: Some(call), ..Opening::default() })
        .unwrap();
    let error = wait(&mut session);
    assert_eq!(error.kind(), ErrorKind::Hook);
    // The runtime is gone; the next call starts another, as AWS Lambda does.
    assert!(support::call(&mut session, "r-2", "{}").answer.outcome.is_ok());
}

/// What a runtime without a function does before its freeze and after its thaw.
fn preloaded(machine: &Machine, runtime: &str) -> Session<UnixStream> {
    machine.freeze(machine.preload(runtime));
    let mut session = machine.connect();
    session.open(Opening { thaw: Some(facts("m-1")), ..Opening::default() }).unwrap();
    session.wait_thawed(&mut |_, _| {}).unwrap().unwrap();
    session
}

const ADOPTED: &str = r#"
import os, random
first = random.random()
def handler(event, context):
    return {"pid": os.getpid(), "cwd": os.getcwd(), "stage": os.environ.get("STAGE"), "env": sorted(os.environ),
            "memory": context.memory_limit_in_mb, "hash": hash("a string")}
"#;

#[test]
fn a_runtime_without_a_function_becomes_one() {
    let machine = Machine::new(&[("app.py", ADOPTED)]);
    let mut session = preloaded(&machine, PYTHON);
    let env = |name: &str, value: &str| wire::EnvVar { name: name.into(), value: value.into() };
    let mut function = configure(PYTHON, "app.handler");
    function.env = vec![env("STAGE", "test")];
    let before = machine.runtime_pid();
    session.configure(function).unwrap();
    session.wait_ready(&mut |_, _| {}).unwrap().unwrap();
    let got = call(&mut session, "r-1", "{}").json();
    assert_eq!(machine.runtime_pid(), before, "the process that waited is the one that serves");
    assert_eq!((&got["stage"], &got["memory"]), (&json!("test"), &json!("256")));
    // Its environment is what a process of its own would have.
    let fresh = Machine::new(&[("app.py", ADOPTED)]);
    let mut function = configure(PYTHON, "app.handler");
    function.env = vec![env("STAGE", "test")];
    let own = call(&mut fresh.start(function), "r-1", "{}").json();
    let ours = |env: &serde_json::Value| {
        let names = env.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        // What a wrapper around the interpreter adds is not ours.
        names.filter(|n| !n.contains("PYENV") && n != "PWD" && n != "SHLVL").collect::<Vec<_>>()
    };
    assert_eq!(ours(&got["env"]), ours(&own["env"]));
}

#[test]
fn what_only_a_new_process_can_do_gets_one() {
    let machine = Machine::new(&[("app.py", ADOPTED)]);
    let mut session = preloaded(&machine, PYTHON);
    let function = || {
        let seed = wire::EnvVar { name: "PYTHONHASHSEED".into(), value: "7".into() };
        wire::Configure { env: vec![seed], ..configure(PYTHON, "app.handler") }
    };
    let before = machine.runtime_pid();
    session.configure(function()).unwrap();
    session.wait_ready(&mut |_, _| {}).unwrap().unwrap();
    assert_ne!(machine.runtime_pid(), before);
    let hash = call(&mut session, "r-1", "{}").json()["hash"].clone();
    let fresh = Machine::new(&[("app.py", ADOPTED)]);
    assert_eq!(hash, call(&mut fresh.start(function()), "r-1", "{}").json()["hash"]);
}

#[test]
fn a_function_that_does_not_load_in_a_runtime_is_told_so() {
    let machine = Machine::new(&[("app.py", "import nothing_of_that_name")]);
    let mut session = preloaded(&machine, PYTHON);
    session.configure(configure(PYTHON, "app.handler")).unwrap();
    let error = session.wait_ready(&mut |_, _| {}).unwrap().unwrap_err();
    assert_eq!(error.error_type, "Runtime.ImportModuleError");
}

#[test]
fn a_clone_that_waits_leaves_its_runtime_asleep() {
    let machine = Machine::new(&[("app.py", ADOPTED)]);
    machine.freeze(machine.start(configure(PYTHON, "app.handler")));
    let mut session = machine.connect();
    session.open(Opening { thaw: Some(facts("m-1")), ..Opening::default() }).unwrap();
    session.wait_thawed(&mut |_, _| {}).unwrap().unwrap();
    // The agent has done everything that it does: it answers.
    session.ping(1).unwrap();
    while !matches!(session.next_event().unwrap(), Event::Pong { nonce: 1 }) {}
    assert_eq!(machine.runtime_state(), 'T');
    assert!(call(&mut session, "r-1", "{}").json()["pid"].is_u64());
}

#[test]
fn hooks_run_at_every_fork() {
    let machine = Machine::new(&[("app.py", HOOKS)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    for round in 1..=2 {
        session.prepare_fork(None).unwrap();
        session.wait_freeze_ready(&mut |_, _| {}).unwrap().unwrap();
        drop(session);
        session = machine.connect();
        let id = format!("m-{round}");
        session.open(Opening { thaw: Some(facts(&id)), ..Opening::default() }).unwrap();
        session.wait_thawed(&mut |_, _| {}).unwrap().unwrap();
        // It goes on without a call, as it did before.
        assert_ne!(machine.runtime_state(), 'T');
    }
    let once = ["before 2", "before 1", "after 1", "after 2"];
    let trail = call(&mut session, "r-1", "{}").json()["trail"].clone();
    assert_eq!(trail, json!([once, once].concat()));
}

#[test]
fn a_clone_that_is_to_go_on_is_woken() {
    let machine = Machine::new(&[("app.py", ADOPTED)]);
    machine.freeze(machine.start(configure(PYTHON, "app.handler")));
    let mut session = machine.connect();
    let facts = wire::ThawFacts { wake: true, ..facts("m-1") };
    session.open(Opening { thaw: Some(facts), ..Opening::default() }).unwrap();
    session.wait_thawed(&mut |_, _| {}).unwrap().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while machine.runtime_state() == 'T' {
        assert!(std::time::Instant::now() < deadline, "it sleeps on");
        std::thread::yield_now();
    }
}
