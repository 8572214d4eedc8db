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
    /// A call that was not answered, and the machine that should have, if there was one.
    pub(super) fn unanswered(error: CallError, machine: Option<String>) -> Self {
        Self {
            result: Err(error),
            machine,
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
pub(crate) fn one_line(bytes: Vec<u8>) -> Option<Box<RawValue>> {
    let text = String::from_utf8(bytes).ok()?;
    // The check comes first. In what is JSON, a raw line break can only stand between tokens: inside of strings they
    // are escaped (RFC 8259, section 7). Skipping, unlike building, takes no stack for nesting.
    serde_json::from_str::<serde::de::IgnoredAny>(&text).ok()?;
    let text = if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text };
    RawValue::from_string(text).ok()
}

#[cfg(test)]
mod tests;
