//! Layers over HTTP: published, listed, given to functions, deleted.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use common::{Client, Reply, TestHost, zip_file, zip_of};
use serde_json::{Value, json};

const LAYERS: &str = "/2018-10-31/layers";
const INVALID: &str = "InvalidParameterValueException";
const MISSING: &str = "ResourceNotFoundException";

/// Publishes a layer whose content is `code`, with further fields.
fn publish(client: &Client, name: &str, code: &str, more: &Value) -> Reply {
    let mut body = json!({ "Content": zip_file(code) });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    client.json("POST", &format!("{LAYERS}/{name}/versions"), &body)
}

/// ARN of a layer version that is published.
fn published(client: &Client, name: &str, code: &str) -> String {
    let layer = publish(client, name, code, &json!({})).expect(201).json();
    layer["LayerVersionArn"].as_str().unwrap().to_owned()
}

/// `UpdateFunctionConfiguration` with these layers.
fn configure(client: &Client, name: &str, layers: &[&str]) -> Reply {
    let path = format!("/2015-03-31/functions/{name}/configuration");
    client.json("PUT", &path, &json!({ "Layers": layers }))
}

/// A query's value.
fn encoded(arn: &str) -> String {
    arn.replace(':', "%3A")
}

#[test]
fn a_layer_is_published_as_lambda_publishes_it() {
    let host = TestHost::new();
    let client = host.client("acme");
    let more = json!({
        "Description": "what we share",
        "LicenseInfo": "MIT",
        "CompatibleRuntimes": ["python3.11", "nodejs20.x"],
        "CompatibleArchitectures": ["x86_64"],
    });
    let layer = publish(&client, "shared", "one", &more).expect(201).json();
    let arn = format!("arn:aws:lambda:us-east-1:{}:layer:shared", client.account);
    assert_eq!(layer["LayerArn"], arn);
    assert_eq!(layer["LayerVersionArn"], format!("{arn}:1"));
    assert_eq!(layer["Version"], 1);
    for (field, value) in more.as_object().unwrap() {
        assert_eq!(layer[field], *value, "{field}");
    }
    let created = layer["CreatedDate"].as_str().unwrap();
    assert!(created.len() == 28 && created.ends_with("+0000"), "{created}");
    let zip = zip_of("one");
    assert_eq!(layer["Content"]["CodeSize"], zip.len());

    let by_name = client.get(&format!("{LAYERS}/shared/versions/1")).expect(200).json();
    assert_eq!(by_name, layer);
    let by_layer_arn = client.get(&format!("{LAYERS}/{}/versions/1", encoded(&arn)));
    assert_eq!(by_layer_arn.expect(200).json(), layer);
    let find = format!("{LAYERS}?find=LayerVersion&Arn={}", encoded(&format!("{arn}:1")));
    assert_eq!(client.get(&find).expect(200).json(), layer);
    let location = layer["Content"]["Location"].as_str().unwrap();
    let path = location.strip_prefix("http://calve").unwrap();
    assert_eq!(client.get(path).expect(200).body, zip);
    assert_eq!(client.stranger().get(path).status, 403);

    for (path, status, error) in [
        (format!("{LAYERS}/shared/versions/2"), 404, MISSING),
        (format!("{LAYERS}/other/versions/1"), 404, MISSING),
        (format!("{LAYERS}/shared/versions/x"), 400, INVALID),
        (format!("{LAYERS}?find=LayerVersion"), 400, INVALID),
        (format!("{LAYERS}?find=LayerVersion&Arn=shared"), 400, INVALID),
        (format!("{LAYERS}?find=LayerVersion&Arn={}", encoded(&format!("{arn}:2"))), 404, MISSING),
    ] {
        let reply = client.get(&path);
        assert_eq!((reply.status, reply.error()), (status, error), "{path}");
    }
    let no_zip = client.json(
        "POST",
        &format!("{LAYERS}/shared/versions"),
        &json!({ "Content": { "ZipFile": "bm8gemlw" } }),
    );
    assert_eq!((no_zip.status, no_zip.error()), (400, INVALID));
}

#[test]
fn lists_have_the_latest_of_each_and_the_versions_of_one() {
    let host = TestHost::new();
    let client = host.client("acme");
    let python = json!({ "CompatibleRuntimes": ["python3.11"] });
    publish(&client, "a", "1", &python).expect(201);
    publish(&client, "a", "2", &json!({})).expect(201);
    publish(&client, "b", "3", &json!({ "CompatibleArchitectures": ["arm64"] })).expect(201);
    publish(&host.client("other"), "c", "4", &json!({})).expect(201);
    let layers = |query: &str| {
        let list = client.get(&format!("{LAYERS}{query}")).expect(200).json();
        let of = |layer: &Value| {
            let name = layer["LayerName"].as_str().unwrap().to_owned();
            (name, layer["LatestMatchingVersion"]["Version"].as_u64().unwrap())
        };
        let layers: Vec<_> = list["Layers"].as_array().unwrap().iter().map(of).collect();
        (layers, list["NextMarker"].as_str().map(str::to_owned))
    };
    let (a1, a2, b1) = (("a".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 1));
    assert_eq!(layers(""), (vec![a2.clone(), b1.clone()], None));
    assert_eq!(layers("?CompatibleRuntime=python3.11"), (vec![a1], None));
    assert_eq!(layers("?CompatibleArchitecture=arm64"), (vec![b1.clone()], None));
    let (first, next) = layers("?MaxItems=1");
    assert_eq!(first, [a2]);
    assert_eq!(layers(&format!("?MaxItems=1&Marker={}", next.unwrap())), (vec![b1], None));

    let versions = |query: &str| {
        let list = client.get(&format!("{LAYERS}/a/versions{query}")).expect(200).json();
        let number = |layer: &Value| layer["Version"].as_u64().unwrap();
        let numbers = list["LayerVersions"].as_array().unwrap().iter().map(number);
        (numbers.collect::<Vec<_>>(), list["NextMarker"].as_str().map(str::to_owned))
    };
    assert_eq!(versions(""), (vec![2, 1], None));
    let (first, next) = versions("?MaxItems=1");
    assert_eq!(first, [2]);
    assert_eq!(versions(&format!("?MaxItems=1&Marker={}", next.unwrap())), (vec![1], None));
    let none = client.get(&format!("{LAYERS}/nobody/versions")).expect(200).json();
    assert_eq!(none["LayerVersions"], json!([]));
}

