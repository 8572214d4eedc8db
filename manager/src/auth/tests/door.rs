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

use super::super::bodies::{Bodies, Pace, read};
use super::signer::Signer;
use super::{ID, SECRET, keyring};
use crate::api::ApiError;
use crate::auth::{Caller, Door, MOST_BODY, authenticate};

/// What a server answers that echoes who calls and how much it sends.
async fn ask(request: Request<Body>) -> Response {
    let echo = |Extension(caller): Extension<Caller>, body: Bytes| async move {
        format!("{} {}", caller.tenant, body.len())
    };
    let layer = middleware::from_fn_with_state(Door::new(keyring().1, 256), authenticate);
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
    let error = receive(Body::from_stream(endless), &Bodies::of_units(1024)).await.unwrap_err();
    assert_eq!(error.name, "RequestTooLargeException");
    let whole = receive(Body::from(vec![0; MOST]), &Bodies::of_units(1024)).await.unwrap();
    assert_eq!(whole.len(), MOST);
}

/// The largest body in these tests, bytes.
const MOST: usize = 100_500;

/// Reads a body that claims the usual key.
async fn receive(body: Body, bodies: &Bodies) -> Result<Bytes, ApiError> {
    let pace = Pace { most: MOST, whole: Duration::from_secs(60), pause: Duration::from_secs(10) };
    read(body, pace, &mut bodies.room(ID)).await
}

#[tokio::test(start_paused = true)]
async fn a_body_is_not_waited_for_for_ever() {
    let bodies = Bodies::of_units(1024);
    let slow = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let error = receive(slow, &bodies).await.unwrap_err();
    assert_eq!(
        (error.status, error.name),
        (StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException")
    );
    // A byte now and then is not enough either.
    let drops = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"a")), ()))
    });
    let error = receive(Body::from_stream(drops), &bodies).await.unwrap_err();
    assert_eq!(error.name, "RequestTimeoutException");

    let broken = stream::iter([Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("reset"))]);
    let error = receive(Body::from_stream(broken), &bodies).await.unwrap_err();
    assert_eq!(
        (error.status, error.name),
        (StatusCode::BAD_REQUEST, "InvalidRequestContentException")
    );
}

#[tokio::test]
async fn a_body_is_what_was_sent_in_however_many_pieces() {
    for pieces in [0, 1, 2, 100] {
        let pieces: Vec<_> = (0..pieces).map(|n| Bytes::from(vec![n; 1000])).collect();
        let whole = pieces.concat();
        let sent = stream::iter(pieces).map(Ok::<_, Infallible>);
        assert_eq!(receive(Body::from_stream(sent), &Bodies::of_units(1024)).await.unwrap(), whole);
    }
}

/// A body of so many bytes, of which none comes; no time passes meanwhile.
fn promised(bytes: usize) -> Body {
    struct Promised(u64);
    impl hyper::body::Body for Promised {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
            std::task::Poll::Pending
        }
        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(self.0)
        }
    }
    Body::new(Promised(bytes as u64))
}

#[tokio::test(start_paused = true)]
async fn bodies_take_no_more_memory_together_than_they_may() {
    // Of 200 KiB, a key has 100.
    let bodies = Bodies::of_units(200);
    let pace = Pace { most: MOST, whole: Duration::from_secs(60), pause: Duration::from_secs(10) };
    let body = |bytes: usize| Body::from(vec![7; bytes]);
    let mut rooms = [bodies.room("a"), bodies.room("b"), bodies.room("c")];
    let [a, b, c] = &mut rooms;
    read(body(60_000), pace, a).await.unwrap();
    // Another of the same key has what the key has left, and no more.
    let mut again = bodies.room("a");
    let refused = read(body(60_000), pace, &mut again).await.unwrap_err();
    assert_eq!(
        (refused.status, refused.name),
        (StatusCode::SERVICE_UNAVAILABLE, "ServiceException")
    );
    assert!(refused.retry_after.is_some());
    read(body(30_000), pace, &mut again).await.unwrap();
    read(body(100_000), pace, b).await.unwrap();
    // All of it is taken: what comes in pieces is told in the middle, what is small needs none.
    let piece = Ok::<_, Infallible>(Bytes::from_static(&[0; 10_000]));
    let pieces = stream::iter(std::iter::repeat_n(piece, 5));
    let refused = read(Body::from_stream(pieces), pace, c).await.unwrap_err();
    assert_eq!(refused.name, "ServiceException");
    read(body(16 << 10), pace, c).await.unwrap();
    drop(rooms);
    drop(again);
    receive(body(MOST), &bodies).await.unwrap();

    // One that waits is let in as soon as there is room.
    let mut first = bodies.room("a");
    read(body(90_000), pace, &mut first).await.unwrap();
    let mut second = bodies.room("a");
    let waits = read(body(90_000), pace, &mut second);
    let leaves = async {
        tokio::task::yield_now().await;
        drop(first);
    };
    tokio::join!(waits, leaves).0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn room_is_given_back_by_a_body_that_never_comes() {
    let bodies = Bodies::of_units(200);
    let error = receive(promised(100_000), &bodies).await.unwrap_err();
    assert_eq!(error.name, "RequestTimeoutException");
    receive(Body::from(vec![0; 100_000]), &bodies).await.unwrap();
    // Nor is a longer one taken than there could ever be room for.
    let error = receive(promised(100_000), &Bodies::of_units(100)).await.unwrap_err();
    assert_eq!(error.name, "RequestTooLargeException");
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_before_its_body_is_read() {
    let ours = || Signer { id: ID, secret: SECRET, service: "lambda", at: Utc::now() };
    let hour = TimeDelta::hours(1);
    for signer in [
        Signer { at: Utc::now() - hour, ..ours() },
        Signer { at: Utc::now() + hour, ..ours() },
        Signer { service: "s3", ..ours() },
    ] {
        let seen = refused(signer.sign("POST", "/f", &[], b"x")).await;
        assert_eq!(seen, (StatusCode::FORBIDDEN, "InvalidSignatureException".to_owned()));
    }
    // Keys of ours have no sessions.
    let foreign = ours().sign("POST", "/f", &[("x-amz-security-token", "t")], b"x");
    assert_eq!(refused(foreign).await.1, "UnrecognizedClientException");
    let mut other_day = ours().sign("POST", "/f", &[], b"x");
    let claim = other_day.headers()["authorization"].to_str().unwrap().to_owned();
    let (before, rest) = claim.split_once("/20").unwrap();
    let claim = format!("{before}/19{rest}");
    other_day.headers_mut().insert("authorization", claim.parse().unwrap());
    assert_eq!(refused(other_day).await.1, "InvalidSignatureException");
}
