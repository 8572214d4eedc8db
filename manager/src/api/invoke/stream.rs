//! `InvokeWithResponseStream`: the result of a call as it comes.
//!
//! What goes wrong before the first byte is an answer like that of `Invoke`; but that the function failed is part of the
//! stream, whenever it did: in its last event, as AWS Lambda has it.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::frames::{self, Failure};
use super::{INVOCATION_TYPE, Incoming, Request, header, insert, respond, unanswered, wants_logs};
use crate::api::ApiError;
use crate::invoke::{Invoked, Next, Streamed};

pub(super) async fn invoke(incoming: Incoming) -> Response {
    let answer = async |asked: Request, headers: HeaderMap| match header(&headers, INVOCATION_TYPE)
    {
        None | Some("RequestResponse") => begin(asked, &headers).await,
        Some("DryRun") => asked.dry_run(),
        Some(other) => Err(ApiError::invalid(format!(
            "X-Amz-Invocation-Type: {other:.64} is none of RequestResponse, DryRun"
        ))),
    };
    respond(incoming, answer).await
}

/// Makes the call and waits for the first that comes of it.
async fn begin(asked: Request, headers: &HeaderMap) -> Result<Response, ApiError> {
    let host = asked.host.clone();
    let mut call = host.invoke_streamed(asked.invocation(headers).await?);
    let first = call.next().await;
    let (version, machine) = match &first {
        Next::Piece(piece) => (piece.version.to_string(), piece.machine.to_string()),
        Next::Over(Err(error)) => return Err(error.clone()),
        Next::Over(Ok(Invoked { answer: Err(error), .. })) => return Err(unanswered(error)),
        Next::Over(Ok(invoked)) => (invoked.version.clone(), invoked.machine.clone()),
    };
    let stream = Stream { call, first: Some(first), wants_logs: wants_logs(headers), over: false };
    let mut response = Response::new(Body::from_stream(unfold(stream, Stream::next)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(frames::CONTENT_TYPE));
    insert(headers, HeaderName::from_static("x-amz-executed-version"), &version);
    insert(headers, HeaderName::from_static("x-calve-machine"), &machine);
    Ok(response)
}

/// The frames of a call. A client that leaves drops it, and gives the call up with it.
struct Stream {
    call: Streamed,
    first: Option<Next>,
    wants_logs: bool,
    over: bool,
}

impl Stream {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.over {
            return None;
        }
        let next = match self.first.take() {
            Some(first) => first,
            None => self.call.next().await,
        };
        let frames = match next {
            Next::Piece(piece) => frames::payload(&piece.data),
            Next::Over(over) => {
                self.over = true;
                last(over, self.wants_logs)
            }
        };
        Some((Ok(frames), self))
    }
}

/// The frames of the end of a call: what has not come in pieces, and how it went.
fn last(over: Result<Invoked, ApiError>, wants_logs: bool) -> Bytes {
    let refused = |error: ApiError| Failure { code: error.name.to_owned(), details: error.message };
    let (rest, failure, logs) = match over {
        Err(error) => (Vec::new(), Some(refused(error)), Vec::new()),
        Ok(Invoked { answer, logs, .. }) => match answer.map(|answer| answer.result) {
            Ok(Ok(rest)) => (rest, None, logs),
            Ok(Err(failure)) => (Vec::new(), Some(failed(&failure.body)), logs),
            Err(error) => (Vec::new(), Some(refused(unanswered(&error))), logs),
        },
    };
    let logs = wants_logs.then(|| BASE64.encode(logs));
    let (rest, complete) = (frames::payload(&rest.into()), frames::complete(failure, logs));
    [rest, complete].concat().into()
}

/// A function's own failure: the type of its error, and its error object.
fn failed(body: &[u8]) -> Failure {
    let error: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = error["errorType"].as_str().filter(|code| !code.is_empty());
    Failure {
        code: code.unwrap_or("Unhandled").to_owned(),
        details: String::from_utf8_lossy(body).into_owned(),
    }
}
