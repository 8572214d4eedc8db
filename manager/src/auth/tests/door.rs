//! The door of a server.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::response::Response;
use axum::{Extension, Router, middleware, routing};
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode};
use tower::ServiceExt;

use super::super::door::read;
use super::signer::Signer;
use super::{ID, SECRET, keyring};
use crate::auth::{Caller, MOST_BODY, authenticate};

/// What a server answers that echoes who calls and how much it sends.
async fn ask(request: Request<Body>) -> Response {
    let echo = |Extension(caller): Extension<Caller>, body: Bytes| async move {
        format!("{} {}", caller.tenant, body.len())
    };
    let layer = middleware::from_fn_with_state(keyring().1, authenticate);
    let limit = axum::extract::DefaultBodyLimit::disable();
    let server = Router::new().route("/f", routing::any(echo)).layer(limit).layer(layer);
    server.oneshot(request).await.unwrap()
}

async fn text(response: Response) -> String {
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

fn signed(body: &[u8]) -> Request<Vec<u8>> {
    Signer { id: ID, secret: SECRET, service: "lambda", at: Utc::now() }.sign(
        "POST",
        "/f",
        &[],
        body,
    )
}

/// What refuses a request whose body must not be asked for.
async fn refused(request: Request<Vec<u8>>) -> (StatusCode, String) {
    let never = stream::once(async { panic!("the body was read") });
    let never = Body::from_stream(never.map(|()| Ok::<_, Infallible>(Bytes::new())));
    let response = ask(request.map(|_| never)).await;
    let name = response.headers()["x-amzn-errortype"].to_str().unwrap().to_owned();
    let status = response.status();
    assert!(text(response).await.contains("\"message\""));
    (status, name)
}

#[tokio::test]
async fn a_caller_comes_in_with_the_body() {
    for size in [0, 5, 300 << 10] {
        let response = ask(signed(&vec![7; size]).map(Body::from)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(text(response).await, format!("acme {size}"));
    }
}

#[tokio::test]
async fn others_stay_out() {
    for size in [5, 300 << 10] {
        let mut request = signed(&vec![7; size]);
        request.body_mut()[1] = 8;
        let response = ask(request.map(Body::from)).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers()["x-amzn-errortype"], "InvalidSignatureException");
    }
}

#[tokio::test]
async fn without_a_key_no_body_is_read() {
    let mut request = signed(b"x");
    request.headers_mut().remove("authorization");
    let missing = (StatusCode::FORBIDDEN, "MissingAuthenticationTokenException".to_owned());
    assert_eq!(refused(request).await, missing);

    let stranger =
        Signer { id: "AKIAAAAAAAAAAAAAAAAA", secret: SECRET, service: "lambda", at: Utc::now() };
    let unknown = (StatusCode::FORBIDDEN, "UnrecognizedClientException".to_owned());
    assert_eq!(refused(stranger.sign("POST", "/f", &[], b"")).await, unknown);
    // An error that comes before that of the key.
    let stale = Signer { at: Utc::now() - TimeDelta::hours(1), ..stranger };
    let stale = refused(stale.sign("POST", "/f", &[], b"")).await;
    assert_eq!(stale.1, "InvalidSignatureException");
}

#[tokio::test]
async fn a_body_is_not_too_large() {
    // By what it says.
    let mut request = signed(b"").map(|_| Body::from(vec![0; MOST_BODY + 1]));
    request.headers_mut().insert("content-length", (MOST_BODY + 1).into());
    let response = ask(request).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(response.headers()["x-amzn-errortype"], "RequestTooLargeException");

    // By what comes.
    let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[0; 1000])));
    let error =
        read(Body::from_stream(endless), 10_500, Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.name, "RequestTooLargeException");
    let whole = read(Body::from(vec![0; 10_500]), 10_500, Duration::from_secs(60)).await.unwrap();
    assert_eq!(whole.len(), 10_500);
}

#[tokio::test]
async fn a_body_is_not_waited_for_for_ever() {
    let slow = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let error = read(slow, 10, Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(
        (error.status, error.name),
        (StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException")
    );

    let broken = stream::iter([Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("reset"))]);
    let error = read(Body::from_stream(broken), 10, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(
        (error.status, error.name),
        (StatusCode::BAD_REQUEST, "InvalidRequestContentException")
    );
}
