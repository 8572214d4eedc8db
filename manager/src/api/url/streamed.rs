//! An HTTP response while its function is still at it (`InvokeMode` `RESPONSE_STREAM`).
//!
//! What a function streams is the body, unless it says that a head comes first
//! (`application/vnd.awslambda.http-integration-response`): JSON, then eight zero bytes, then the body. A function that does
//! not stream is answered for as ever.

use std::io;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use calve_proto::limits::MAX_BODY;
use futures_util::stream::unfold;
use http::{Method, StatusCode};
use serde_json::Value;

use super::refusal::Refusal;
use super::{answer, apart};
use crate::api::ApiError;
use crate::auth::LARGE;
use crate::invoke::{Invoked, Next, Streamed};

/// The type of a stream that has a head.
const WITH_HEAD: &str = "application/vnd.awslambda.http-integration-response";
/// What is between that and the body.
const SEPARATOR: [u8; 8] = [0; 8];
/// The longest head.
const LONGEST: usize = 64 << 10;

/// The response to a call that is being made.
pub(super) async fn answer(mut call: Streamed, method: &Method) -> Result<Response, Refusal> {
    let first = match call.next().await {
        Next::Piece(piece) => piece,
        Next::Over(over) => return answer::of(over?).await,
    };
    let media = first.content_type.split(';').next().unwrap_or_default().trim().to_owned();
    match media.as_str() {
        "" => whole(call, first.data).await,
        media if media.eq_ignore_ascii_case(WITH_HEAD) => with_head(call, first.data, method).await,
        _ => {
            let response = answer::plain(Body::empty(), &first.content_type);
            with_rest(response, call, first.data, method).await
        }
    }
}

/// The response of a function that does not stream.
async fn whole(mut call: Streamed, first: Bytes) -> Result<Response, Refusal> {
    let mut result = BytesMut::from(&first[..]);
    loop {
        match call.next().await {
            // The protocol with the guest has the same bound.
            Next::Piece(piece) if result.len() + piece.data.len() <= MAX_BODY => {
                result.extend_from_slice(&piece.data);
            }
            Next::Piece(_) => return Err(Refusal::bad_gateway()),
            Next::Over(over) => {
                let answered = over?.answer.map_err(|_| Refusal::bad_gateway())?;
                result.extend_from_slice(&answered.result.map_err(|_| Refusal::bad_gateway())?);
                let large = result.len() > LARGE;
                return apart(large, move || answer::interpret(result.to_vec())).await;
            }
        }
    }
}

/// The response of a stream that has a head.
async fn with_head(mut call: Streamed, first: Bytes, method: &Method) -> Result<Response, Refusal> {
    let mut read = BytesMut::from(&first[..]);
    // Nothing is looked at twice, however small the pieces are.
    let mut looked = 0;
    let at = loop {
        let rest = read[looked..].windows(SEPARATOR.len());
        if let Some(at) = rest.into_iter().position(|eight| eight == SEPARATOR) {
            break looked + at;
        }
        looked = (read.len() + 1).saturating_sub(SEPARATOR.len());
        if read.len() > LONGEST {
            return Err(Refusal::bad_gateway());
        }
        match call.next().await {
            Next::Piece(piece) => read.extend_from_slice(&piece.data),
            Next::Over(_) => return Err(Refusal::bad_gateway()),
        }
    };
    let Ok(Value::Object(fields)) = serde_json::from_slice(&read[..at]) else {
        return Err(Refusal::bad_gateway());
    };
    let response = answer::head(&fields)?;
    let body = read.split_off(at + SEPARATOR.len()).freeze();
    with_rest(response, call, body, method).await
}

/// A response with what is left of a stream for its body. Where it has none whatever is said, the call is waited for all the
/// same: a server does not read such a body, and a body that is let go of gives up its call.
async fn with_rest(
    mut response: Response,
    mut call: Streamed,
    first: Bytes,
    method: &Method,
) -> Result<Response, Refusal> {
    if !is_bodiless(method, response.status()) {
        *response.body_mut() = rest(call, first);
        return Ok(response);
    }
    loop {
        match call.next().await {
            Next::Piece(_) => {}
            Next::Over(over) if is_whole(&over) => return Ok(response),
            Next::Over(_) => return Err(Refusal::bad_gateway()),
        }
    }
}

/// Whether a response has no body (RFC 9110, sections 9.3.2, 15.3.5 and 15.4.5).
fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

/// Whether a call ended well, so that its stream is whole.
fn is_whole(over: &Result<Invoked, ApiError>) -> bool {
    let answer = over.as_ref().ok().and_then(|over| over.answer.as_ref().ok());
    answer.is_some_and(|answer| answer.result.is_ok())
}

/// What is left of a stream, as a body. One that is not whole ends the connection, so that nobody takes it for whole.
fn rest(call: Streamed, first: Bytes) -> Body {
    let state = (call, Some(first).filter(|first| !first.is_empty()), false);
    Body::from_stream(unfold(state, |(mut call, first, over)| async move {
        if over {
            return None;
        }
        if let Some(first) = first {
            return Some((Ok(first), (call, None, false)));
        }
        let over = match call.next().await {
            Next::Piece(piece) => return Some((Ok(piece.data), (call, None, false))),
            Next::Over(over) => over,
        };
        let broken = io::Error::other("the function failed in the middle of its response");
        (!is_whole(&over)).then_some((Err(broken), (call, None, true)))
    }))
}