#[test]
fn a_function_is_built_with_its_layers_in_order() {
    let host = TestHost::new();
    let client = host.client("acme");
    let (a, b) = (published(&client, "a", "layer a"), published(&client, "b", "layer b"));
    let created = client.create_with("f", "code", &json!({ "Layers": [a, b] })).expect(201).json();
    let size = zip_of("layer a").len();
    let shown = json!([{ "Arn": a, "CodeSize": size }, { "Arn": b, "CodeSize": size }]);
    assert_eq!(created["Layers"], shown);
    client.wait_until_active("f");
    let built = |layers: &[&str]| {
        host.engine.with(|world| assert_eq!(world.layers["f"], layers));
    };
    built(&["layer a", "layer b"]);

    let updated = configure(&client, "f", &[&b, &a]).expect(200).json();
    assert_eq!(updated["LastUpdateStatus"], "InProgress");
    client.wait_until_active("f");
    built(&["layer b", "layer a"]);
    let settled = client.get("/2015-03-31/functions/f/configuration").expect(200).json();
    assert_eq!(settled["Layers"][0]["Arn"], b);

    client.json("POST", "/2015-03-31/functions/f/versions", &json!({})).expect(201);
    configure(&client, "f", &[]).expect(200);
    client.wait_until_active("f");
    let latest = client.get("/2015-03-31/functions/f/configuration").expect(200).json();
    assert_eq!(latest.get("Layers"), None);
    let one = client.get("/2015-03-31/functions/f/configuration?Qualifier=1").expect(200).json();
    assert_eq!(one["Layers"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_no_layer_of_the_tenant_is_refused() {
    let host = TestHost::new();
    let (client, other) = (host.client("acme"), host.client("other"));
    let (mine, theirs) = (published(&client, "a", "1"), published(&other, "a", "1"));
    client.create("f");
    let second = published(&client, "a", "2");
    let gone = format!("{}3", mine.strip_suffix('1').unwrap());
    let many: Vec<String> = (0..6).map(|n| published(&client, &format!("l{n}"), "x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for layers in [&[&*theirs][..], &[&gone], &["a"], &["arn:x"], &[&mine, &second], &many] {
        let reply = configure(&client, "f", layers);
        assert_eq!((reply.status, reply.error()), (400, INVALID), "{layers:?}");
        let reply = client.create_with("g", "code", &json!({ "Layers": layers }));
        assert_eq!((reply.status, reply.error()), (400, INVALID), "{layers:?}");
    }
    configure(&client, "f", &many[..5]).expect(200);
    client.wait_until_active("f");
}

#[test]
fn a_deleted_layer_stays_with_its_functions_and_its_number_is_not_given_again() {
    let host = TestHost::new();
    let client = host.client("acme");
    let arn = published(&client, "a", "layer a");
    client.create_with("f", "code", &json!({ "Layers": [arn] })).expect(201);
    client.wait_until_active("f");
    let path = format!("{LAYERS}/a/versions/1");
    for _ in 0..2 {
        let reply = client.request("DELETE", &path, &[], b"").expect(204);
        assert!(reply.body.is_empty());
    }
    assert_eq!(client.get(&path).expect(404).error(), MISSING);
    let host = host.restarted();
    let client = host.client("acme");
    // Built anew, with the layer.
    client.update_code("f", "new code").expect(200);
    client.wait_until_active("f");
    host.engine.with(|world| assert_eq!(world.layers["f"], ["layer a"]));
    assert!(published(&client, "a", "another").ends_with(":layer:a:2"));
    let refused = client.create_with("g", "code", &json!({ "Layers": [arn] }));
    assert_eq!((refused.status, refused.error()), (400, INVALID));
}

#[test]
fn a_tenant_that_has_all_it_may_have_publishes_nothing() {
    let host = TestHost::new();
    let client = host.client("acme");
    host.limit("acme", |quota| quota.storage = zip_of("1").len() as u64);
    let first = published(&client, "a", "1");
    let reply = publish(&client, "a", "2", &json!({}));
    assert_eq!((reply.status, reply.error()), (400, "CodeStorageExceededException"));
    let account = client.get("/2016-08-19/account-settings").expect(200).json();
    assert_eq!(account["AccountUsage"]["TotalCodeSize"], zip_of("1").len());
    assert!(first.ends_with(":a:1"));
    client.request("DELETE", &format!("{LAYERS}/a/versions/1"), &[], b"").expect(204);
    assert!(published(&client, "a", "2").ends_with(":a:2"));
}
