//! Answers of the Runtime API, with the statuses and error objects of AWS's service.

use std::fmt::Write;

use calve_proto::limits::{MAX_BODY, MAX_STREAM};
use calve_proto::{ErrorKind, FunctionError};

use crate::runtime::Invocation;

/// One HTTP response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    reason: &'static str,
    headers: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(status: u16, reason: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, reason, headers: String::new(), body: body.into() }
    }

    fn error(status: u16, reason: &'static str, error_type: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errorMessage": message, "errorType": error_type });
        Self::json(status, reason, body.to_string())
    }

    /// An event: the answer to invocation/next.
    pub(super) fn invocation(invocation: &Invocation) -> Self {
        let mut headers = String::new();
        let mut header = |name: &str, value: &str| {
            // Values come from the host, checked there and here to be one line.
            let value = value.replace(['\r', '\n'], " ");
            let _ = write!(headers, "Lambda-Runtime-{name}: {value}\r\n");
        };
        header("Aws-Request-Id", &invocation.request_id);
        header("Deadline-Ms", &invocation.deadline_epoch_ms.to_string());
        header("Invoked-Function-Arn", &invocation.function_arn);
        if !invocation.trace_id.is_empty() {
            header("Trace-Id", &invocation.trace_id);
        }
        Self { status: 200, reason: "OK", headers, body: invocation.event.clone() }
    }

    /// The answer to restore/next.
    pub(super) fn restored() -> Self {
        Self::json(200, "OK", "")
    }

    /// A result or an error has been taken.
    pub(super) fn accepted() -> Self {
        Self::json(202, "Accepted", r#"{"status":"OK"}"#)
    }

    pub(super) fn not_found() -> Self {
        Self::json(404, "Not Found", "404 page not found")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::json(405, "Method Not Allowed", "")
    }

    pub(super) fn invalid_request_id() -> Self {
        Self::error(400, "Bad Request", "InvalidRequestID", "Invalid request ID")
    }

    pub(super) fn malformed(why: &str) -> Self {
        Self::error(400, "Bad Request", "InvalidRequest", why)
    }

    pub(super) fn too_large() -> Self {
        let message = format!("Exceeded maximum allowed payload size ({MAX_BODY} bytes).");
        Self::error(413, "Request Entity Too Large", "RequestEntityTooLarge", &message)
    }

    pub(super) fn head_too_large() -> Self {
        Self::error(431, "Request Header Fields Too Large", "InvalidRequest", "header too large")
    }

    /// The client asks for what its state does not allow.
    pub(super) fn wrong_state(from: &str, to: &str) -> Self {
        let message = format!(
            "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed"
        );
        Self::error(403, "Forbidden", "InvalidStateTransition", &message)
    }

    /// Appends the response as it goes over the wire.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let Self { status, reason, headers, body } = self;
        let len = body.len();
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n{headers}Content-Length: {len}\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
    }
}

/// What the host hears when a result does not fit.
pub(super) fn too_large() -> FunctionError {
    FunctionError::new(
        ErrorKind::ResultTooLarge,
        "Function.ResponseSizeTooLarge",
        format!("Response payload size exceeded maximum allowed payload size ({MAX_BODY} bytes)."),
    )
}

/// What the host hears when a result that is streamed does not end.
pub(super) fn stream_too_large() -> FunctionError {
    FunctionError::new(
        ErrorKind::ResultTooLarge,
        "Function.ResponseSizeTooLarge",
        format!("The streamed response exceeded the {MAX_STREAM} bytes that it may have."),
    )
}

/// What the host hears when a result that is streamed is not whole.
pub(super) fn truncated() -> FunctionError {
    let text = "The runtime broke its response off before the end of its stream.";
    FunctionError::new(ErrorKind::Handler, "Runtime.TruncatedResponse", text)
}

/// What the host hears when a result is no JSON text.
pub(crate) fn not_json(error: &serde_json::Error) -> FunctionError {
    FunctionError::new(
        ErrorKind::InvalidResult,
        "Runtime.MarshalError",
        format!("The response is not JSON: {error}"),
    )
}
