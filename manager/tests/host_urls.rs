//! Function URLs: how they are set up, and what requests to them become.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::{Client, Reply, TestHost, read_until};
use serde_json::{Value, json};

const URL: &str = "/2021-10-31/functions/f/url";
const URLS: &str = "/2021-10-31/functions/f/urls";
const DOMAIN: &str = "lambda-url.us-east-1.localhost";

/// A host with a function `f` of a tenant, and that tenant.
fn with_function() -> (TestHost, Client) {
    let host = TestHost::new();
    let client = host.client("acme");
    client.create("f");
    (host, client)
}

/// Gives `f` an address; its host name.
fn address(client: &Client, settings: &Value) -> String {
    let made = client.json("POST", URL, settings).expect(201).json();
    host_of(&made)
}

fn host_of(config: &Value) -> String {
    let url = config["FunctionUrl"].as_str().unwrap();
    url.strip_prefix("http://").unwrap().strip_suffix('/').unwrap().to_owned()
}

/// The event that the function saw, of a call that answers with it.
fn event(reply: Reply) -> Value {
    reply.expect(200).json()["event"].clone()
}

fn refused(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["Message"].as_str().unwrap().to_owned())
}

#[test]
fn an_address_lives_as_its_owner_says() {
    let (host, client) = with_function();
    assert_eq!(client.get(URL).expect(404).error(), "ResourceNotFoundException");
    let cors = json!({ "AllowOrigins": ["https://a.example"], "MaxAge": 60 });
    let settings = json!({ "AuthType": "NONE", "Cors": cors });
    let made = client.json("POST", URL, &settings).expect(201).json();
    assert_eq!(made["FunctionArn"], client.arn("f"));
    assert_eq!((&made["AuthType"], &made["InvokeMode"]), (&json!("NONE"), &json!("BUFFERED")));
    assert_eq!(made["Cors"], cors);
    assert!(made["CreationTime"].as_str().unwrap().contains('T'), "{made}");
    let name = host_of(&made);
    assert_eq!(name.split_once('.').unwrap().1, DOMAIN);
    assert_eq!(
        client.json("POST", URL, &settings).expect(409).error(),
        "ResourceConflictException"
    );
    assert_eq!(made.get("LastModifiedTime"), None);
    let mut got = client.get(URL).expect(200).json();
    assert!(got.as_object_mut().unwrap().remove("LastModifiedTime").is_some());
    assert_eq!(got, made);

    let changed = json!({ "InvokeMode": "RESPONSE_STREAM", "Cors": {} });
    let changed = client.json("PUT", URL, &changed).expect(200).json();
    assert_eq!(host_of(&changed), name, "it stays where it is");
    assert_eq!(
        (&changed["AuthType"], &changed["InvokeMode"]),
        (&json!("NONE"), &json!("RESPONSE_STREAM"))
    );
    assert_eq!(changed.get("Cors"), None);

    // It outlives the host.
    let host = host.restarted();
    let client = Client { addr: host.addr, ..client };
    assert_eq!(host_of(&client.get(URL).expect(200).json()), name);
    client.stranger().at(&name).get("/").expect(200);

    client.request("DELETE", URL, &[], b"").expect(204);
    assert_eq!(
        client.request("DELETE", URL, &[], b"").expect(404).error(),
        "ResourceNotFoundException"
    );
    assert_eq!(refused(&client.stranger().at(&name).get("/")), (403, "Forbidden".to_owned()));
    let again = address(&client, &json!({ "AuthType": "NONE" }));
    assert_ne!(again, name);
}

#[test]
fn what_an_address_may_be_is_checked() {
    let (_host, client) = with_function();
    for bad in [
        json!({}),
        json!({ "AuthType": "none" }),
        json!({ "AuthType": "NONE", "InvokeMode": "FAST" }),
        json!({ "AuthType": "NONE", "Cors": { "MaxAge": 86_401 } }),
        json!({ "AuthType": "NONE", "Cors": { "AllowMethods": ["OPTIONS"] } }),
        json!({ "AuthType": "NONE", "Cors": { "AllowOrigins": ["a\r\nb: c"] } }),
    ] {
        let error = client.json("POST", URL, &bad).expect(400);
        assert_eq!(error.error(), "InvalidParameterValueException", "{bad}");
    }
    let settings = json!({ "AuthType": "NONE" });
    for qualifier in ["1", "$LATEST"] {
        let path = format!("{URL}?Qualifier={qualifier}");
        let error = client.json("POST", &path, &settings).expect(400);
        assert_eq!(error.error(), "InvalidParameterValueException", "{qualifier}");
    }
    client.json("POST", &format!("{URL}?Qualifier=live"), &settings).expect(404);
    client.json("POST", "/2021-10-31/functions/g/url", &settings).expect(404);
    assert_eq!(client.get(URLS).expect(200).json(), json!({ "FunctionUrlConfigs": [] }));
}

