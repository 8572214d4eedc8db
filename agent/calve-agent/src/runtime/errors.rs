//! Errors as runtimes write them: the JSON object of AWS Lambda's Runtime API.

use calve_proto::{ErrorKind, FunctionError};
use serde_json::{Map, Value};

/// Reads `{"errorMessage": …, "errorType": …, "stackTrace": […]}`; Node's client says `trace`, and our shims add a `kind`.
/// Every field may be missing or of another type: user code makes these, too. `header_type` is the error's type as the Runtime API's header gives it, for bodies that
/// name none; `kind` is what it is unless the runtime knows better.
pub(crate) fn parse_error(
    json: &[u8],
    header_type: Option<&str>,
    kind: ErrorKind,
) -> FunctionError {
    let mut fields: Map<String, Value> = serde_json::from_slice(json).unwrap_or_default();
    let mut take = |name: &str| fields.remove(name).unwrap_or_default();
    let error_type = match text(take("errorType")) {
        named if !named.is_empty() => named,
        _ => header_type.unwrap_or("Runtime.Unknown").to_owned(),
    };
    let stack_trace = match (take("stackTrace"), take("trace")) {
        (Value::Array(lines), _) | (_, Value::Array(lines)) => {
            lines.into_iter().map(text).collect()
        }
        _ => Vec::new(),
    };
    let kind = match take("kind").as_str() {
        Some("invalid-result") => ErrorKind::InvalidResult,
        Some("invalid-event") => ErrorKind::InvalidEvent,
        Some("result-too-large") => ErrorKind::ResultTooLarge,
        _ => by_type(&error_type).unwrap_or(kind),
    };
    let error_message = text(take("errorMessage"));
    FunctionError { kind, error_type, error_message, stack_trace, exit: None }.bounded()
}

/// The kinds that AWS's own clients tell by the type's name.
fn by_type(error_type: &str) -> Option<ErrorKind> {
    match error_type {
        "Runtime.MarshalError" => Some(ErrorKind::InvalidResult),
        "Runtime.UnmarshalError" => Some(ErrorKind::InvalidEvent),
        _ => None,
    }
}

/// A string as it is, anything else as JSON.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_and_node_errors_are_read() {
        let json = br#"{"errorMessage":"division by zero","errorType":"ZeroDivisionError","requestId":"r","stackTrace":["  File x"]}"#;
        let error = parse_error(json, None, ErrorKind::Handler);
        assert_eq!(error.kind, ErrorKind::Handler);
        assert_eq!(error.to_string(), "ZeroDivisionError: division by zero");
        assert_eq!(error.stack_trace, ["  File x"]);

        let json = br#"{"errorType":"TypeError","errorMessage":7,"trace":["TypeError","    at f",{"a":1}]}"#;
        let error = parse_error(json, None, ErrorKind::Handler);
        assert_eq!(error.error_message, "7");
        assert_eq!(error.stack_trace, ["TypeError", "    at f", r#"{"a":1}"#]);
    }

    #[test]
    fn what_is_no_error_object_still_is_an_error() {
        for json in [&b""[..], b"null", b"[1,2]", b"{\"errorType\":", b"\xff\xfe", b"{}"] {
            let error = parse_error(json, Some("Function.Strange"), ErrorKind::Handler);
            assert_eq!(error.error_type, "Function.Strange");
            assert_eq!(error.kind, ErrorKind::Handler);
        }
        let long = format!(r#"{{"errorMessage":"{}"}}"#, "é".repeat(100_000));
        let error = parse_error(long.as_bytes(), None, ErrorKind::Handler);
        assert!(error.error_message.len() <= calve_proto::limits::MAX_ERROR_MESSAGE);
    }

    #[test]
    fn results_that_cannot_be_written_are_told_apart() {
        let json = br#"{"errorType":"Runtime.MarshalError","errorMessage":"x"}"#;
        assert_eq!(parse_error(json, None, ErrorKind::Handler).kind, ErrorKind::InvalidResult);
        let json = br#"{"errorType":"RangeError","kind":"invalid-event"}"#;
        assert_eq!(parse_error(json, None, ErrorKind::Handler).kind, ErrorKind::InvalidEvent);
    }
}
