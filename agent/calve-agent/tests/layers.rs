//! What functions find of their layers: in a process of their own and in one that was there before them. Needs
//! `python3.11` and `node` on PATH and fails without them.

// Test functions may unwrap by clippy.toml; their helpers are meant, too.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::net::UnixStream;

use calve_proto::{Opening, Session, wire};
use serde_json::json;
use support::{Machine, NODE, PYTHON, call, configure, facts};

type Files = &'static [(&'static str, &'static str)];

/// Has a runtime that waited for a function take one.
fn adopt(machine: &Machine, function: wire::Configure) -> Session<UnixStream> {
    machine.freeze(machine.preload(&function.runtime));
    let mut session = machine.connect();
    session.open(Opening { thaw: Some(facts("m-1")), ..Opening::default() }).unwrap();
    session.wait_thawed(&mut |_, _| {}).unwrap().unwrap();
    session.configure(function).unwrap();
    let ready = session.wait_ready(&mut |_, _| {}).unwrap();
    ready.unwrap_or_else(|error| panic!("{error} {:?}", error.stack_trace));
    session
}

const PYTHON_CODE: Files = &[
    (
        "app.py",
        "import os, own, of_packages, of_layer\ndef handler(event, context):\n    return [own.IS, of_packages.IS, of_layer.IS, os.environ.get('LD_LIBRARY_PATH', '').split(':')[-1][-4:]]\n",
    ),
    ("own.py", "IS = 'code'\n"),
];
const PYTHON_LAYERS: Files = &[
    ("python/own.py", "IS = 'layer'\n"),
    ("python/of_layer.py", "IS = 'layer'\n"),
    ("python/of_packages.py", "IS = 'layer'\n"),
    ("python/lib/python3.11/site-packages/of_packages.py", "IS = 'packages'\n"),
];

#[test]
fn python_looks_into_the_code_then_packages_then_the_layer() {
    let wanted = json!(["code", "packages", "layer", ""]);
    let machine = Machine::layered(PYTHON_CODE, PYTHON_LAYERS);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    assert_eq!(call(&mut session, "r-1", "{}").json(), wanted);

    let machine = Machine::layered(PYTHON_CODE, PYTHON_LAYERS);
    let mut session = adopt(&machine, configure(PYTHON, "app.handler"));
    assert_eq!(call(&mut session, "r-1", "{}").json(), wanted);
}

#[test]
fn a_search_path_of_the_function_s_own_comes_before_its_layers() {
    let code: Files = &[
        (
            "app.py",
            "import of_layer, src\ndef handler(event, context):\n    return [of_layer.IS, src.IS]\n",
        ),
        ("lib/src.py", "IS = 'own'\n"),
    ];
    let layers: Files =
        &[("python/of_layer.py", "IS = 'layer'\n"), ("python/src.py", "IS = 'layer'\n")];
    let machine = Machine::layered(code, layers);
    let path = machine.code().join("lib").display().to_string();
    let path = wire::EnvVar { name: "PYTHONPATH".into(), value: path };
    let function = wire::Configure { env: vec![path], ..configure(PYTHON, "app.handler") };
    let mut session = machine.start(function);
    assert_eq!(call(&mut session, "r-1", "{}").json(), json!(["layer", "own"]));
}

#[test]
fn shared_libraries_are_named_to_a_process_of_the_function_s_own() {
    let layers: Files = &[
        ("lib/libnothing.so", ""),
        ("python/of_layer.py", "IS = 'layer'\n"),
        ("python/of_packages.py", "IS = 'layer'\n"),
    ];
    let machine = Machine::layered(PYTHON_CODE, layers);
    machine.freeze(machine.preload(PYTHON));
    let before = machine.runtime_pid();
    let mut session = machine.connect();
    session.open(Opening { thaw: Some(facts("m-1")), ..Opening::default() }).unwrap();
    session.wait_thawed(&mut |_, _| {}).unwrap().unwrap();
    session.configure(configure(PYTHON, "app.handler")).unwrap();
    session.wait_ready(&mut |_, _| {}).unwrap().unwrap();
    assert_ne!(machine.runtime_pid(), before);
    let got = call(&mut session, "r-1", "{}").json();
    assert_eq!(got, json!(["code", "layer", "layer", "/lib"]));
}

const NODE_CODE: Files = &[
    (
        "app.js",
        "exports.handler = async () => ['own', 'versioned', 'any'].map((name) => require(name));",
    ),
    ("node_modules/own/index.js", "module.exports = 'code';"),
];
const NODE_LAYERS: Files = &[
    ("nodejs/node_modules/own/index.js", "module.exports = 'layer';"),
    ("nodejs/node_modules/any/index.js", "module.exports = 'layer';"),
    ("nodejs/node_modules/versioned/index.js", "module.exports = 'layer';"),
    ("nodejs/node20/node_modules/versioned/index.js", "module.exports = 'node20';"),
];

#[test]
fn node_looks_into_the_code_then_its_version_then_the_layer() {
    let wanted = json!(["code", "node20", "layer"]);
    let machine = Machine::layered(NODE_CODE, NODE_LAYERS);
    let mut session = machine.start(configure(NODE, "app.handler"));
    assert_eq!(call(&mut session, "r-1", "{}").json(), wanted);

    let machine = Machine::layered(NODE_CODE, NODE_LAYERS);
    let mut session = adopt(&machine, configure(NODE, "app.handler"));
    assert_eq!(call(&mut session, "r-1", "{}").json(), wanted);
}

/// A client of the Runtime API that answers with its own path.
const BOOTSTRAP: &str = r#"#!/usr/bin/env python3.11
import json, os, sys, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(api + "next") as response:
        id, event = response.headers["Lambda-Runtime-Aws-Request-Id"], json.load(response)
    where = os.path.basename(os.path.dirname(os.path.abspath(__file__)))
    urllib.request.urlopen(urllib.request.Request(f"{api}{id}/response", json.dumps(where).encode())).read()
"#;

#[test]
fn a_layer_s_bootstrap_runs_where_there_is_neither_a_shim_nor_one_of_the_function_s_own() {
    let of_layer = [("bootstrap", BOOTSTRAP)];
    let function = [("handler.txt", "")];
    let machine = Machine::layered(&function, &of_layer);
    let mut session = machine.start(configure("provided", "any"));
    assert_eq!(call(&mut session, "r-1", "{}").json(), json!("opt"));

    let machine = Machine::layered(&[("bootstrap", BOOTSTRAP)], &of_layer);
    let mut session = machine.start(configure("provided", "any"));
    assert_eq!(call(&mut session, "r-1", "{}").json(), json!("code"));

    let code = "def handler(event, context):\n    return 'shim'\n";
    let machine = Machine::layered(&[("app.py", code)], &of_layer);
    let mut session = machine.start(configure(PYTHON, "app.handler"));
    assert_eq!(call(&mut session, "r-1", "{}").json(), json!("shim"));
}
