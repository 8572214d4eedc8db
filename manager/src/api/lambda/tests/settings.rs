//! Concurrency, asynchronous calls, tags and the account.

use super::*;

#[tokio::test]
async fn concurrency_is_kept_and_let_go() {
    let (_bench, client) = active().await;
    let (put, get) = ("/2017-10-31/functions/f/concurrency", "/2019-09-30/functions/f/concurrency");
    assert_eq!(client.get(get).await.ok(200), json!({}));
    let body = json!({ "ReservedConcurrentExecutions": 5 });
    assert_eq!(client.put(put, body.clone()).await.ok(200), body);
    assert_eq!(client.get(get).await.ok(200), body);
    assert_eq!(client.get(&of_f("")).await.ok(200)["Concurrency"], body);
    client.put(put, json!({ "ReservedConcurrentExecutions": 1001 })).await.err(400, INVALID);
    client.put(put, json!({})).await.err(400, INVALID);
    let account = client.get("/2016-08-19/account-settings").await.ok(200);
    assert_eq!(account["AccountLimit"]["UnreservedConcurrentExecutions"], 995);
    assert_eq!(account["AccountUsage"]["FunctionCount"], 1);
    client.delete(put).await.ok(204);
    assert_eq!(client.get(get).await.ok(200), json!({}));
}

#[tokio::test]
async fn machines_are_kept_ready_for_what_is_published() {
    let (mut bench, client) = active().await;
    client.post(&of_f("/versions"), json!({})).await.ok(201);
    bench.build_all();
    let path = |query: &str| format!("/2019-09-30/functions/f/provisioned-concurrency{query}");
    let body = |count: i64| json!({ "ProvisionedConcurrentExecutions": count });
    let none = "ProvisionedConcurrencyConfigNotFoundException";
    client.get(&path("?Qualifier=1")).await.err(404, none);
    client.put(&path(""), body(2)).await.err(400, INVALID);
    client.put(&path("?Qualifier=$LATEST"), body(2)).await.err(400, INVALID);
    client.put(&path("?Qualifier=9"), body(2)).await.err(404, MISSING);
    client.put(&path("?Qualifier=1"), body(0)).await.err(400, INVALID);
    client.put(&path("?Qualifier=1"), body(1001)).await.err(400, INVALID);
    let put = client.put(&path("?Qualifier=1"), body(2)).await.ok(202);
    assert_eq!(put["Status"], "IN_PROGRESS");
    let got = client.get(&path("?Qualifier=1")).await.ok(200);
    assert_eq!(got["RequestedProvisionedConcurrentExecutions"], 2);
    let list = client.get(&path("?List=ALL")).await.ok(200);
    let arn = "arn:aws:lambda:eu-central-1:111111111111:function:f:1";
    assert_eq!(list["ProvisionedConcurrencyConfigs"][0]["FunctionArn"], arn);
    client.delete(&path("?Qualifier=1")).await.ok(204);
    client.get(&path("?Qualifier=1")).await.err(404, none);
}

#[tokio::test]
async fn asynchronous_calls_are_set_up() {
    let (_bench, client) = active().await;
    let path = "/2019-09-25/functions/f/event-invoke-config";
    client.get(path).await.err(404, MISSING);
    client.post(path, json!({ "MaximumRetryAttempts": 0 })).await.err(404, MISSING);
    let other = "arn:aws:lambda:eu-central-1:111111111111:function:other";
    let body = json!({ "MaximumRetryAttempts": 1,
        "DestinationConfig": { "OnFailure": { "Destination": other } } });
    let put = client.put(path, body).await.ok(200);
    assert!(put["FunctionArn"].as_str().unwrap().ends_with(":f:$LATEST"));
    assert!(put["LastModified"].is_f64());
    assert_eq!(put["MaximumEventAgeInSeconds"], 21_600);
    let updated = client.post(path, json!({ "MaximumEventAgeInSeconds": 60 })).await.ok(200);
    assert_eq!(updated["MaximumRetryAttempts"], 1);
    assert_eq!(updated["DestinationConfig"]["OnFailure"]["Destination"], other);
    let list = client.get(&format!("{path}/list")).await.ok(200);
    assert_eq!(list["FunctionEventInvokeConfigs"][0], updated);
    client.put(path, json!({ "MaximumRetryAttempts": 3 })).await.err(400, INVALID);
    client.delete(path).await.ok(204);
    client.delete(path).await.err(404, MISSING);
}

#[tokio::test]
async fn tags_come_and_go() {
    let (_bench, client) = active().await;
    let path = "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-central-1%3A111111111111%3Afunction%3Af";
    client.post(path, json!({ "Tags": { "a": "1", "b": "2", "c": "3" } })).await.ok(204);
    client.delete(&format!("{path}?tagKeys=a&tagKeys=b")).await.ok(204);
    assert_eq!(client.get(path).await.ok(200)["Tags"], json!({ "c": "3" }));
    assert_eq!(client.get(&of_f("")).await.ok(200)["Tags"], json!({ "c": "3" }));
    let many: Value =
        (0..51).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    client.post(path, json!({ "Tags": many })).await.err(400, INVALID);
    assert_eq!(client.get(path).await.ok(200)["Tags"], json!({ "c": "3" }));
}
