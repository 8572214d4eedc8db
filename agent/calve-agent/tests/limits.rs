//! Bad functions: endless, loud, large, dead. None of them may cost more than its own call.

// Test functions may unwrap by clippy.toml; their helpers are meant, too.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use calve_proto::{Call, ErrorKind, Event, Exit};
use serde_json::json;
use support::{Machine, NODE, PYTHON, call, configure, next, rss_kib, wait};

const LOOP: &str = "import time\ndef handler(event, context):\n    print('on it')\n    while event == 'loop':\n        pass\n    return 'fine'\n";

#[test]
fn a_handler_that_loops_is_ended_at_its_deadline() {
    let machine = Machine::new(&[("app.py", LOOP)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    let begin = Instant::now();
    let timeout = Some(Duration::from_millis(700));
    session.invoke(Call { timeout, ..Call::new("r-1", b"\"loop\"") }).unwrap();
    let outcome = wait(&mut session);
    assert!(begin.elapsed() >= Duration::from_millis(700));
    assert_eq!(outcome.kind(), ErrorKind::Timeout);
    assert_eq!(outcome.error().error_type, "Sandbox.Timedout");
    assert_eq!(outcome.error().error_message, "Task timed out after 0.70 seconds");
    assert_eq!(outcome.stdout(), "on it\n");
    assert_eq!(call(&mut session, "r-2", "1").json(), "fine");
}

#[test]
fn a_call_can_be_given_up() {
    let machine = Machine::new(&[("app.py", LOOP)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    session.invoke(Call::new("r-1", b"\"loop\"")).unwrap();
    assert!(matches!(next(&mut session), Event::Log { .. }));
    session.cancel().unwrap();
    assert_eq!(wait(&mut session).kind(), ErrorKind::Cancelled);
    assert_eq!(call(&mut session, "r-2", "1").json(), "fine");
}

#[test]
fn a_host_that_hangs_up_ends_its_call() {
    let machine = Machine::new(&[("app.py", LOOP)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    session.invoke(Call::new("r-1", b"\"loop\"")).unwrap();
    assert!(matches!(next(&mut session), Event::Log { .. }));
    drop(session);
    let mut session = machine.connect();
    session.open(calve_proto::Opening::default()).unwrap();
    assert_eq!(call(&mut session, "r-2", "1").json(), "fine");
}

#[test]
fn a_print_flood_delays_neither_the_deadline_nor_the_agent() {
    let code = "def handler(event, context):\n    while True:\n        print('x' * 1000)\n";
    let machine = Machine::new(&[("app.py", code)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    // A fast host hears more than it would take from a guest in that time.
    session.set_log_limit(u64::MAX);
    let timeout = Some(Duration::from_millis(1500));
    session.invoke(Call { timeout, ..Call::new("r-1", b"1") }).unwrap();
    // The pong comes through the flood.
    assert!(matches!(next(&mut session), Event::Log { .. }));
    session.ping(7).unwrap();
    while !matches!(session.next_event().unwrap(), Event::Pong { nonce: 7 }) {}
    let outcome = wait(&mut session);
    assert_eq!(outcome.kind(), ErrorKind::Timeout);
}

#[test]
fn fifty_megabytes_of_output_arrive_whole_in_bounded_memory() {
    let code = "def handler(event, context):\n    line = 'y' * 999\n    for _ in range(50_000):\n        print(line)\n    return 'done'\n";
    let machine = Machine::new(&[("app.py", code)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    session.invoke(Call::new("r-1", b"1")).unwrap();
    let (mut bytes, mut peak) = (0, 0);
    let answer = session
        .wait_answer(&mut |_, data| {
            bytes += data.len();
            peak = peak.max(rss_kib(machine.agent_pid()));
        })
        .unwrap();
    assert_eq!(answer.outcome.unwrap(), b"\"done\"");
    assert_eq!(bytes, 50_000_000);
    assert!(peak < 16_000, "the agent grew to {peak} KiB");
}

#[test]
fn output_past_the_limit_is_dropped_counted_and_no_harm() {
    let code = "exports.handler = async (n) => { for (let i = 0; i < n; i++) console.log('z'.repeat(999)); return n; };";
    let machine = Machine::new(&[("app.js", code)]);
    let mut session = machine.start(calve_proto::wire::Configure {
        log_limit: 100_000,
        ..configure(NODE, "app.handler")
    });
    let outcome = call(&mut session, "r-1", "5000");
    assert_eq!(outcome.json(), json!(5000));
    assert_eq!((outcome.stdout.len(), outcome.answer.dropped_log_bytes), (100_000, 4_900_000));
    // The next call has an account of its own.
    let outcome = call(&mut session, "r-2", "10");
    assert_eq!((outcome.stdout.len(), outcome.answer.dropped_log_bytes), (10_000, 0));
}

#[test]
fn six_mebibytes_pass_in_both_directions_and_a_byte_more_does_not() {
    let max = calve_proto::limits::MAX_BODY;
    let event = format!("\"{}\"", "a".repeat(max - 2));
    for (runtime, file, code) in [
        (PYTHON, "app.py", "def handler(e, c):\n    return e if isinstance(e, str) else 'a' * e\n"),
        (
            NODE,
            "app.js",
            "exports.handler = async (e) => typeof e === 'string' ? e : 'a'.repeat(e);",
        ),
    ] {
        let machine = Machine::new(&[(file, code)]);
        let mut session = machine.start(configure(runtime, "app.handler"));
        let outcome = call(&mut session, "r-1", &event);
        assert!(outcome.answer.outcome.as_deref() == Ok(event.as_bytes()), "{runtime}");
        let outcome = call(&mut session, "r-2", &(max - 1).to_string());
        assert_eq!(outcome.kind(), ErrorKind::ResultTooLarge, "{runtime}");
        assert_eq!(outcome.error().error_type, "Function.ResponseSizeTooLarge");
        assert!(call(&mut session, "r-3", "3").answer.outcome.is_ok());
    }
}

#[test]
fn a_runtime_that_ends_is_told_by_status_and_signal() {
    let code = "import os, sys, signal\ndef handler(event, context):\n    print('bye')\n    eval(event)\n    return os.getpid()\n";
    let machine = Machine::new(&[("app.py", code)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    for (i, (how, exit)) in [
        ("sys.exit(3)", Exit::Status(3)),
        ("os._exit(0)", Exit::Status(0)),
        ("os.kill(os.getpid(), signal.SIGSEGV)", Exit::Signal(11)),
        ("os.kill(os.getpid(), signal.SIGKILL)", Exit::Signal(9)),
    ]
    .into_iter()
    .enumerate()
    {
        let outcome = call(&mut session, &format!("r-{i}"), &json!(how).to_string());
        assert_eq!(outcome.kind(), ErrorKind::RuntimeExited, "{how}");
        assert_eq!(outcome.error().exit, Some(exit), "{how}");
        assert_eq!(outcome.stdout(), "bye\n", "{how}");
    }
    assert!(call(&mut session, "last", "\"1\"").json().is_u64());
}

#[test]
fn an_end_between_two_calls_is_an_event_and_the_next_call_starts_anew() {
    let code = "import os, threading\ndef handler(event, context):\n    if event == 'later':\n        threading.Timer(0.05, os._exit, [7]).start()\n    return os.getpid()\n";
    let machine = Machine::new(&[("app.py", code)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    let first = call(&mut session, "r-1", "\"later\"").json();
    let Event::RuntimeExited { exit, out_of_memory } = next(&mut session) else {
        panic!("no RuntimeExited")
    };
    assert_eq!((exit, out_of_memory), (Exit::Status(7), false));
    assert_ne!(call(&mut session, "r-2", "1").json(), first);
}

#[test]
fn what_a_handler_leaves_running_goes_with_its_runtime() {
    let code = "import subprocess\ndef handler(event, context):\n    child = subprocess.Popen(['sleep', '1000'])\n    print(child.pid)\n    while True: pass\n";
    let machine = Machine::new(&[("app.py", code)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    let timeout = Some(Duration::from_secs(1));
    session.invoke(Call { timeout, ..Call::new("r-1", b"1") }).unwrap();
    let outcome = wait(&mut session);
    assert_eq!(outcome.kind(), ErrorKind::Timeout);
    let child: i32 = outcome.stdout().trim().parse().unwrap();
    // Killed with its group: it ends as soon as it gets a processor to do so, and init may take a while to reap it.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            break;
        }
        assert!(Instant::now() < deadline, "{stat}");
        std::thread::yield_now();
    }
}

#[test]
fn a_runtime_that_never_gets_ready_is_ended_in_time() {
    let code = "import time\nprint('waiting')\ntime.sleep(1000)\n";
    let machine = Machine::new(&[("app.py", code)]);
    let error = machine.start_failing(calve_proto::wire::Configure {
        init_timeout_ms: 1_000,
        ..configure(PYTHON, "app.handler")
    });
    assert_eq!(
        (error.kind, error.error_type.as_str()),
        (ErrorKind::InitTimeout, "Runtime.InitTimeout")
    );
}

#[test]
fn a_runtime_that_ends_on_import_is_told_by_its_status() {
    let machine = Machine::new(&[("app.py", "import os\nos._exit(9)\n")]);
    let error = machine.start_failing(configure(PYTHON, "app.handler"));
    assert_eq!((error.kind, error.exit), (ErrorKind::RuntimeExited, Some(Exit::Status(9))));
}

#[test]
fn user_code_that_writes_to_the_shims_socket_only_harms_itself() {
    let code = "import os\ndef handler(event, context):\n    os.write(3, b'?' * 100)\n    while True: pass\n";
    let machine = Machine::new(&[("app.py", code)]);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    let outcome = call(&mut session, "r-1", "1");
    assert_eq!(outcome.error().error_type, "Runtime.InvalidProtocol");
}
