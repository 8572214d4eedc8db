//! What cannot be done, and how it is said.

use super::*;

#[tokio::test]
async fn other_tenants_find_nothing() {
    let (bench, client) = active().await;
    let other = Client::new(&bench, two());
    let arn = "arn:aws:lambda:eu-central-1:111111111111:function:f";
    for name in ["f", arn] {
        let path = |rest: &str| format!("{FUNCTIONS}/{name}{rest}");
        other.get(&path("")).await.err(404, MISSING);
        other.get(&path("/configuration")).await.err(404, MISSING);
        other.get(&path("/versions")).await.err(404, MISSING);
        other.get(&path("/aliases")).await.err(404, MISSING);
        other.put(&path("/code"), json!({ "ZipFile": zip_file("2") })).await.err(404, MISSING);
        other.put(&path("/configuration"), json!({ "Timeout": 9 })).await.err(404, MISSING);
        other.post(&path("/versions"), json!({})).await.err(404, MISSING);
        let body = json!({ "Name": "a", "FunctionVersion": "$LATEST" });
        other.post(&path("/aliases"), body).await.err(404, MISSING);
        other.delete(&path("")).await.err(404, MISSING);
        other.get(&format!("/calve/v1/functions/{name}/code")).await.err(404, MISSING);
        other.get(&format!("/2017-03-31/tags/{name}")).await.err(404, MISSING);
        let body = json!({ "ReservedConcurrentExecutions": 1 });
        let concurrency = format!("/2017-10-31/functions/{name}/concurrency");
        other.put(&concurrency, body).await.err(404, MISSING);
    }
    assert_eq!(other.get(FUNCTIONS).await.ok(200)["Functions"], json!([]));
    // The name is free to them, and the first tenant's function stays what it was.
    other.post(FUNCTIONS, creation("f")).await.ok(201);
    assert_eq!(client.get(&of_f("")).await.ok(200)["Configuration"]["State"], "Active");
}

#[tokio::test]
async fn bodies_that_are_no_json_are_named_by_line_and_column() {
    let (_bench, client) = active().await;
    let malformed = "InvalidRequestContentException";
    let broken = client.ask(Method::POST, FUNCTIONS, b"{\n  \"FunctionName\": ]".to_vec()).await;
    assert!(broken.err(400, malformed).contains("line 2 column"));
    let mut body = creation("g");
    body["Code"] = json!({ "ZipFile": "not base64!" });
    assert!(client.post(FUNCTIONS, body).await.err(400, malformed).contains("base64"));
    let body = json!({ "Timeout": "long" });
    client.put(&of_f("/configuration"), body).await.err(400, malformed);
}

#[tokio::test]
async fn creation_refuses_what_lambda_refuses() {
    let (_bench, client) = active().await;
    client.post(FUNCTIONS, creation("f")).await.err(409, CONFLICT);
    let with = |key: &'static str, value: Value| {
        let mut body = creation("g");
        body[key] = value;
        client.post(FUNCTIONS, body)
    };
    assert!(with("Runtime", json!("ruby3.3")).await.err(400, INVALID).contains("python3.11"));
    with("MemorySize", json!(64)).await.err(400, INVALID);
    with("Timeout", json!(0)).await.err(400, INVALID);
    with("FunctionName", json!("a b")).await.err(400, INVALID);
    with("FunctionName", Value::Null).await.err(400, INVALID);
    with("FunctionName", json!("g:1")).await.err(400, INVALID);
    with("Role", Value::Null).await.err(400, INVALID);
    with("PackageType", json!("Image")).await.err(400, INVALID);
    with("Code", json!({ "S3Bucket": "b", "S3Key": "k" })).await.err(400, INVALID);
    with("Code", json!({ "ImageUri": "i" })).await.err(400, INVALID);
    with("Code", json!({})).await.err(400, INVALID);
    with("Code", json!({ "ZipFile": "" })).await.err(400, INVALID);
    with("Code", json!({ "ZipFile": STANDARD.encode("no zip") })).await.err(400, INVALID);
    with("Tags", json!({ "aws:x": "y" })).await.err(400, INVALID);
    let large = STANDARD.encode(vec![0; (50 << 20) + 1]);
    with("Code", json!({ "ZipFile": large })).await.err(413, "RequestTooLargeException");
    let huge = "x".repeat(crate::api::BODY_MOST);
    with("Description", json!(huge)).await.err(413, "RequestTooLargeException");
    client.get(&format!("{FUNCTIONS}/g")).await.err(404, MISSING);
}

