//! Tests of the whole control plane over HTTP, without a network.

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::auth::Caller;
use crate::control::testing::{Bench, one, two, zip_of};

mod errors;
mod life;
mod settings;

/// A client of one tenant.
struct Client(Router);

/// An answer: status, error name, document.
struct Answer {
    status: StatusCode,
    error: String,
    body: Value,
}

impl Client {
    fn new(bench: &Bench, caller: Caller) -> Self {
        let control = std::sync::Arc::clone(&bench.control);
        Self(super::routes().layer(Extension(caller)).with_state(control))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> (http::response::Parts, Vec<u8>) {
        let request = Request::builder().method(method).uri(path).header("host", "calve.test:9000");
        let answer = self.0.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        (parts, body.collect().await.unwrap().to_bytes().to_vec())
    }

    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        let (parts, body) = self.send(method, path, body).await;
        let error = parts.headers.get("x-amzn-errortype");
        Answer {
            status: parts.status,
            error: error.map(|name| name.to_str().unwrap().to_owned()).unwrap_or_default(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, Vec::new()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, Vec::new()).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PUT, path, body.to_string().into_bytes()).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, body.to_string().into_bytes()).await
    }
}

impl Answer {
    /// The document, if the status is this.
    #[track_caller]
    fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{} {}", self.error, self.body);
        self.body
    }

    /// The message, if the error is this.
    #[track_caller]
    fn err(self, status: u16, name: &str) -> String {
        assert_eq!((self.status.as_u16(), &*self.error), (status, name), "{}", self.body);
        assert_eq!(self.body["Message"], self.body["message"]);
        self.body["message"].as_str().unwrap().to_owned()
    }
}

const FUNCTIONS: &str = "/2015-03-31/functions";
const INVALID: &str = "InvalidParameterValueException";
const MISSING: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ResourceConflictException";

/// A path below that of a function `f`.
fn of_f(rest: &str) -> String {
    format!("{FUNCTIONS}/f{rest}")
}

fn zip_file(content: &str) -> String {
    STANDARD.encode(zip_of(content))
}

/// The body of `CreateFunction`.
fn creation(name: &str) -> Value {
    json!({
        "FunctionName": name,
        "Runtime": "python3.11",
        "Handler": "main.handler",
        "Role": "arn:aws:iam::111111111111:role/any",
        "Code": { "ZipFile": zip_file("1") },
        "SomethingNew": { "Of": "AWS" },
    })
}

/// A client of tenant `one` and a function `f` of its that can be called.
async fn active() -> (Bench, Client) {
    let mut bench = Bench::new();
    let client = Client::new(&bench, one());
    client.post(FUNCTIONS, creation("f")).await.ok(201);
    bench.build_all();
    (bench, client)
}
