//! Errors as AWS Lambda's clients expect them: a status, a name in a header, a JSON body.
//!
//! Names and statuses are those of the Lambda API reference, "Errors" of each action.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// The answer to a request that cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Lambda's name for it, such as `ResourceNotFoundException`.
    pub name: &'static str,
    /// For people: what is wrong, with what, and what to do.
    pub message: String,
    /// Seconds after which to try again.
    pub retry_after: Option<u32>,
}

impl ApiError {
    /// An error by its status and name.
    pub fn new(status: StatusCode, name: &'static str, message: impl Into<String>) -> Self {
        Self { status, name, message: message.into(), retry_after: None }
    }

    /// A parameter that is out of bounds, by name.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message)
    }

    /// A body that is no JSON, or not of the shape it should have.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequestContentException", message)
    }

    /// Something that there is not.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
    }

    /// Something that is there already, or is being changed.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "ResourceConflictException", message)
    }

    /// A revision that is not the present one.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailedException", message)
    }

    /// A body over its limit.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", message)
    }

    /// A quota of code bytes that is used up.
    pub fn storage(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "CodeStorageExceededException", message)
    }

    /// Too much at once: to be tried again.
    pub fn throttled(message: impl Into<String>, retry_after: u32) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self {
            retry_after: Some(retry_after),
            ..Self::new(status, "TooManyRequestsException", message)
        }
    }

    /// A failure of ours. What exactly goes to the log, not to the client.
    pub fn internal() -> Self {
        let text = "the function host failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", text)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let whose = if self.status.is_server_error() { "Service" } else { "User" };
        let body =
            serde_json::json!({ "Type": whose, "Message": self.message, "message": self.message });
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.name));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
