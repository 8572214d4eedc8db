//! Functions over HTTP: what is asked, what is printed, how it ends.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::Place;
use common::stub::{KEY, Reply, Stub};
use serde_json::json;

const INVOKE: [&str; 5] = ["function", "invoke", "f", "--event", "{\"n\": 1}"];

fn configuration(state: &str, update: &str) -> Reply {
    let document = json!({
        "FunctionName": "f", "FunctionArn": "arn:f", "State": state, "LastUpdateStatus": update,
        "StateReason": "no module\nnamed app", "StateReasonCode": "FunctionError.InitError",
        "LastUpdateStatusReason": "no memory", "LastUpdateStatusReasonCode": "InternalError",
    });
    Reply::new(200, document)
}

/// Arguments of a creation from a folder that is made.
fn create(place: &Place) -> Vec<String> {
    let code = place.folder.path().join("code");
    fs::create_dir_all(&code).unwrap();
    fs::write(code.join("app.py"), "def handler(e, c): return e\n").unwrap();
    let line =
        "function create f --runtime python3.11 --handler app.handler --memory 512 --env A=b=c";
    let mut args: Vec<String> = common::words(line).into_iter().map(str::to_owned).collect();
    args.extend(["--code".to_owned(), code.to_str().unwrap().to_owned()]);
    args
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn a_function_is_created_and_waited_for() {
    let place = Place::new();
    let stub = Stub::new(|_, before| match before {
        0 | 1 => configuration("Pending", "Successful"),
        _ => configuration("Active", "Successful"),
    });
    let said = stub.calve(&place, &strs(&create(&place))).status(0);
    assert_eq!((&*said.stdout, &*said.stderr), ("arn:f\n", ""));
    let get = "GET /2015-03-31/functions/f/configuration";
    assert_eq!(stub.lines(), ["POST /2015-03-31/functions", get, get]);
    let asked = &stub.heard()[0];
    assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(asked.headers["content-type"], "application/json");
    let mut document = asked.json();
    let package = STANDARD.decode(document["Code"]["ZipFile"].as_str().unwrap()).unwrap();
    let zip = zip::ZipArchive::new(Cursor::new(package)).unwrap();
    assert_eq!(zip.len(), 1);
    document["Code"] = json!("checked");
    assert_eq!(
        document,
        json!({
            "FunctionName": "f", "Runtime": "python3.11", "Handler": "app.handler", "MemorySize": 512,
            "Role": "arn:aws:iam::000000000000:role/calve", "Code": "checked",
            "Environment": { "Variables": { "A": "b=c" } },
        })
    );
}

#[test]
fn nobody_waits_who_does_not_want_to() {
    let place = Place::new();
    let stub = Stub::always(|| configuration("Pending", "Successful"));
    let mut args = create(&place);
    args.push("--no-wait".to_owned());
    assert_eq!(stub.calve(&place, &strs(&args)).status(0).stdout, "arn:f\n");
    assert_eq!(stub.heard().len(), 1);
}

#[test]
fn a_function_that_does_not_start_is_a_function_that_failed() {
    let place = Place::new();
    let stub = Stub::always(|| configuration("Failed", "Successful"));
    let said = stub.calve(&place, &strs(&create(&place))).status(1).silent();
    said.line("f: cannot be started: FunctionError.InitError: no module named app; put it right");
    let stub = Stub::always(|| configuration("Active", "Failed"));
    let said =
        stub.calve(&place, &["function", "update", "f", "--timeout", "9"]).status(4).silent();
    said.line("f: cannot be started: InternalError: no memory; calls go to what was there before");
    assert_eq!(stub.heard()[0].json(), json!({ "Timeout": 9 }));
}

#[test]
fn an_update_changes_one_thing_after_the_other() {
    let place = Place::new();
    let stub = Stub::new(|_, before| match before {
        0 => configuration("Active", "InProgress"),
        1 => configuration("Active", "Failed"),
        2 => configuration("Active", "InProgress"),
        _ => configuration("Active", "Successful"),
    });
    let mut args = create(&place);
    args[1] = "update".to_owned();
    assert_eq!(stub.calve(&place, &strs(&args)).status(0).stdout, "arn:f\n");
    let path = "/2015-03-31/functions/f";
    let get = format!("GET {path}/configuration");
    let wanted =
        [format!("PUT {path}/configuration"), get.clone(), format!("PUT {path}/code"), get];
    assert_eq!(stub.lines(), wanted);
    stub.calve(&place, &["function", "update", "f"]).status(2).line("--code <PATH>");
    stub.calve(&place, &["function", "update", "f", "--code", "/nowhere", "--memory", "256"])
        .status(2)
        .line("cannot read /nowhere: No such file");
    assert_eq!(stub.heard().len(), 4, "nothing is half done");
}

#[test]
fn layers_are_given_in_order_and_taken_away_together() {
    let place = Place::new();
    let stub = Stub::always(|| configuration("Active", "Successful"));
    let mut args = create(&place);
    args.extend(["--layer", "arn:a:1", "--layer", "arn:b:2"].map(str::to_owned));
    stub.calve(&place, &strs(&args)).status(0);
    stub.calve(&place, &["function", "update", "f", "--layer", "arn:b:2"]).status(0);
    stub.calve(&place, &["function", "update", "f", "--no-layers"]).status(0);
    let heard = stub.heard();
    assert_eq!(heard[0].json()["Layers"], json!(["arn:a:1", "arn:b:2"]));
    assert_eq!(heard[1].json(), json!({ "Layers": ["arn:b:2"] }));
    assert_eq!(heard[2].json(), json!({ "Layers": [] }));
}

#[test]
fn a_list_has_all_pages() {
    let place = Place::new();
    let of = |name: &str| {
        json!({ "FunctionName": name, "Runtime": "python3.11", "Handler": "app.handler",
            "MemorySize": 128, "Timeout": 3, "State": "Active", "LastUpdateStatus": "InProgress",
            "LastModified": "2026-11-28T16:00:00.000+0000" })
    };
    let stub = Stub::new(move |heard, _| match heard.line.contains("Marker=a%2F1") {
        false => Reply::new(200, json!({ "Functions": [of("a")], "NextMarker": "a/1" })),
        true => Reply::new(200, json!({ "Functions": [of("b")] })),
    });
    let said = stub.calve(&place, &["function", "ls"]).status(0).stdout;
    assert_eq!(
        said,
        "NAME  RUNTIME     HANDLER      MEMORY   TIMEOUT  STATE                      MODIFIED\n\
         a     python3.11  app.handler  128 MiB  3 s      Active, update InProgress  2026-11-28T16:00:00.000+0000\n\
         b     python3.11  app.handler  128 MiB  3 s      Active, update InProgress  2026-11-28T16:00:00.000+0000\n"
    );
    let listed = stub.calve(&place, &["function", "ls", "--json"]).status(0).json();
    assert_eq!((listed.len(), &listed[1]["FunctionName"]), (2, &json!("b")));
}

#[test]
fn a_function_is_shown_and_removed() {
    let place = Place::new();
    let stub = Stub::new(|heard, _| match heard.line.split(' ').next() {
        Some("DELETE") if heard.line.ends_with('f') => Reply::new(204, ""),
        Some("DELETE") => Reply::error(404, "ResourceNotFoundException", "Function not found: x"),
        _ => Reply::new(200, "{\"Configuration\": {}}"),
    });
    let got = stub.calve(&place, &["function", "get", "a/f", "--qualifier", "$LATEST"]).status(0);
    assert_eq!(got.stdout, "{\"Configuration\": {}}\n");
    stub.calve(&place, &["function", "rm", "f"]).status(0).silent();
    let said = stub.calve(&place, &["function", "rm", "g", "f", "h"]).status(2).silent();
    assert_eq!(said.stderr.lines().count(), 2, "{said:?}");
    let path = "/2015-03-31/functions";
    let asked = stub.lines();
    assert_eq!(asked[0], format!("GET {path}/a%2Ff?Qualifier=%24LATEST"));
    assert_eq!(asked.last().unwrap(), &format!("DELETE {path}/h"), "all are tried");
}

#[test]
fn a_call_prints_result_and_logs() {
    let place = Place::new();
    let stub = Stub::always(|| {
        Reply::new(200, "{\"twice\":\n 2}").header("X-Amz-Log-Result", &STANDARD.encode("one\ntwo"))
    });
    let mut args = INVOKE.to_vec();
    args.extend(["--qualifier", "live", "--route", "r-1", "--idempotency-key", "k-1"]);
    let said = stub.calve(&place, &args).status(0);
    assert_eq!((&*said.stdout, &*said.stderr), ("{\"twice\":  2}\n", "one\ntwo\n"));
    let asked = &stub.heard()[0];
    assert_eq!(asked.line, "POST /2015-03-31/functions/f/invocations?Qualifier=live");
    assert_eq!(asked.body, b"{\"n\": 1}");
    for (name, value) in [
        ("x-amz-invocation-type", "RequestResponse"),
        ("x-amz-log-type", "Tail"),
        ("x-calve-route", "r-1"),
        ("x-calve-idempotency-key", "k-1"),
    ] {
        assert_eq!(asked.headers[name], value);
    }
}

#[test]
fn a_call_in_the_background_prints_its_request() {
    let place = Place::new();
    let stub = Stub::always(|| Reply::new(202, "").header("x-amzn-RequestId", "r-1"));
    let mut args = INVOKE.to_vec();
    args.push("--async");
    assert_eq!(stub.calve(&place, &args).status(0).stdout, "r-1\n");
    assert_eq!(stub.heard()[0].headers["x-amz-invocation-type"], "Event");
}

#[test]
fn a_failed_call_prints_its_error() {
    let place = Place::new();
    for (error, status, line) in [
        (r#"{"errorType":"KeyError","errorMessage":"'n'"}"#, 1, "f: KeyError: 'n'"),
        (r#"{"errorType":"Sandbox.Timedout","errorMessage":"3 s"}"#, 4, "; give it more time"),
    ] {
        let stub = Stub::always(move || {
            Reply::new(200, error).header("X-Amz-Function-Error", "Unhandled")
        });
        let said = stub.calve(&place, &INVOKE).status(status).line(line);
        assert_eq!(said.stdout, format!("{error}\n"));
    }
}

#[test]
fn each_refusal_is_one_line_with_its_status() {
    let place = Place::new();
    for (status, name, message, exit, line) in [
        (404, "ResourceNotFoundException", "Function not found: arn:f.", 2, "arn:f; `ls` shows"),
        (400, "InvalidParameterValueException", "a\nb", 2, "calve: f: a b"),
        (403, "UnrecognizedClientException", "No such key.", 2, "f: No such key; check --key"),
        (413, "RequestTooLargeException", "Too large", 2, "f: Too large; send less"),
        (429, "TooManyRequestsException", "Rate exceeded", 4, "Rate exceeded; try again later"),
        (500, "ServiceException", "its log says why", 4, "f: its log says why"),
    ] {
        let stub = Stub::always(move || Reply::error(status, name, message));
        stub.calve(&place, &INVOKE).status(exit).silent().line(line);
    }
    let busy = || Reply::error(429, "TooManyRequestsException", "Busy").header("Retry-After", "7");
    Stub::always(busy).calve(&place, &INVOKE).status(4).line("f: Busy; try again in 7 s");
}

#[test]
fn whoever_is_no_function_host_is_found_out() {
    let place = Place::new();
    let said =
        |reply: fn() -> Reply| Stub::always(reply).calve(&place, &["function", "ls"]).silent();
    said(|| Reply::new(404, "<html>")).status(2).line("answers 404 Not Found; check --url");
    said(|| Reply::new(502, "")).status(4).line("502 Bad Gateway; see the function host's log");
    said(|| Reply::new(200, "<html>")).status(4).line("the answer is none of a function host");
    let elsewhere = Stub::always(|| Reply::new(200, "{\"Functions\":[]}"));
    let url = elsewhere.url();
    let moved = Stub::always(move || Reply::new(302, "").header("Location", &url));
    moved.calve(&place, &["function", "ls"]).status(4).silent().line("answers 302 Found");
    assert!(elsewhere.heard().is_empty(), "nobody else sees the key");
}

#[test]
fn a_host_that_is_not_there_is_status_3() {
    let place = Place::new();
    let calve = |args: &[&str]| {
        let mut command = place.command(INVOKE);
        command.args(args).env("CALVE_KEY", KEY).env_remove("CALVE_URL");
        common::Said::from(command.output().unwrap()).silent()
    };
    // The discard port: nobody has it, and no test of ours gets it.
    let said = calve(&["--url", "http://127.0.0.1:9"]).status(3);
    said.line("calve: cannot reach the function host at http://127.0.0.1:9: Connection refused")
        .line("; start one with `calve serve`, or name another with --url (CALVE_URL)");
    calve(&["--url", "https://127.0.0.1:9"]).status(2).line("this program speaks no TLS");
    calve(&["--key", "whole"]).status(2).line("is not of the form ID:SECRET");
}

#[test]
fn a_wrong_event_is_refused_before_the_host_is_asked() {
    let place = Place::new();
    let stub = Stub::always(|| Reply::new(200, "null"));
    let wrong = ["function", "invoke", "f", "--event", "{"];
    stub.calve(&place, &wrong).status(2).silent().line("event is not JSON");
    assert!(stub.heard().is_empty());
}

#[test]
fn logs_are_of_the_latest_calls() {
    let place = Place::new();
    let stub = Stub::always(|| {
        let call = |request: &str, logs: &str| {
            json!({ "request": request, "version": "7", "started_ms": 1_795_881_600_042_u64,
                "took_ms": 1.25, "outcome": "ok", "logs": logs, "machine": "m-1" })
        };
        Reply::new(200, json!([call("r-2", ""), call("r-1", "hello\n")]))
    });
    let said = stub.calve(&place, &["function", "logs", "f"]).status(0).stdout;
    assert_eq!(
        said,
        "2026-11-28T16:00:00.042Z  r-1  7  ok  1.2 ms\n    hello\n\
         2026-11-28T16:00:00.042Z  r-2  7  ok  1.2 ms\n"
    );
    let said = stub.calve(&place, &["function", "logs", "f", "--json"]).status(0).json();
    assert_eq!((&said[0]["request"], &said[1]["request"]), (&json!("r-1"), &json!("r-2")));
    assert_eq!(stub.lines()[0], "GET /calve/v1/functions/f/invocations");
}