#[tokio::test]
async fn what_is_being_changed_is_not_changed_again() {
    let mut bench = Bench::new();
    let client = Client::new(&bench, one());
    client.post(FUNCTIONS, creation("f")).await.ok(201);
    let change = || json!({ "Timeout": 9 });
    let pending = client.put(&of_f("/configuration"), change()).await.err(409, CONFLICT);
    assert!(pending.contains("Pending"));
    client.post(&of_f("/versions"), json!({})).await.err(409, CONFLICT);
    bench.build_all();
    client.put(&of_f("/configuration"), change()).await.ok(200);
    let busy = client.put(&of_f("/code"), json!({ "ZipFile": zip_file("2") })).await;
    assert!(busy.err(409, CONFLICT).contains("An update is in progress"));
    bench.fail_next();
    let failed = client.get(&of_f("/configuration")).await.ok(200);
    assert_eq!(
        (&failed["State"], &failed["LastUpdateStatus"]),
        (&json!("Active"), &json!("Failed"))
    );
    assert_eq!(failed["LastUpdateStatusReason"], "it raised");
    client.post(&of_f("/versions"), json!({})).await.err(409, CONFLICT);
}

#[tokio::test]
async fn revisions_and_digests_have_to_match() {
    let (_bench, client) = active().await;
    let precondition = "PreconditionFailedException";
    let wrong = json!({ "RevisionId": "x", "Timeout": 9, "ZipFile": zip_file("2") });
    client.put(&of_f("/configuration"), wrong.clone()).await.err(412, precondition);
    client.put(&of_f("/code"), wrong.clone()).await.err(412, precondition);
    client.post(&of_f("/versions"), wrong).await.err(412, precondition);
    client.post(&of_f("/versions"), json!({ "CodeSha256": "x" })).await.err(400, INVALID);
    let body = json!({ "Name": "a", "FunctionVersion": "$LATEST" });
    client.post(&of_f("/aliases"), body).await.ok(201);
    let body = json!({ "RevisionId": "x" });
    client.put(&of_f("/aliases/a"), body).await.err(412, precondition);

    let before = client.get(&of_f("/configuration")).await.ok(200);
    let body =
        json!({ "ZipFile": zip_file("2"), "DryRun": true, "RevisionId": before["RevisionId"] });
    let dry = client.put(&of_f("/code"), body).await.ok(200);
    assert_ne!(dry["CodeSha256"], before["CodeSha256"]);
    assert_eq!(client.get(&of_f("/configuration")).await.ok(200), before);
}

#[tokio::test]
async fn aliases_refer_to_versions_that_are_there() {
    let (mut bench, client) = active().await;
    client.post(&of_f("/versions"), json!({})).await.ok(201);
    bench.build_all();
    let alias = |name: &str, version: &str, weights: Value| {
        json!({ "Name": name, "FunctionVersion": version,
            "RoutingConfig": { "AdditionalVersionWeights": weights } })
    };
    let path = of_f("/aliases");
    client.post(&path, alias("a", "9", json!({}))).await.err(404, MISSING);
    client.post(&path, alias("a", "01", json!({}))).await.err(404, MISSING);
    client.post(&path, alias("a", "1", json!({ "9": 0.1 }))).await.err(404, MISSING);
    client.post(&path, alias("a", "1", json!({ "1": 0.1 }))).await.err(400, INVALID);
    client.post(&path, alias("a", "$LATEST", json!({ "1": 0.1 }))).await.err(400, INVALID);
    client.post(&path, alias("1", "1", json!({}))).await.err(400, INVALID);
    client.post(&path, alias("a", "1", json!({}))).await.ok(201);
    client.post(&path, alias("a", "1", json!({}))).await.err(409, CONFLICT);
    client.delete(&of_f("?Qualifier=a")).await.err(400, INVALID);
    client.delete(&of_f("?Qualifier=$LATEST")).await.err(400, INVALID);
    client.delete(&of_f("?Qualifier=7")).await.err(404, MISSING);
    client.get(&of_f(":a?Qualifier=1")).await.err(400, INVALID);
    client.get(&of_f("?Qualifier=b")).await.err(404, MISSING);
    client.get(&format!("{FUNCTIONS}?MaxItems=x")).await.err(400, INVALID);
    client.get(&format!("{FUNCTIONS}?Marker=x")).await.err(400, INVALID);
}
