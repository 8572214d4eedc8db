//! Queues.

use serde_json::json;

use super::*;

fn put(host: &Host, values: Vec<Value>) -> Result<Vec<String>, &'static str> {
    host.events.put(&caller("a"), "q", values).map_err(|error| error.name)
}

#[test]
fn what_was_put_is_on_disk() {
    let host = Host::new();
    host.add(r#"{"kind":"queue","name":"q"}"#);
    let ids = put(&host, vec![json!("text"), json!({"a": 1}), Value::Null]).unwrap();
    // As another process sees it.
    let ledger = SqliteLedger::open(&host.folder.path().join("ledger")).unwrap();
    let messages = ledger.lease(u64::MAX >> 2, u64::MAX >> 1, 100).unwrap();
    let records: Vec<Value> = messages
        .iter()
        .map(|message| serde_json::from_slice::<Value>(&message.event).unwrap()["Records"].take())
        .collect();
    let bodies: Vec<_> = records.iter().map(|record| record[0]["body"].as_str().unwrap()).collect();
    assert_eq!(bodies, ["text", r#"{"a":1}"#, "null"]);
    assert_eq!(records[0][0]["eventSource"], "calve:queue");
    assert_eq!(records[0][0]["eventSourceARN"], "arn:calve:queue:eu-central-1:111111111110:q");
    assert_eq!(messages.iter().map(|message| message.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(messages[0].qualifier, LATEST);
}

#[test]
fn ten_thousand_messages_are_batches() {
    let host = Host::new();
    host.add(r#"{"kind":"queue","name":"q","batch_size":300}"#);
    let ids = put(&host, (0..10_000).map(Value::from).collect()).unwrap();
    assert_eq!((ids.len(), host.waiting()), (10_000, 34));
    let bodies = host.bodies();
    let records = bodies.iter().flat_map(|body| body["Records"].as_array().unwrap());
    let (found, numbers): (Vec<_>, Vec<_>) = records
        .map(|record| (record["messageId"].as_str().unwrap(), record["body"].as_str().unwrap()))
        .unzip();
    assert_eq!(found, ids);
    assert_eq!(numbers, (0..10_000).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn events_have_a_size() {
    let host = Host::new();
    host.add(r#"{"kind":"queue","name":"q","batch_size":10000}"#);
    let large = || Value::String("x".repeat(400 << 10));
    put(&host, vec![large(), large(), large()]).unwrap();
    let sizes: Vec<_> = host.messages().iter().map(|message| message.event.len()).collect();
    assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= 1 << 20), "{sizes:?}");
    let too_large = vec![Value::Null, Value::String("x".repeat(1 << 20))];
    assert_eq!(put(&host, too_large), Err("RequestTooLargeException"));
    assert_eq!(host.waiting(), 2);
}

#[test]
fn refuses_what_cannot_be_put() {
    let host = Host::new();
    assert_eq!(put(&host, vec![Value::Null]), Err("ResourceNotFoundException"));
    let live = host.add(r#"{"kind":"queue","name":"q"}"#);
    assert_eq!(put(&host, vec![]), Err("InvalidParameterValueException"));
    assert_eq!(put(&host, vec![Value::Null; 10_001]), Err("InvalidParameterValueException"));
    host.set_enabled(&live, false);
    assert_eq!(put(&host, vec![Value::Null]), Err("ResourceConflictException"));
    host.set_enabled(&live, true);
    put(&host, vec![Value::Null; 10_000]).unwrap();
    put(&host, vec![Value::Null]).unwrap();
    assert_eq!(put(&host, vec![Value::Null]), Err("TooManyRequestsException"));
    assert_eq!(host.waiting(), 10_001);
}

#[test]
fn a_queue_has_one_function() {
    let host = Host::new();
    host.add(r#"{"kind":"queue","name":"q"}"#);
    let kind = Kind::Queue { name: "q".into(), batch_size: 2 };
    let draft =
        |function: &str| Draft { function: function.into(), enabled: true, kind: kind.clone() };
    let error = host.events.create(&caller("a"), draft("f")).unwrap_err();
    assert_eq!(error.name, "ResourceConflictException");
    host.events.create(&caller("b"), draft("g")).unwrap();
}