#[test]
fn an_alias_has_an_address_of_its_own() {
    let (_host, client) = with_function();
    client.json("POST", "/2015-03-31/functions/f/versions", &json!({})).expect(201);
    client.poll("/2015-03-31/functions/f/configuration?Qualifier=1", "it is built", |seen| {
        seen["State"] == "Active"
    });
    let alias = json!({ "Name": "live", "FunctionVersion": "1" });
    client.json("POST", "/2015-03-31/functions/f/aliases", &alias).expect(201);
    client.update_code("f", "two").expect(200);
    client.wait_until_active("f");
    let latest = address(&client, &json!({ "AuthType": "NONE" }));
    let path = format!("{URL}?Qualifier=live");
    let live = client.json("POST", &path, &json!({ "AuthType": "NONE" })).expect(201).json();
    assert_eq!(live["FunctionArn"], client.arn("f:live"));
    let live = host_of(&live);
    let stranger = client.stranger();
    assert_eq!(stranger.at(&latest).get("/").expect(200).json()["code"], "two");
    assert_eq!(stranger.at(&live).get("/").expect(200).json()["code"], "one");

    let page = client.get(&format!("{URLS}?MaxItems=1")).expect(200).json();
    let first = page["FunctionUrlConfigs"].as_array().unwrap();
    let next = page["NextMarker"].as_str().unwrap();
    let page = client.get(&format!("{URLS}?MaxItems=1&Marker={next}")).expect(200).json();
    let second = page["FunctionUrlConfigs"].as_array().unwrap();
    let mut both = [host_of(&first[0]), host_of(&second[0])];
    both.sort();
    let mut all = [latest.clone(), live.clone()];
    all.sort();
    assert_eq!((both, page.get("NextMarker")), (all, None));

    client.request("DELETE", "/2015-03-31/functions/f/aliases/live", &[], b"").expect(204);
    stranger.at(&live).get("/").expect(403);
    client.request("DELETE", "/2015-03-31/functions/f", &[], b"").expect(204);
    stranger.at(&latest).get("/").expect(403);
    client.create("f");
    client.get(URL).expect(404);
    stranger.at(&latest).get("/").expect(403);
}

#[test]
fn a_request_is_an_event_of_version_two() {
    let (_host, client) = with_function();
    let name = address(&client, &json!({ "AuthType": "NONE" }));
    let headers = [
        ("content-type", "application/json"),
        ("x-twice", "a"),
        ("X-Twice", "b"),
        ("cookie", "c=1; d=2"),
        ("user-agent", "test"),
    ];
    let path = "/a%20path/x?b=2&a=1&a=%32+3";
    let reply =
        client.stranger().at(&format!("{name}:9470")).request("PUT", path, &headers, b"{\"k\":1}");
    let call = reply.header("x-amzn-requestid").to_owned();
    assert_eq!(reply.header("content-type"), "application/json");
    let event = event(reply);
    let id = name.split_once('.').unwrap().0;
    assert_eq!((&event["version"], &event["routeKey"]), (&json!("2.0"), &json!("$default")));
    assert_eq!(event["rawPath"], "/a%20path/x");
    assert_eq!(event["rawQueryString"], "b=2&a=1&a=%32+3");
    assert_eq!(event["queryStringParameters"], json!({ "a": "1,2 3", "b": "2" }));
    assert_eq!(event["cookies"], json!(["c=1", "d=2"]));
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("{\"k\":1}"), &json!(false)));
    let seen = &event["headers"];
    assert_eq!((&seen["x-twice"], &seen["host"]), (&json!("a,b"), &json!(format!("{name}:9470"))));
    assert_eq!((seen.get("cookie"), &seen["x-forwarded-for"]), (None, &json!("127.0.0.1")));
    let context = &event["requestContext"];
    assert_eq!(
        context["http"],
        json!({
            "method": "PUT",
            "path": "/a%20path/x",
            "protocol": "HTTP/1.1",
            "sourceIp": "127.0.0.1",
            "userAgent": "test",
        })
    );
    assert_eq!((&context["apiId"], &context["domainPrefix"]), (&json!(id), &json!(id)));
    assert_eq!((&context["domainName"], &context["requestId"]), (&json!(name), &json!(call)));
    assert_eq!((&context["accountId"], context.get("authorizer")), (&json!("anonymous"), None));
    assert!(context["timeEpoch"].as_u64().unwrap() > 0);
    assert!(context["time"].as_str().unwrap().ends_with(" +0000"), "{context}");
}

