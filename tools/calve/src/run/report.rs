//! What a call prints: one line of JSON.

use calve_proto::FunctionError;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// The end of one call.
#[derive(Debug)]
pub(super) struct Call {
    /// What the function answered.
    pub(super) result: Result<Box<RawValue>, CallError>,
    /// Identity of the machine, if there was one.
    pub(super) machine: Option<String>,
    /// Decision to create the machine → entry of its first vCPU into the guest, µs.
    pub(super) thaw_us: Option<u64>,
    /// Decision to create the machine → first byte of the answer, µs.
    pub(super) first_output_us: Option<u64>,
    /// Private memory of the machine's process right after the answer, KiB.
    pub(super) private_kib: Option<u64>,
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// The function's error, or the agent's about it.
    Function(FunctionError),
    /// The machine's.
    Machine(Failure),
}

/// A failed call as AWS Lambda writes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorObject<'a> {
    error_type: &'a str,
    error_message: &'a str,
    stack_trace: &'a [String],
}

impl<'a> From<&'a FunctionError> for ErrorObject<'a> {
    fn from(error: &'a FunctionError) -> Self {
        Self {
            error_type: &error.error_type,
            error_message: &error.error_message,
            stack_trace: &error.stack_trace,
        }
    }
}

/// The line of `--json`; the field names are documented.
#[derive(Serialize)]
struct Line<'a> {
    result: Option<&'a RawValue>,
    error: Option<ErrorObject<'a>>,
    machine: Option<&'a str>,
    thaw_us: Option<u64>,
    first_output_us: Option<u64>,
    private_kib: Option<u64>,
}

impl Call {
    /// A call that no machine answered.
    pub(super) fn without_machine(error: CallError) -> Self {
        Self {
            result: Err(error),
            machine: None,
            thaw_us: None,
            first_output_us: None,
            private_kib: None,
        }
    }

    /// The line on stdout.
    pub(super) fn line(&self, json: bool) -> serde_json::Result<String> {
        let error = self.result.as_ref().err().map(CallError::object);
        match (&self.result, error) {
            (Ok(result), _) if !json => Ok(result.get().to_owned()),
            (_, Some(error)) if !json => serde_json::to_string(&error),
            (result, error) => serde_json::to_string(&Line {
                result: result.as_ref().ok().map(AsRef::as_ref),
                error,
                machine: self.machine.as_deref(),
                thaw_us: self.thaw_us,
                first_output_us: self.first_output_us,
                private_kib: self.private_kib,
            }),
        }
    }
}

impl CallError {
    fn object(&self) -> ErrorObject<'_> {
        match self {
            Self::Function(error) => error.into(),
            Self::Machine(failure) => ErrorObject {
                error_type: "Calve.MachineFailed",
                error_message: failure.line(),
                stack_trace: &[],
            },
        }
    }
}

/// A result as one line: the bytes that the guest sent, without line breaks between tokens. Numbers keep their digits
/// and objects their order. `None` for bytes that are not JSON.
pub(super) fn one_line(bytes: Vec<u8>) -> Option<Box<RawValue>> {
    let text = String::from_utf8(bytes).ok()?;
    // The check comes first. In what is JSON, a raw line break can only stand between tokens: inside of strings they
    // are escaped (RFC 8259, section 7). Skipping, unlike building, takes no stack for nesting.
    serde_json::from_str::<serde::de::IgnoredAny>(&text).ok()?;
    let text = if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text };
    RawValue::from_string(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Status;
    use calve_proto::ErrorKind;

    fn call(result: Result<&str, CallError>) -> Call {
        Call {
            result: result.map(|text| one_line(text.into()).unwrap()),
            machine: Some("m-1".into()),
            thaw_us: Some(5),
            first_output_us: Some(9),
            private_kib: Some(700),
        }
    }

    #[test]
    fn a_result_is_printed_as_it_came() {
        let call = call(Ok("{\"b\": 1.50,\n \"a\": 1e999}"));
        assert_eq!(call.line(false).unwrap(), "{\"b\": 1.50,  \"a\": 1e999}");
    }

    #[test]
    fn the_object_has_exactly_the_documented_fields() {
        assert_eq!(
            call(Ok("[1]")).line(true).unwrap(),
            r#"{"result":[1],"error":null,"machine":"m-1","thaw_us":5,"first_output_us":9,"private_kib":700}"#
        );
    }

    #[test]
    fn a_function_s_error_is_an_object_either_way() {
        let mut error = FunctionError::new(ErrorKind::Handler, "KeyError", "'width'");
        error.stack_trace.push("app.py:3".into());
        let call = call(Err(CallError::Function(error)));
        let object =
            r#"{"errorType":"KeyError","errorMessage":"'width'","stackTrace":["app.py:3"]}"#;
        assert_eq!(call.line(false).unwrap(), object);
        assert_eq!(
            call.line(true).unwrap(),
            format!(
                r#"{{"result":null,"error":{object},"machine":"m-1","thaw_us":5,"first_output_us":9,"private_kib":700}}"#
            )
        );
    }

    #[test]
    fn a_machine_s_failure_keeps_the_line_count() {
        let call =
            Call::without_machine(CallError::Machine(Failure::new(Status::Machine, "no answer")));
        let line = call.line(true).unwrap();
        assert!(
            line.contains(r#""errorMessage":"no answer""#) && line.contains(r#""machine":null"#)
        );
        assert!(call.line(false).unwrap().starts_with(r#"{"errorType":"Calve.MachineFailed""#));
    }

    #[test]
    fn what_is_not_json_is_no_result() {
        for bad in [&b"oops"[..], b"", b"{\"a\":1} x", b"\"a\nb\"", b"\xff"] {
            assert!(one_line(bad.to_vec()).is_none(), "{bad:?}");
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(one_line(deep.into_bytes()).is_some());
    }
}
