//! From its making to its end.

use super::*;

#[tokio::test]
async fn a_function_is_made_built_and_shown() {
    let mut bench = Bench::new();
    let client = Client::new(&bench, one());
    let made = client.post(FUNCTIONS, creation("f")).await.ok(201);
    assert_eq!(made["State"], "Pending");
    assert_eq!(made["StateReasonCode"], "Creating");
    assert_eq!(made["LastUpdateStatus"], Value::Null);
    assert_eq!(made["FunctionArn"], "arn:aws:lambda:eu-central-1:111111111111:function:f");
    assert_eq!((&made["Version"], &made["PackageType"]), (&json!("$LATEST"), &json!("Zip")));
    assert_eq!((&made["Timeout"], &made["MemorySize"]), (&json!(3), &json!(128)));
    assert_eq!(STANDARD.decode(made["CodeSha256"].as_str().unwrap()).unwrap().len(), 32);
    let modified = made["LastModified"].as_str().unwrap();
    assert!(modified.len() == 28 && modified.ends_with("+0000"), "{modified}");

    assert_eq!(bench.build_all(), 1);
    let shown = client.get(&of_f("/configuration")).await.ok(200);
    assert_eq!(
        (&shown["State"], &shown["LastUpdateStatus"]),
        (&json!("Active"), &json!("Successful"))
    );

    let found = client.get(&of_f("?Qualifier=$LATEST")).await.ok(200);
    let location = found["Code"]["Location"].as_str().unwrap();
    let path = location.strip_prefix("http://calve.test:9000").unwrap();
    assert_eq!(path, "/calve/v1/functions/f/code?Qualifier=%24LATEST");
    let (parts, package) = client.send(Method::GET, path, Vec::new()).await;
    assert_eq!((parts.status, package), (StatusCode::OK, zip_of("1")));
    assert_eq!(parts.headers["content-type"], "application/zip");
}

#[tokio::test]
async fn updates_publish_and_aliases_follow() {
    let (mut bench, client) = active().await;
    let first = client.post(&of_f("/versions"), json!({ "Description": "one" })).await.ok(201);
    assert_eq!((&first["Version"], &first["State"]), (&json!("1"), &json!("Pending")));
    assert_eq!(first["FunctionArn"], "arn:aws:lambda:eu-central-1:111111111111:function:f:1");
    assert_eq!(first["Description"], "one");
    bench.build_all();
    // Nothing has changed: the same again.
    assert_eq!(client.post(&of_f("/versions"), json!({})).await.ok(201)["Version"], "1");

    let body = json!({ "ZipFile": zip_file("2"), "Publish": true });
    let second = client.put(&of_f("/code"), body).await.ok(200);
    assert_eq!(second["Version"], "2");
    assert_ne!(second["CodeSha256"], first["CodeSha256"]);
    let latest = client.get(&of_f("/configuration")).await.ok(200);
    assert_eq!(
        (&latest["State"], &latest["LastUpdateStatus"]),
        (&json!("Active"), &json!("InProgress"))
    );
    assert_eq!(bench.build_all(), 2);

    let body = json!({ "Name": "prod", "FunctionVersion": "1",
        "RoutingConfig": { "AdditionalVersionWeights": { "2": 0.05 } } });
    let alias = client.post(&of_f("/aliases"), body).await.ok(201);
    assert_eq!(alias["RoutingConfig"]["AdditionalVersionWeights"], json!({ "2": 0.05 }));
    let by_alias = client.get(&of_f(":prod/configuration")).await.ok(200);
    assert_eq!(by_alias["Version"], "1");
    assert!(by_alias["FunctionArn"].as_str().unwrap().ends_with(":f:prod"));

    let body = json!({ "FunctionVersion": "2", "RevisionId": alias["RevisionId"],
        "RoutingConfig": { "AdditionalVersionWeights": {} } });
    let updated = client.put(&of_f("/aliases/prod"), body).await.ok(200);
    assert_eq!(
        (&updated["FunctionVersion"], &updated["RoutingConfig"]),
        (&json!("2"), &Value::Null)
    );
    assert_eq!(client.get(&of_f("/aliases/prod")).await.ok(200), updated);
    let list = client.get(&of_f("/aliases?FunctionVersion=1")).await.ok(200);
    assert_eq!(list["Aliases"], json!([]));

    client.delete(&of_f("?Qualifier=2")).await.err(409, CONFLICT);
    client.delete(&of_f("/aliases/prod")).await.ok(204);
    client.delete(&of_f("/aliases/prod")).await.ok(204);
    client.get(&of_f("/aliases/prod")).await.err(404, MISSING);
    client.delete(&of_f("?Qualifier=2")).await.ok(204);
    let versions = client.get(&of_f("/versions")).await.ok(200);
    let numbers: Vec<_> =
        versions["Versions"].as_array().unwrap().iter().map(|v| &v["Version"]).collect();
    assert_eq!(numbers, ["$LATEST", "1"]);
    client.delete(&of_f("")).await.ok(204);
    client.get(&of_f("")).await.err(404, MISSING);
}

#[tokio::test]
async fn every_spelling_of_a_name_reaches_it() {
    let (_bench, client) = active().await;
    let arn = "arn:aws:lambda:eu-central-1:111111111111:function:f";
    for name in ["f", "111111111111:function:f", arn, &arn.replace(':', "%3A"), "f:%24LATEST"] {
        let found = client.get(&format!("{FUNCTIONS}/{name}/configuration")).await.ok(200);
        assert_eq!(found["FunctionName"], "f", "{name}");
    }
}

#[tokio::test]
async fn lists_come_in_pages_with_and_without_a_slash() {
    let (mut bench, client) = active().await;
    client.post(&format!("{FUNCTIONS}/"), creation("g")).await.ok(201);
    bench.build_all();
    client.post(&of_f("/versions"), json!({})).await.ok(201);

    let all = client.get(&format!("{FUNCTIONS}/")).await.ok(200);
    assert_eq!(all["Functions"].as_array().unwrap().len(), 2);
    assert_eq!(all["NextMarker"], Value::Null);
    let mut path = format!("{FUNCTIONS}?MaxItems=1&FunctionVersion=ALL");
    let mut found = Vec::new();
    loop {
        let page = client.get(&path).await.ok(200);
        found.push(page["Functions"][0]["FunctionArn"].as_str().unwrap().to_owned());
        let Some(marker) = page["NextMarker"].as_str() else { break };
        path = format!("{FUNCTIONS}?MaxItems=1&FunctionVersion=ALL&Marker={marker}");
    }
    let ends = ["f:$LATEST", "f:1", "g:$LATEST"];
    assert!(
        found.iter().zip(ends).all(|(arn, end)| arn.ends_with(end)) && found.len() == 3,
        "{found:?}"
    );
}

#[tokio::test]
async fn creation_may_publish() {
    let mut bench = Bench::new();
    let client = Client::new(&bench, one());
    let mut body = creation("f");
    body["Publish"] = json!(true);
    let made = client.post(FUNCTIONS, body).await.ok(201);
    assert_eq!(made["Version"], "1");
    assert_eq!(bench.build_all(), 2);
    let version = client.get(&of_f("/configuration?Qualifier=1")).await.ok(200);
    assert_eq!(version["State"], "Active");
}