#[test]
fn bodies_that_are_no_text_come_in_base64() {
    let (_host, client) = with_function();
    let name = address(&client, &json!({ "AuthType": "NONE" }));
    let at = client.stranger().at(&name);
    for (content_type, body) in [
        ("application/octet-stream", &b"text"[..]),
        ("application/x-www-form-urlencoded", b"a=b"),
        ("text/plain", b"\xff"),
    ] {
        let event = event(at.request("POST", "/", &[("content-type", content_type)], body));
        assert_eq!(event["body"], BASE64.encode(body), "{content_type}");
        assert_eq!(event["isBase64Encoded"], true);
    }
    let empty = event(at.get("/"));
    assert_eq!((empty.get("body"), &empty["isBase64Encoded"]), (None, &json!(false)));
    assert_eq!((empty.get("cookies"), empty.get("queryStringParameters")), (None, None));
    let large = vec![b'x'; 6 << 20];
    assert_eq!(at.request("POST", "/", &[("content-type", "text/plain")], &large).status, 413);
}

/// A call of `f` that says what its function does.
fn told(client: &Client, name: &str, orders: &Value) -> Reply {
    let json = [("content-type", "application/json")];
    client.stranger().at(name).request("POST", "/", &json, orders.to_string().as_bytes())
}

#[test]
fn a_result_is_a_response() {
    let (_host, client) = with_function();
    let name = address(&client, &json!({ "AuthType": "NONE" }));
    let response = json!({
        "statusCode": 404,
        "headers": { "Content-Type": "text/html", "X-Own": "yes" },
        "cookies": ["a=1", "b=2; HttpOnly"],
        "body": BASE64.encode("<html>"),
        "isBase64Encoded": true,
    });
    let reply = told(&client, &name, &json!({ "return": response }));
    assert_eq!((reply.status, &reply.body[..]), (404, &b"<html>"[..]), "and it is not changed");
    assert_eq!((reply.header("content-type"), reply.header("x-own")), ("text/html", "yes"));
    assert_eq!(reply.headers("set-cookie"), ["a=1", "b=2; HttpOnly"]);
    for plain in [json!("Hello"), json!({ "a": 1 }), json!(null)] {
        let reply = told(&client, &name, &json!({ "return": plain })).expect(200);
        assert_eq!((reply.header("content-type"), reply.json()), ("application/json", plain));
    }
}

#[test]
fn what_goes_wrong_has_a_status() {
    let (host, client) = with_function();
    let name = address(&client, &json!({ "AuthType": "NONE" }));
    for orders in [
        json!({ "fail": "secret" }),
        json!({ "die": true }),
        json!({ "return": { "statusCode": "x" } }),
    ] {
        let reply = told(&client, &name, &orders);
        assert_eq!(refused(&reply), (502, "Internal Server Error".to_owned()), "{orders}");
    }
    let unknown = format!("{}.{DOMAIN}", "a".repeat(32));
    for strange in [unknown.as_str(), &format!("x.{DOMAIN}"), &format!("a.b.{DOMAIN}")] {
        assert_eq!(refused(&client.at(strange).get("/")), (403, "Forbidden".to_owned()));
    }
    let concurrency = json!({ "ReservedConcurrentExecutions": 0 });
    client.json("PUT", "/2017-10-31/functions/f/concurrency", &concurrency).expect(200);
    let before = host.engine.with(|world| world.calls.len());
    assert_eq!(told(&client, &name, &json!({})).status, 429);
    assert_eq!(host.engine.with(|world| world.calls.len()), before);
}

