//! The routes.

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use serde_json::json;
use tower::ServiceExt;

use super::*;

async fn ask(host: &Host, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(extensions) = request.extensions_mut() {
        extensions.insert(caller("a"));
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let router = routes().with_state(host.events.clone());
    let response = router.oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

const MAPPINGS: &str = "/2015-03-31/event-source-mappings";

#[tokio::test]
async fn mappings_are_as_lambda_has_them() {
    let host = Host::new();
    let body = json!({
        "EventSourceArn": "arn:calve:queue:::orders", "FunctionName": "f", "BatchSize": 10,
        "FilterCriteria": {}, "FunctionResponseTypes": [],
    });
    let (status, made) = ask(&host, "POST", &format!("{MAPPINGS}/"), body.clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{made}");
    let arn = format!("arn:calve:queue:{REGION}:111111111110:orders");
    assert_eq!(made["EventSourceArn"], arn);
    assert_eq!(made["FunctionArn"], format!("arn:aws:lambda:{REGION}:111111111110:function:f"));
    assert_eq!((made["BatchSize"].as_u64(), made["State"].as_str()), (Some(10), Some("Enabled")));
    assert!(made["LastModified"].is_f64());
    let id = made["UUID"].as_str().unwrap();
    let one = format!("{MAPPINGS}/{id}");

    assert_eq!(ask(&host, "POST", MAPPINGS, body).await.0, StatusCode::CONFLICT);
    let change = json!({ "Enabled": false, "BatchSize": 20 });
    let (status, changed) = ask(&host, "PUT", &one, change).await;
    assert_eq!((status, changed["State"].as_str()), (StatusCode::ACCEPTED, Some("Disabled")));
    let (status, found) = ask(&host, "GET", &one, Value::Null).await;
    assert_eq!((status, found["BatchSize"].as_u64()), (StatusCode::OK, Some(20)));
    let (status, gone) = ask(&host, "DELETE", &one, Value::Null).await;
    assert_eq!((status, gone["State"].as_str()), (StatusCode::ACCEPTED, Some("Deleting")));
    assert_eq!(ask(&host, "GET", &one, Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn mappings_are_listed_in_pages() {
    let host = Host::new();
    for name in ["x", "y", "z"] {
        host.add(&format!(r#"{{"kind":"queue","name":"{name}"}}"#));
    }
    let mut found = Vec::new();
    let mut path = format!("{MAPPINGS}?MaxItems=2&FunctionName=f");
    loop {
        let (_, page) = ask(&host, "GET", &path, Value::Null).await;
        found.push(page["EventSourceMappings"].as_array().unwrap().len());
        let Some(next) = page["NextMarker"].as_str() else { break };
        path = format!("{MAPPINGS}?MaxItems=2&FunctionName=f&Marker={next}");
    }
    assert_eq!(found, [2, 1]);
    let path = format!("{MAPPINGS}?EventSourceArn=arn:calve:queue:::y");
    let (_, page) = ask(&host, "GET", &path, Value::Null).await;
    assert_eq!(page["EventSourceMappings"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn refuses_mappings_that_cannot_be() {
    let host = Host::new();
    let queue = "arn:calve:queue:::orders";
    for (body, status) in [
        (json!({ "EventSourceArn": queue }), 400),
        (json!({ "FunctionName": "f" }), 400),
        (json!({ "FunctionName": "g", "EventSourceArn": queue }), 404),
        (json!({ "FunctionName": "f", "EventSourceArn": queue, "BatchSize": 10_001 }), 400),
        (json!({ "FunctionName": "f", "EventSourceArn": queue, "BatchSize": -1 }), 400),
        (json!({ "FunctionName": "f", "EventSourceArn": "arn:aws:sqs:::orders" }), 400),
        (json!({ "FunctionName": "f", "EventSourceArn": "arn:calve:file:::../x" }), 400),
        (json!({ "FunctionName": "f", "EventSourceArn": "arn:calve:queue::1:orders" }), 403),
        (
            json!({ "FunctionName": "f", "EventSourceArn": queue,
                    "FilterCriteria": { "Filters": [{ "Pattern": "{}" }] } }),
            400,
        ),
        (json!("no object"), 400),
    ] {
        let (found, answer) = ask(&host, "POST", MAPPINGS, body.clone()).await;
        assert_eq!(found, status, "{body}: {answer}");
        assert!(answer["Message"].is_string());
    }
}

#[tokio::test]
async fn all_kinds_of_source_have_a_route() {
    let host = Host::new();
    let settings = json!({ "kind": "schedule", "expression": "rate(5 minutes)" });
    let body = json!({ "function": "f", "settings": settings });
    let (status, made) = ask(&host, "POST", "/calve/v1/sources", body).await;
    assert_eq!((status, made["enabled"].as_bool()), (StatusCode::CREATED, Some(true)), "{made}");
    let one = format!("/calve/v1/sources/{}", made["id"].as_str().unwrap());
    let body = json!({ "settings": { "kind": "schedule", "expression": "0 0 * * *" } });
    let (status, changed) = ask(&host, "PUT", &one, body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(changed["settings"]["expression"], "0 0 * * *");
    let body = json!({ "settings": { "kind": "queue", "name": "q" } });
    assert_eq!(ask(&host, "PUT", &one, body).await.0, StatusCode::BAD_REQUEST);
    let (_, all) = ask(&host, "GET", "/calve/v1/sources?function=f", Value::Null).await;
    assert_eq!(all["sources"], json!([changed]));
    assert_eq!(ask(&host, "DELETE", &one, Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&host, "GET", &one, Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn messages_are_put_one_or_many() {
    let host = Host::new();
    host.add(r#"{"kind":"queue","name":"q"}"#);
    let path = "/calve/v1/queues/q/messages";
    let many: Vec<_> = (0..10_000).map(|_| "x".repeat(300)).collect();
    for (body, count) in [
        (json!({ "message": null }), 1),
        (json!({ "message": [1, 2] }), 1),
        (json!({ "messages": many }), 10_000),
    ] {
        let (status, answer) = ask(&host, "POST", path, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["message_ids"].as_array().unwrap().len(), count);
    }
    for body in [json!({}), json!({ "message": 1, "messages": [] }), json!([1])] {
        assert_eq!(ask(&host, "POST", path, body).await.0, StatusCode::BAD_REQUEST);
    }
    let (_, queue) = ask(&host, "GET", "/calve/v1/queues/q", Value::Null).await;
    assert_eq!(queue["waiting"], 10_002);
}
