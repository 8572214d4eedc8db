//! Errors as AWS Lambda's clients expect them: a status, a name in a header, a JSON body.
//!
//! Names and statuses are those of the Lambda API reference, "Errors" of each action.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::full::is_full;

/// Seconds after which a full disk may have room again.
const FULL: u32 = 10;

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
    /// Which limit was exceeded.
    pub reason: Option<ThrottleReason>,
}

/// The limit that a `TooManyRequestsException` is about, as `service-2.json` has it (`ThrottleReason`): clients tell by it
/// whether they are too fast or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottleReason {
    /// The tenant makes too many requests a second, of whichever function.
    CallerRate,
    /// More calls of a function come than are made.
    FunctionRate,
    /// Too many calls at once, of the tenant or on the host.
    Concurrency,
    /// Too many calls at once for what is reserved for the function.
    ReservedConcurrency,
}

impl ThrottleReason {
    /// Lambda's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallerRate => "CallerRateLimitExceeded",
            Self::FunctionRate => "FunctionInvocationRateLimitExceeded",
            Self::Concurrency => "ConcurrentInvocationLimitExceeded",
            Self::ReservedConcurrency => "ReservedFunctionConcurrentInvocationLimitExceeded",
        }
    }
}

impl ApiError {
    /// An error by its status and name.
    pub fn new(status: StatusCode, name: &'static str, message: impl Into<String>) -> Self {
        Self { status, name, message: message.into(), retry_after: None, reason: None }
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
    pub fn throttled(reason: ThrottleReason, message: impl Into<String>, retry_after: u32) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self {
            retry_after: Some(retry_after),
            reason: Some(reason),
            ..Self::new(status, "TooManyRequestsException", message)
        }
    }

    /// A failure of ours. That a disk is full is told, since somebody can do something about it, and it may pass.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        if !is_full(error) {
            return Self::internal();
        }
        let text = "the function host's disk is full: nothing was changed; free some space on it and try again";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceException", text);
        Self { retry_after: Some(FULL), ..error }
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
        let mut body =
            serde_json::json!({ "Type": whose, "Message": self.message, "message": self.message });
        if let Some(reason) = self.reason {
            body["Reason"] = reason.as_str().into();
        }
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.name));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
