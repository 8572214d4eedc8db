//! Refusals that are axum's own (a path or query that cannot be read, a method that a route does not have), put into
//! the shape that AWS Lambda's clients expect.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::ApiError;

/// axum's texts are a line.
const MOST: usize = 4096;

/// Gives every refusal a name and a JSON body.
pub(super) async fn shape(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() || response.headers().contains_key("x-amzn-errortype") {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, MOST).await.unwrap_or_default();
    let text = match String::from_utf8_lossy(&text) {
        none if none.is_empty() => "this route takes no such request".into(),
        text => text,
    };
    let name = match status {
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowedException",
        _ => "InvalidParameterValueException",
    };
    let mut shaped = ApiError::new(status, name, text).into_response();
    if let Some(allowed) = parts.headers.get(http::header::ALLOW) {
        shaped.headers_mut().insert(http::header::ALLOW, allowed.clone());
    }
    shaped
}
