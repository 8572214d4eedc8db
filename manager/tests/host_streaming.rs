//! `InvokeWithResponseStream`: results reach their callers as functions say them.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::io::Read as _;

use aws_smithy_eventstream::frame::read_message_from;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::{Client, Reply, TestHost, read_until};
use serde_json::{Value, json};

/// What came of a streamed call: all payload, and the last event.
struct Outcome {
    chunks: Vec<Vec<u8>>,
    complete: Value,
}

impl Outcome {
    /// Reads the frames of an answer, which has to be whole.
    #[track_caller]
    fn of(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        assert_eq!(reply.header("content-type"), "application/vnd.amazon.eventstream");
        let (body, whole) = reply.unchunked();
        assert!(whole);
        let (mut rest, mut chunks) = (&body[..], Vec::new());
        loop {
            let message = read_message_from(&mut rest).unwrap();
            let header = |name: &str| {
                let found = message.headers().iter().find(|header| header.name().as_str() == name);
                found.unwrap().value().as_string().unwrap().as_str().to_owned()
            };
            assert_eq!(header(":message-type"), "event");
            match header(":event-type").as_str() {
                "PayloadChunk" => chunks.push(message.payload().to_vec()),
                "InvokeComplete" => {
                    assert!(rest.is_empty(), "it is the last");
                    assert_eq!(header(":content-type"), "application/json");
                    let complete = serde_json::from_slice(message.payload()).unwrap();
                    return Self { chunks, complete };
                }
                other => panic!("{other}"),
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.chunks.concat()).unwrap()
    }
}

fn path(name: &str) -> String {
    format!("/2021-11-15/functions/{name}/response-streaming-invocations")
}

fn stream(client: &Client, event: &Value, headers: &[(&str, &str)]) -> Reply {
    client.request("POST", &path("f"), headers, event.to_string().as_bytes())
}

#[test]
fn a_function_that_knows_nothing_of_streams_has_one_payload() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let event = json!({ "n": 1, "print": "hello" });
    let reply = stream(&client, &event, &[("x-amz-log-type", "Tail")]);
    assert_eq!(reply.header("x-amz-executed-version"), "$LATEST");
    assert!(!reply.header("x-amzn-requestid").is_empty());
    let outcome = Outcome::of(&reply);
    assert_eq!(outcome.chunks.len(), 1);
    let result: Value = serde_json::from_slice(&outcome.chunks[0]).unwrap();
    assert_eq!(
        (&result["event"], &result["machine"]),
        (&event, &json!(reply.header("x-calve-machine")))
    );
    assert_eq!(outcome.complete, json!({ "LogResult": BASE64.encode("hello") }));
    assert_eq!(Outcome::of(&stream(&client, &event, &[])).complete, json!({}));
}

#[test]
fn what_is_said_comes_before_the_rest_is() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let event = json!({ "say": ["the first", { "wait": "gate" }, "the second"] }).to_string();
    let mut connection = client.send("POST", &path("f"), &[], event.as_bytes());
    let mut seen = read_until(&mut connection, "the first");
    host.engine.wait_for_call_at("gate");
    host.engine.open("gate");
    connection.read_to_end(&mut seen).unwrap();
    let outcome = Outcome::of(&Reply::parse(&seen));
    assert_eq!(outcome.chunks, [b"the first".to_vec(), b"the second".to_vec()]);
    assert_eq!(outcome.complete, json!({}));
    assert_eq!(host.engine.with(|world| world.done.len()), 1);
}

#[test]
fn a_failure_is_in_the_last_event_whenever_it_was() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    for said in [json!([]), json!(["half"])] {
        let event = json!({ "say": said, "fail": "as asked" });
        let outcome = Outcome::of(&stream(&client, &event, &[]));
        assert_eq!(outcome.chunks.len(), said.as_array().unwrap().len());
        assert_eq!(outcome.complete["ErrorCode"], "Fake");
        let details = outcome.complete["ErrorDetails"].as_str().unwrap();
        let details: Value = serde_json::from_str(details).unwrap();
        assert_eq!(details, json!({ "errorType": "Fake", "errorMessage": "as asked" }));
    }
}

#[test]
fn a_machine_that_fails_in_the_middle_is_told_in_the_last_event() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let event = json!({ "say": ["half", { "wait": "gate" }] }).to_string();
    let mut connection = client.send("POST", &path("f"), &[], event.as_bytes());
    let mut seen = read_until(&mut connection, "half");
    let machine = host.engine.wait_for_call_at("gate");
    host.engine.murder(&machine);
    connection.read_to_end(&mut seen).unwrap();
    let outcome = Outcome::of(&Reply::parse(&seen));
    assert_eq!(
        (outcome.text().as_str(), &outcome.complete["ErrorCode"]),
        ("half", &json!("ServiceException"))
    );
}

#[test]
fn what_goes_wrong_before_the_first_byte_is_an_error_as_ever() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let refused = |event: &[u8], headers: &[(&str, &str)], status: u16, name: &str| {
        let reply = client.request("POST", &path("f"), headers, event);
        assert_eq!((reply.status, reply.error()), (status, name));
    };
    refused(b"{no json", &[], 400, "InvalidRequestContentException");
    refused(b"{}", &[("x-amz-invocation-type", "Event")], 400, "InvalidParameterValueException");
    refused(br#"{"die":true}"#, &[], 500, "ServiceException");
    refused(br#"{"silent":true}"#, &[], 504, "ServiceException");
    let missing = client.request("POST", &path("g"), &[], b"{}");
    assert_eq!((missing.status, missing.error()), (404, "ResourceNotFoundException"));
    let other = host.client("other").request("POST", &path("f"), &[], b"{}");
    assert_eq!((other.status, other.error()), (404, "ResourceNotFoundException"));
    client.stranger().request("POST", &path("f"), &[], b"{}").expect(403);
    let dry = client.request("POST", &path("f"), &[("x-amz-invocation-type", "DryRun")], b"{}");
    dry.expect(204);
    let concurrency = json!({ "ReservedConcurrentExecutions": 0 });
    client.json("PUT", "/2017-10-31/functions/f/concurrency", &concurrency).expect(200);
    refused(b"{}", &[], 429, "TooManyRequestsException");
}

#[test]
fn a_client_that_leaves_a_stream_takes_its_machine_with_it() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let event = json!({ "say": ["half", { "wait": "never" }] }).to_string();
    let mut connection = client.send("POST", &path("f"), &[], event.as_bytes());
    read_until(&mut connection, "half");
    let machine = host.engine.wait_for_call_at("never");
    drop(connection);
    host.engine.wait("it is killed", |world| world.kills == [machine.clone()]);
    Outcome::of(&stream(&client, &json!({}), &[]));
}

#[test]
fn what_is_more_than_queues_take_comes_whole() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let said: Vec<String> = (0..100).map(|n| format!("{n:<50000}")).collect();
    let event = json!({ "say": said }).to_string();
    let connection = client.send("POST", &path("f"), &[], event.as_bytes());
    host.engine.wait("it is called", |world| world.calls.len() == 1);
    let outcome = Outcome::of(&Reply::read(&mut { connection }));
    assert_eq!(outcome.text(), said.concat());
}

#[test]
fn work_that_is_not_done_again_streams_its_record() {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    let key = [("x-calve-idempotency-key", "k-1")];
    let first = Outcome::of(&stream(&client, &json!({ "n": 1 }), &key));
    let again = Outcome::of(&stream(&client, &json!({ "n": 1 }), &key));
    assert_eq!(first.text(), again.text());
    assert_eq!(host.engine.with(|world| world.calls.len()), 1);
}
