//! The Node shim: module kinds, handler kinds, errors, hooks. Needs `node` on PATH and fails without it.

// Test functions may unwrap by clippy.toml; their helpers are meant, too.
#![allow(clippy::unwrap_used)]

mod support;

use calve_proto::{Call, ErrorKind, Opening, wire};
use serde_json::json;
use support::{Machine, NODE, call, configure, facts, wait};

const ASYNC: &str = "
console.log('loading');
exports.handler = async (event, context) => {
  console.log('hello', event.name);
  console.error('careful');
  await new Promise((resolve) => setTimeout(resolve, 5));
  return { event, id: context.awsRequestId, name: context.functionName, memory: context.memoryLimitInMB,
    left: context.getRemainingTimeInMillis(), gc: typeof gc };
};";

#[test]
fn an_async_handler_gets_its_event_and_its_context() {
    let machine = Machine::new(&[("app.js", ASYNC)]);
    let mut session = machine.start(configure(NODE, "app.handler"));
    let outcome = call(&mut session, "r-1", r#"{"name":"Åse"}"#);
    let got = outcome.json();
    assert_eq!(got["event"], json!({"name": "Åse"}));
    assert_eq!(
        (&got["id"], &got["name"], &got["memory"]),
        (&json!("r-1"), &json!("demo"), &json!("256"))
    );
    assert!((20_000..=30_000).contains(&got["left"].as_u64().unwrap()));
    assert_eq!(got["gc"], "undefined", "the collector is not the function's");
    assert_eq!(
        (outcome.stdout().as_str(), outcome.stderr().as_str()),
        ("hello Åse\n", "careful\n")
    );
}

/// Names and texts of a code folder.
type Files = &'static [(&'static str, &'static str)];

#[test]
fn every_kind_of_module_and_handler_is_found() {
    let cases: [(Files, &str, serde_json::Value); 9] = [
        (&[("app.mjs", "export const handler = async (e) => e + 1;")], "app.handler", json!(2)),
        (
            &[("app.mjs", "export default { handler: () => Promise.resolve(5) };")],
            "app.handler",
            json!(5),
        ),
        (&[("app.cjs", "exports.handler = async (e) => e + 1;")], "app.handler", json!(2)),
        (
            &[
                ("package.json", r#"{"type":"module"}"#),
                ("app.js", "export const handler = async () => import.meta.url.slice(-6);"),
            ],
            "app.handler",
            json!("app.js"),
        ),
        (&[("src/app.js", "exports.a = { b: async () => 3 };")], "src/app.a.b", json!(3)),
        (
            &[(
                "app.js",
                "exports.handler = (e, c, callback) => setTimeout(callback, 1, null, 4);",
            )],
            "app.handler",
            json!(4),
        ),
        (
            &[(
                "app.js",
                "exports.handler = (e, c, callback) => { c.callbackWaitsForEmptyEventLoop = false; setInterval(() => {}, 1e6); callback(null, 6); };",
            )],
            "app.handler",
            json!(6),
        ),
        // The loop runs empty without an answer.
        (&[("app.js", "exports.handler = () => {};")], "app.handler", json!(null)),
        (&[("app.js", "exports.handler = async () => undefined;")], "app.handler", json!(null)),
    ];
    for (files, handler, expected) in cases {
        let machine = Machine::new(files);
        let mut session = machine.start(configure(NODE, handler));
        assert_eq!(call(&mut session, "r-1", "1").json(), expected, "{files:?}");
        // An answer leaves the runtime in order.
        assert_eq!(call(&mut session, "r-2", "1").json(), expected, "{files:?}");
    }
}

#[test]
fn each_way_not_to_load_has_its_name() {
    let cases = [
        ("app.handler", "require('nowhere-to-be-found')", "Runtime.ImportModuleError"),
        ("other.handler", "", "Runtime.ImportModuleError"),
        ("app.missing", "exports.x = 1", "Runtime.HandlerNotFound"),
        ("app.x", "exports.x = 1", "Runtime.HandlerNotFound"),
        ("handler", "", "Runtime.MalformedHandlerName"),
        ("app.handler", "exports.handler = (", "Runtime.UserCodeSyntaxError"),
        ("app.handler", "throw new RangeError('no luck')", "RangeError"),
    ];
    for (handler, code, error_type) in cases {
        let machine = Machine::new(&[("app.js", code)]);
        let error = machine.start_failing(configure(NODE, handler));
        assert_eq!(error.kind, ErrorKind::Init, "{handler}: {error}");
        assert_eq!(error.error_type, error_type, "{handler}: {error}");
    }
    let machine = Machine::new(&[("app.js", "\nthrow new Error('no luck')")]);
    let error = machine.start_failing(configure(NODE, "app.handler"));
    assert!(error.stack_trace[1].contains("app.js:2"), "{:?}", error.stack_trace);
}

#[test]
fn errors_of_every_kind_of_handler_are_reported() {
    let code = "
exports.sync = () => { throw new TypeError('bad'); };
exports.late = async () => { throw new TypeError('bad'); };
exports.back = (e, c, callback) => callback(new TypeError('bad'));
exports.text = async () => { throw 'bad'; };
";
    let machine = Machine::new(&[("app.js", code)]);
    for (i, name) in ["sync", "late", "back"].iter().enumerate() {
        let machine = Machine::new(&[("app.js", code)]);
        let mut session = machine.start(configure(NODE, &format!("app.{name}")));
        let outcome = call(&mut session, &format!("r-{i}"), "{}");
        assert_eq!(outcome.kind(), ErrorKind::Handler, "{name}");
        assert_eq!(outcome.error().to_string(), "TypeError: bad", "{name}");
        assert!(outcome.error().stack_trace[1].contains("app.js"), "{name}");
    }
    let mut session = machine.start(configure(NODE, "app.text"));
    assert_eq!(call(&mut session, "r", "{}").error().to_string(), "string: bad");
}

#[test]
fn an_error_that_nobody_catches_ends_the_runtime_and_the_next_call_starts_another() {
    let code = "
exports.handler = (event, context, callback) => {
  if (event === 'throw') setImmediate(() => { throw new RangeError('lost'); });
  else if (event === 'reject') Promise.reject(new RangeError('lost'));
  else callback(null, process.pid);
  if (typeof event === 'string') setInterval(() => {}, 1e6);
};";
    let machine = Machine::new(&[("app.js", code)]);
    let mut session = machine.start(configure(NODE, "app.handler"));
    let first = call(&mut session, "r-1", "1").json();
    assert_eq!(call(&mut session, "r-2", "\"throw\"").error().to_string(), "RangeError: lost");
    let error = call(&mut session, "r-3", "\"reject\"");
    assert_eq!(error.error().error_type, "Runtime.UnhandledPromiseRejection");
    assert_ne!(call(&mut session, "r-4", "1").json(), first);
}

#[test]
fn values_that_are_no_json_are_marshal_errors() {
    let machine = Machine::new(&[("app.js", "exports.handler = async (event) => eval(event);")]);
    let mut session = machine.start(configure(NODE, "app.handler"));
    for (i, value) in ["10n", "const a = []; a.push(a); a"].iter().enumerate() {
        let outcome = call(&mut session, &format!("r-{i}"), &json!(value).to_string());
        assert_eq!(outcome.kind(), ErrorKind::InvalidResult, "{value}");
    }
    assert_eq!(call(&mut session, "e", "{not json").kind(), ErrorKind::InvalidEvent);
}

const HOOKS: &str = "
const crypto = require('crypto');
const trail = [];
calve.beforeSnapshot(() => trail.push('before 1'));
calve.beforeSnapshot(async () => { await null; trail.push('before 2'); });
calve.afterRestore(async () => { await null; trail.push('after 1'); });
calve.afterRestore(() => trail.push('after 2'));
const random = Math.random;
exports.handler = async () => {
  const values = Array.from({ length: 1000 }, () => random());
  return { trail, values, same: random === Math.random, uuid: crypto.randomUUID(), int: crypto.randomInt(1000) };
};";

#[test]
fn hooks_run_once_in_order_around_a_freeze() {
    let machine = Machine::new(&[("app.js", HOOKS)]);
    let mut session = machine.start(configure(NODE, "app.handler"));
    let before = call(&mut session, "warm", "{}").json();
    machine.freeze(session);
    let mut session = machine.connect();
    let warm = Call::new("r-1", b"{}");
    session
        .open(Opening { thaw: Some(facts("m-1")), call: Some(warm), ..Opening::default() })
        .unwrap();
    let got = wait(&mut session).json();
    assert_eq!(got["trail"], json!(["before 2", "before 1", "after 1", "after 2"]));
    assert_ne!(got["uuid"], before["uuid"]);
    let values: Vec<f64> =
        got["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
    let mean = values.iter().sum::<f64>() / 1000.0;
    assert!((0.4..0.6).contains(&mean), "Math.random has mean {mean}");
}

#[test]
fn a_runtime_without_a_function_becomes_one() {
    let code = "const first = Math.random();
        exports.handler = async () => ({ env: Object.keys(process.env).sort(), stage: process.env.STAGE, first });";
    let function = || {
        let stage = wire::EnvVar { name: "STAGE".into(), value: "test".into() };
        wire::Configure { env: vec![stage], ..configure(NODE, "app.handler") }
    };
    let machine = Machine::new(&[("app.js", code)]);
    machine.freeze(machine.preload(NODE));
    let mut session = machine.connect();
    session.open(Opening { thaw: Some(facts("m-1")), ..Opening::default() }).unwrap();
    session.wait_thawed(&mut |_, _| {}).unwrap().unwrap();
    session.configure(function()).unwrap();
    session.wait_ready(&mut |_, _| {}).unwrap().unwrap();
    let got = call(&mut session, "r-1", "{}").json();
    assert_eq!(got["stage"], "test");
    let fresh = Machine::new(&[("app.js", code)]);
    let own = call(&mut fresh.start(function()), "r-1", "{}").json();
    assert_eq!(got["env"], own["env"], "as in a process of its own");

    let failing = Machine::new(&[("app.js", "require('./nothing')")]);
    let mut session = failing.preload(NODE);
    session.configure(configure(NODE, "app.handler")).unwrap();
    let error = session.wait_ready(&mut |_, _| {}).unwrap().unwrap_err();
    assert_eq!(error.error_type, "Runtime.ImportModuleError");
}
