//! A result that a handler streams: passed on in parts as they come, or collected where the host wants it whole.

use calve_proto::limits::{MAX_BODY, MAX_STREAM};

use crate::lambda_api::{content_type, not_json};
use crate::runtime::RuntimeEvent;

/// A result on its way.
#[derive(Debug)]
pub(super) struct Stream {
    /// What it is, until the host has been told.
    content_type: String,
    /// Bytes that have come.
    size: usize,
    /// What has come, if it is not passed on.
    collected: Option<Vec<u8>>,
}

impl Stream {
    /// A result of the type that user code says. `passed_on`: the host takes it as it comes.
    pub(super) fn begin(its_type: &[u8], passed_on: bool) -> Self {
        let collected = (!passed_on).then(Vec::new);
        Self { content_type: content_type(std::str::from_utf8(its_type).ok()), size: 0, collected }
    }

    pub(super) fn is_passed_on(&self) -> bool {
        self.collected.is_none()
    }

    /// Takes the next bytes. The shim keeps to the bounds: what is beyond them, user code has written here.
    pub(super) fn take(
        &mut self,
        data: Vec<u8>,
        events: &mut Vec<RuntimeEvent>,
    ) -> Result<(), &'static str> {
        if data.is_empty() {
            return Err("a part without a byte");
        }
        self.size += data.len();
        if self.size > if self.is_passed_on() { MAX_STREAM } else { MAX_BODY } {
            return Err("a stream over its bound");
        }
        let content_type = std::mem::take(&mut self.content_type);
        match (&mut self.collected, events.last_mut()) {
            (Some(collected), _) => collected.extend(data),
            // Small parts that came together go on together.
            (None, Some(RuntimeEvent::Part { data: before, .. })) if content_type.is_empty() => {
                before.extend(data);
            }
            (None, _) => events.push(RuntimeEvent::Part { data, content_type }),
        }
        Ok(())
    }

    /// The result is whole.
    pub(super) fn end(self) -> RuntimeEvent {
        let Some(collected) = self.collected else { return RuntimeEvent::Streamed };
        // As of a client of the Runtime API.
        match serde_json::from_slice::<serde::de::IgnoredAny>(&collected) {
            Ok(_) => RuntimeEvent::Result(collected),
            Err(e) => RuntimeEvent::Failed(not_json(&e)),
        }
    }
}
