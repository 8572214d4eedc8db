//! What a client of an address gets instead of the function's answer.
//!
//! Status and `Message` as AWS Lambda has them; what exactly went wrong in the function is for its owner alone, in its log.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::api::ApiError;

/// Why there is no answer of the function's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub(super) struct Refusal {
    status: StatusCode,
    message: &'static str,
    retry_after: Option<u32>,
}

impl Refusal {
    fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message, retry_after: None }
    }

    /// There is no such address, or none for this caller.
    pub(super) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden")
    }

    /// The function failed, or says what is no response.
    pub(super) fn bad_gateway() -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "Internal Server Error")
    }

    /// The request is larger than an event may be.
    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Request Too Long")
    }

    /// The request has something that cannot be read.
    pub(super) fn malformed() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad Request")
    }

    /// What the door has against a request: whatever is wrong with a key is the same to whoever tries them out.
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(super) fn of_request(error: ApiError) -> Self {
        match error.status {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(),
            StatusCode::REQUEST_TIMEOUT => Self::new(error.status, "Request Timeout"),
            status if status.is_server_error() => Self::new(status, "Internal Server Error"),
            _ => Self::forbidden(),
        }
    }
}

/// Why a call was not made.
impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let refusal = match error.status {
            StatusCode::TOO_MANY_REQUESTS => Self::new(error.status, "Rate Exceeded."),
            StatusCode::SERVICE_UNAVAILABLE => Self::new(error.status, "Service Unavailable"),
            // It is being built, or its alias has gone in this very moment.
            _ => Self::bad_gateway(),
        };
        Self { retry_after: error.retry_after, ..refusal }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let name = match self.status {
            StatusCode::FORBIDDEN => "AccessDeniedException",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequestsException",
            status if status.is_client_error() => "BadRequestException",
            _ => "InternalServerErrorException",
        };
        let body = axum::Json(json!({ "Message": self.message }));
        let mut response = (self.status, body).into_response();
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(name));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