#[test]
fn an_address_with_a_key_is_for_its_tenant() {
    let (host, client) = with_function();
    let other = host.client("other");
    let name = address(&client, &json!({ "AuthType": "AWS_IAM" }));
    for stranger in [client.stranger(), other.clone(), host.client_of("admin", true)] {
        let reply = stranger.at(&name).get("/");
        assert_eq!(refused(&reply), (403, "Forbidden".to_owned()));
        assert_eq!(reply.header("x-amzn-errortype"), "AccessDeniedException");
    }
    assert_eq!(host.engine.with(|world| world.calls.len()), 0);
    let event = event(client.at(&name).get("/"));
    assert_eq!(event["requestContext"]["accountId"], client.account);
    assert_eq!(event["requestContext"]["authorizer"]["iam"]["accountId"], client.account);
    assert_eq!(event["headers"].get("authorization"), None, "it would be the secret");

    // And its set-up is its owner's alone.
    other.get(URL).expect(404);
    other.json("PUT", URL, &json!({ "AuthType": "NONE" })).expect(404);
    other.request("DELETE", URL, &[], b"").expect(404);
    client.stranger().get(URL).expect(403);
}

#[test]
fn pages_of_other_origins_may_what_the_owner_says() {
    let (host, client) = with_function();
    let cors = json!({
        "AllowOrigins": ["https://a.example"],
        "AllowMethods": ["GET", "POST"],
        "AllowHeaders": ["x-one", "x-two"],
        "ExposeHeaders": ["x-own"],
        "AllowCredentials": true,
        "MaxAge": 60,
    });
    let name = address(&client, &json!({ "AuthType": "AWS_IAM", "Cors": cors }));
    let ask = [("origin", "https://a.example"), ("access-control-request-method", "POST")];
    let asked = client.stranger().at(&name).request("OPTIONS", "/any", &ask, b"").expect(200);
    assert_eq!(asked.header("access-control-allow-origin"), "https://a.example");
    assert_eq!(asked.header("access-control-allow-methods"), "GET,POST");
    assert_eq!(asked.header("access-control-allow-headers"), "x-one,x-two");
    assert_eq!(asked.header("access-control-allow-credentials"), "true");
    assert_eq!((asked.header("access-control-max-age"), asked.header("vary")), ("60", "Origin"));
    assert_eq!(host.engine.with(|world| world.calls.len()), 0, "the function is not asked");
    let evil = [("origin", "https://b.example"), ("access-control-request-method", "POST")];
    let asked = client.at(&name).request("OPTIONS", "/", &evil, b"").expect(200);
    assert_eq!(asked.header("access-control-allow-origin"), "");

    client.json("PUT", URL, &json!({ "AuthType": "NONE" })).expect(200);
    let own = json!({ "return": {
        "statusCode": 200,
        "headers": { "Access-Control-Allow-Origin": "*", "Access-Control-Max-Age": "9", "X-Own": "1" },
    }});
    let from = [("origin", "https://a.example"), ("content-type", "application/json")];
    let reply = client.stranger().at(&name).request("POST", "/", &from, own.to_string().as_bytes());
    assert_eq!(reply.headers("access-control-allow-origin"), ["https://a.example"]);
    assert_eq!(reply.header("access-control-expose-headers"), "x-own");
    assert_eq!((reply.header("access-control-max-age"), reply.header("x-own")), ("", "1"));

    // Without any of this, it is between the page and the function.
    client.json("PUT", URL, &json!({ "Cors": {} })).expect(200);
    let asked = event(client.stranger().at(&name).request("OPTIONS", "/", &ask, b""));
    assert_eq!(asked["requestContext"]["http"]["method"], "OPTIONS");
    let reply = client.stranger().at(&name).request("POST", "/", &from, own.to_string().as_bytes());
    assert_eq!(reply.headers("access-control-allow-origin"), ["*"]);
}

