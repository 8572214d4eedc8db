//! Responses that the client streams ("Response streaming in a custom runtime", AWS Lambda's guide to the Runtime API):
//! a chunked body, and trailers that tell of an error in its middle.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use calve_proto::ErrorKind;

use super::reply::{self, Reply};
use super::{LambdaApi, State};
use crate::runtime::{RuntimeEvent, parse_error};

/// Most trailers that are looked at.
const MOST_TRAILERS: usize = 16;

/// A result on its way.
#[derive(Debug)]
pub(super) struct Stream {
    /// The connection that it comes on.
    slot: u32,
    /// What it is, until the host has been told.
    content_type: String,
}

impl LambdaApi {
    /// The head of a stream is in. It was posted to where the running invocation's result goes.
    pub(super) fn begin_stream(&mut self, slot: u32, content_type: String) {
        self.streamed = None;
        self.state = State::Streaming(Stream { slot, content_type });
    }

    /// Passes a part of a stream on.
    pub(super) fn pass_on(&mut self, data: Vec<u8>, events: &mut Vec<RuntimeEvent>) {
        if let State::Streaming(stream) = &mut self.state {
            let content_type = std::mem::take(&mut stream.content_type);
            events.push(RuntimeEvent::Part { data, content_type });
        }
    }

    /// The end of a stream, which may say that its beginning is not worth much.
    pub(super) fn end_stream(&mut self, trailers: &[u8], events: &mut Vec<RuntimeEvent>) -> Reply {
        self.state = State::Between;
        let mut headers = [httparse::EMPTY_HEADER; MOST_TRAILERS];
        let Ok(httparse::Status::Complete((_, headers))) =
            httparse::parse_headers(trailers, &mut headers)
        else {
            events.push(RuntimeEvent::Failed(reply::truncated()));
            return Reply::malformed("the trailers are malformed");
        };
        let get = |name: &str| {
            let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
        };
        let error_type = get("Lambda-Runtime-Function-Error-Type");
        let body = get("Lambda-Runtime-Function-Error-Body");
        events.push(match (error_type, body) {
            (None, None) => RuntimeEvent::Streamed,
            (error_type, body) => {
                // One that is no base64 says nothing; the error is one all the same.
                let body = BASE64.decode(body.unwrap_or_default()).unwrap_or_default();
                RuntimeEvent::Failed(parse_error(&body, error_type, ErrorKind::Handler))
            }
        });
        Reply::accepted()
    }

    /// Ends the stream that comes on this connection, if one does: nothing more will come.
    pub(super) fn break_off(&mut self, slot: u32, events: &mut Vec<RuntimeEvent>) {
        if self.streams_on(slot) {
            self.state = State::Between;
            events.push(RuntimeEvent::Failed(reply::truncated()));
        }
    }

    /// Ends the stream that comes on this connection, if one does: it is longer than it may be.
    pub(super) fn overflow(&mut self, slot: u32, events: &mut Vec<RuntimeEvent>) {
        if self.streams_on(slot) {
            self.state = State::Between;
            events.push(RuntimeEvent::Failed(reply::stream_too_large()));
        }
    }

    fn streams_on(&self, slot: u32) -> bool {
        matches!(&self.state, State::Streaming(stream) if stream.slot == slot)
    }
}
