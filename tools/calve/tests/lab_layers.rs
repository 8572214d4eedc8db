//! Layers in real machines: what functions import from them, on a runtime that others share and in a machine of their own.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::Place;
use common::lab::build;
use serde_json::{Value, json};

/// Makes a folder with these files, those in a `bin` executable.
fn folder(place: &Place, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = place.folder.path().join(name);
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let runs = path.parent().unwrap().ends_with("bin") || path.ends_with("bootstrap");
        let mode = if runs { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    folder
}

/// Builds a function with layers as `n`, and calls it.
fn answer(
    place: &Place,
    runtime: &str,
    code: &Path,
    handler: &str,
    layers: &[&Path],
    more: &[&str],
) -> Value {
    let layers = layers.iter().flat_map(|layer| ["--layer", layer.to_str().unwrap()]);
    let more: Vec<&str> = layers.chain(more.iter().copied()).collect();
    build(place, runtime, code, handler, &more, "n").status(0);
    let said = place.calve(["run", "n", "--event", "{}"]).status(0);
    place.calve(["snapshot", "rm", "n"]).status(0);
    said.json().remove(0)
}

const PYTHON: &str = "
import os, subprocess, sys
import both, lower, packaged

def refused(path):
    try:
        open(path, 'w')
    except OSError as error:
        return error.strerror

def handler(event, context):
    tool = subprocess.run(['tool'], capture_output=True, text=True).stdout.strip()
    return {'both': both.IS, 'lower': lower.IS, 'packaged': packaged.IS, 'tool': tool,
            'task': sorted(os.listdir('/var/task')), 'opt': sorted(os.listdir('/opt')),
            'refused': [refused('/opt/new'), refused('/var/task/new')],
            'libraries': os.environ.get('LD_LIBRARY_PATH')}
";

#[test]
#[ignore = "needs the lab"]
fn a_python_function_imports_from_its_layers_and_the_later_one_wins() {
    let place = Place::in_memory();
    let code = folder(&place, "code", &[("app.py", PYTHON)]);
    let lower = folder(
        &place,
        "lower",
        &[
            ("python/both.py", "IS = 'lower'\n"),
            ("python/lower.py", "IS = 'lower'\n"),
            ("bin/tool", "#!/bin/sh\necho lower\n"),
        ],
    );
    let packages = "python/lib/python3.11/site-packages/packaged.py";
    let upper = folder(
        &place,
        "upper",
        &[("python/both.py", "IS = 'upper'\n"), (packages, "IS = 'upper'\n")],
    );
    let read_only = "Read-only file system";
    let wanted = |both: &str| {
        json!({
            "both": both, "lower": "lower", "packaged": "upper", "tool": "lower",
            "task": ["app.py"], "opt": ["bin", "python"],
            "refused": [read_only, read_only], "libraries": null,
        })
    };
    let call = |layers: &[&Path], more: &[&str]| {
        answer(&place, "python3.11", &code, "app.handler", layers, more)
    };
    // On a runtime that was frozen without a function, and in a machine of its own.
    assert_eq!(call(&[&lower, &upper], &[]), wanted("upper"));
    assert_eq!(call(&[&upper, &lower], &[]), wanted("lower"));
    assert_eq!(call(&[&lower, &upper], &["--flat"]), wanted("upper"));
    // Shared libraries take a process of the function's own.
    let library = folder(&place, "library", &[("lib/libnothing.so", "")]);
    let got = call(&[&lower, &upper, &library], &[]);
    assert_eq!(got["libraries"], "/var/task:/var/task/lib:/opt/lib");
    assert_eq!((&got["both"], &got["tool"]), (&json!("upper"), &json!("lower")));
}

#[test]
#[ignore = "needs the lab"]
fn a_node_function_requires_from_its_layers_and_the_later_one_wins() {
    let place = Place::in_memory();
    let text =
        "exports.handler = async () => ['both', 'lower', 'upper'].map((name) => require(name));";
    let code = folder(&place, "code", &[("app.js", text)]);
    let module = |text: &str| format!("module.exports = '{text}';");
    let (low, up) = (&*module("lower"), &*module("upper"));
    let lower = folder(
        &place,
        "lower",
        &[("nodejs/node_modules/both/index.js", low), ("nodejs/node_modules/lower/index.js", low)],
    );
    let versioned = "nodejs/node20/node_modules/upper/index.js";
    let upper =
        folder(&place, "upper", &[("nodejs/node_modules/both/index.js", up), (versioned, up)]);
    let wanted = |both: &str| json!([both, "lower", "upper"]);
    let call = |layers: &[&Path], more: &[&str]| {
        answer(&place, "node20", &code, "app.handler", layers, more)
    };
    assert_eq!(call(&[&lower, &upper], &[]), wanted("upper"));
    assert_eq!(call(&[&upper, &lower], &[]), wanted("lower"));
    assert_eq!(call(&[&lower, &upper], &["--flat"]), wanted("upper"));
}

#[test]
#[ignore = "needs the lab"]
fn a_runtime_may_be_a_layer() {
    let place = Place::in_memory();
    let code = folder(&place, "code", &[("greeting", "hello\n")]);
    let bootstrap = include_str!("functions/provided/bootstrap");
    let layer = folder(&place, "layer", &[("bootstrap", bootstrap)]);
    let got = answer(&place, "provided", &code, "any", &[&layer], &[]);
    assert_eq!(got, json!({ "echo": {}, "handler": "any" }));
}