#[test]
fn a_streamed_response_comes_as_it_is_said() {
    let (host, client) = with_function();
    let name = address(&client, &json!({ "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM" }));
    let orders =
        json!({ "say": ["the first", { "wait": "gate" }, "the second"], "as": "text/html" });
    let json = [("content-type", "application/json")];
    let at = client.stranger().at(&name);
    let mut connection = at.send("POST", "/", &json, orders.to_string().as_bytes());
    let mut seen = read_until(&mut connection, "the first");
    host.engine.wait_for_call_at("gate");
    host.engine.open("gate");
    connection.read_to_end(&mut seen).unwrap();
    let reply = Reply::parse(&seen);
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/html"));
    assert_eq!(reply.unchunked(), (b"the firstthe second".to_vec(), true));

    // A head comes first, in however many pieces.
    let kind = "application/vnd.awslambda.http-integration-response";
    let said = json!([
        "{\"statusCode\":201,\"head",
        "ers\":{\"X-Own\":\"1\"},\"cookies\":[\"a=1\"]}\0\0\0",
        "\0\0\0\0\0bo",
        "dy"
    ]);
    let reply = told(&client, &name, &json!({ "say": said, "as": kind }));
    assert_eq!(
        (reply.status, reply.header("x-own"), reply.header("set-cookie")),
        (201, "1", "a=1")
    );
    assert_eq!(reply.unchunked(), (b"body".to_vec(), true));

    // Heads that are none, or never end.
    for said in [json!(["{}"]), json!(["[]\0\0\0\0\0\0\0\0"]), json!(["x".repeat(70_000)])] {
        let reply = told(&client, &name, &json!({ "say": said, "as": kind }));
        assert_eq!(refused(&reply).0, 502);
    }

    // A function that does not stream is answered for as ever.
    let whole = json!({ "return": { "statusCode": 202, "body": "x" } });
    let reply = told(&client, &name, &whole);
    assert_eq!((reply.status, &reply.body[..]), (202, &b"x"[..]));
    assert_eq!(told(&client, &name, &json!({ "fail": "x" })).status, 502);
}

#[test]
fn a_response_that_breaks_off_is_not_taken_for_whole() {
    let (host, client) = with_function();
    let name = address(&client, &json!({ "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM" }));
    let orders = json!({ "say": ["half", { "wait": "gate" }], "fail": "x" }).to_string();
    let json = [("content-type", "application/json")];
    let mut connection = client.stranger().at(&name).send("POST", "/", &json, orders.as_bytes());
    let mut seen = read_until(&mut connection, "half");
    host.engine.wait_for_call_at("gate");
    host.engine.open("gate");
    connection.read_to_end(&mut seen).unwrap();
    let reply = Reply::parse(&seen);
    assert_eq!((reply.status, reply.unchunked()), (200, (b"half".to_vec(), false)));
}

/// A server does not read the body of such a response, and so would give up the call.
#[test]
fn a_response_that_has_no_body_lets_its_function_finish() {
    let (host, client) = with_function();
    let name = address(&client, &json!({ "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM" }));
    let kind = "application/vnd.awslambda.http-integration-response";
    let head = "{\"statusCode\":204}\0\0\0\0\0\0\0\0";
    let json = [("content-type", "application/json")];
    for (method, first, kind, status) in
        [("POST", head, kind, "204"), ("HEAD", "a", "text/a", "200")]
    {
        let orders = json!({ "say": [first, { "wait": method }, "more"], "as": kind }).to_string();
        let stranger = client.stranger().at(&name);
        let mut connection = stranger.send(method, "/", &json, orders.as_bytes());
        host.engine.wait_for_call_at(method);
        host.engine.open(method);
        let seen = read_until(&mut connection, "\r\n\r\n");
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(seen.starts_with(&format!("HTTP/1.1 {status}")), "{seen}");
    }
    assert_eq!(host.engine.with(|world| (world.done.len(), world.kills.len())), (2, 0));
}

#[test]
fn a_client_that_leaves_an_address_takes_its_machine_with_it() {
    let (host, client) = with_function();
    let name = address(&client, &json!({ "AuthType": "NONE" }));
    let orders = json!({ "wait": "never" }).to_string();
    let json = [("content-type", "application/json")];
    let connection = client.stranger().at(&name).send("POST", "/", &json, orders.as_bytes());
    let machine = host.engine.wait_for_call_at("never");
    drop(connection);
    host.engine.wait("it is killed", |world| world.kills == [machine.clone()]);
}

#[test]
fn addresses_may_be_of_a_domain_of_ones_own() {
    let host = TestHost::with(|settings| settings.url_domain = Some("Fn.Example".into()));
    let client = host.client("acme");
    client.create("f");
    let made = client.at("api.example:8443").json("POST", URL, &json!({ "AuthType": "NONE" }));
    let name = host_of(&made.expect(201).json());
    assert!(name.ends_with(".fn.example:8443"), "{name}");
    client.stranger().at(&name.to_uppercase()).get("/").expect(200);
    let behind = [("x-forwarded-proto", "https")];
    let seen = client.at("api.example").request("GET", URL, &behind, b"").expect(200).json();
    assert!(seen["FunctionUrl"].as_str().unwrap().starts_with("https://"), "{seen}");
}
