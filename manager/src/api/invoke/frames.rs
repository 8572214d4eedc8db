//! `InvokeWithResponseStream`'s events as they go over the wire: frames of `application/vnd.amazon.eventstream`
//! ("Amazon event stream specification" of Smithy), with the members of `service-2.json`.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// What all of them together are.
pub(super) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// The longest payload of one frame: a fraction of the 16 MiB that some clients take.
const LONGEST: usize = 1 << 20;

/// Why a call has no result, or none that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The error's type.
    pub(super) code: String,
    /// What is known of it: of a function's, its error object.
    pub(super) details: String,
}

/// `PayloadChunk`s of these bytes: one, unless there are very many.
pub(super) fn payload(data: &Bytes) -> Bytes {
    let mut frames = Vec::with_capacity(data.len() + 256);
    for at in (0..data.len()).step_by(LONGEST) {
        let chunk = data.slice(at..data.len().min(at + LONGEST));
        event(&mut frames, "PayloadChunk", "application/octet-stream", chunk);
    }
    frames.into()
}

/// `InvokeComplete`, the last one; `logs` in base64.
pub(super) fn complete(failure: Option<Failure>, logs: Option<String>) -> Bytes {
    let mut members = Map::new();
    if let Some(Failure { code, details }) = failure {
        members.insert("ErrorCode".to_owned(), json!(code));
        members.insert("ErrorDetails".to_owned(), json!(details));
    }
    if let Some(logs) = logs {
        members.insert("LogResult".to_owned(), json!(logs));
    }
    let mut frames = Vec::new();
    let document = Value::Object(members).to_string();
    event(&mut frames, "InvokeComplete", "application/json", document.into());
    frames.into()
}

fn event(frames: &mut Vec<u8>, kind: &'static str, content_type: &'static str, payload: Bytes) {
    let header = |name: &'static str, value: &'static str| {
        Header::new(name, HeaderValue::String(value.into()))
    };
    let message = Message::new(payload)
        .add_header(header(":event-type", kind))
        .add_header(header(":content-type", content_type))
        .add_header(header(":message-type", "event"));
    // It refuses what is over its bounds, from which these are far away.
    if let Err(error) = write_message_to(&message, frames) {
        tracing::error!(%error, kind, "cannot write an event");
    }
}
