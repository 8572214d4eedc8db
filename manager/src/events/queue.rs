//! Queues: what clients put is made of messages at once, in one transaction. There is no store of our own.
//!
//! A batch is made when its messages are put: those of one request, in order, are cut into events of up to `batch_size`
//! each, and stay together through all tries. Messages of different requests are never put together. Larger batches are
//! cheaper; but one message that always fails takes those of its batch along, so the batch size is 1 unless it is set.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::deliver::{Undelivered, new_id};
use super::registry::Live;
use super::settings::Kind;
use super::{Events, MOST_WAITING, arn};
use crate::api::{ApiError, ThrottleReason};
use crate::auth::Caller;
use crate::ledger::Message;

/// Messages of one request.
pub const MOST_MESSAGES: usize = 10_000;

/// Bytes of a request.
pub const MOST_PUT: usize = 16 << 20;

/// Bytes of an event: what AWS allows for a message of a queue, and for the event of an asynchronous call.
const MOST_EVENT: usize = 1 << 20;

/// Seconds after which to try again when the queue is full.
const RETRY: u32 = 1;

impl Events {
    /// Puts messages into a queue: JSON values. Their ids, in order. When this returns they are on disk. Blocks.
    ///
    /// A text is delivered as it is, anything else as its JSON: that is what functions for Amazon SQS expect of a body.
    ///
    /// # Errors
    ///
    /// When there is no such queue, when its function may not have them or has too many, when they are too many or too
    /// large, or when the ledger fails. None is put then.
    pub fn put(
        &self,
        caller: &Caller,
        name: &str,
        values: Vec<Value>,
    ) -> Result<Vec<String>, ApiError> {
        if values.is_empty() || values.len() > MOST_MESSAGES {
            return Err(ApiError::invalid(format!(
                "there are {} messages: 1 to {MOST_MESSAGES} can be put at once",
                values.len()
            )));
        }
        let live = self.queue(caller, name)?;
        if !live.source.enabled {
            return Err(ApiError::conflict(format!("queue `{name}` is disabled: enable it first")));
        }
        if self.is_swamped(&live).map_err(|error| internal(&error))? {
            return Err(ApiError::throttled(
                ThrottleReason::FunctionRate,
                format!("more than {MOST_WAITING} messages wait for the function: try again later"),
                RETRY,
            ));
        }
        let (messages, ids) = self.batches(&live, values)?;
        match self.deliver(&live, "", &messages) {
            Ok(()) => Ok(ids),
            Err(Undelivered::Stale) => {
                Err(ApiError::conflict(format!("queue `{name}` was changed meanwhile: try again")))
            }
            Err(Undelivered::Refused(refusal)) => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "AccessDeniedException",
                format!("queue `{name}` cannot be used: {refusal}"),
            )),
            Err(error) => Err(internal(&error)),
        }
    }

    /// A queue of the caller's tenant.
    pub(super) fn queue(&self, caller: &Caller, name: &str) -> Result<Arc<Live>, ApiError> {
        let found = self.registry.queue(&caller.tenant, name);
        found.ok_or_else(|| ApiError::not_found(format!("there is no queue `{name}`")))
    }

    fn batches(
        &self,
        live: &Live,
        values: Vec<Value>,
    ) -> Result<(Vec<Message>, Vec<String>), ApiError> {
        let Kind::Queue { batch_size, .. } = live.settings.source else {
            return Err(ApiError::internal());
        };
        let batch_size = usize::try_from(batch_size).unwrap_or(usize::MAX);
        let account = self.account(&live.source.tenant);
        let arn = arn::of(&self.parts.region, &account, &live.source.id, &live.settings.source);
        let sent = self.now().to_string();
        let (mut messages, mut ids) = (Vec::new(), Vec::with_capacity(values.len()));
        let mut batch = Batch::default();
        for (position, value) in values.into_iter().enumerate() {
            let id = new_id();
            let body = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            let record = json!({
                "messageId": id,
                "receiptHandle": id,
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": sent,
                    "SenderId": account,
                    "ApproximateFirstReceiveTimestamp": sent,
                },
                "messageAttributes": {},
                "eventSource": "calve:queue",
                "eventSourceARN": arn,
                "awsRegion": self.parts.region,
            })
            .to_string();
            if record.len() > MOST_EVENT - Batch::FRAME {
                return Err(ApiError::too_large(format!(
                    "message {position} makes an event of more than {MOST_EVENT} bytes"
                )));
            }
            if batch.count == batch_size || batch.bytes + record.len() + Batch::FRAME > MOST_EVENT {
                messages.extend(std::mem::take(&mut batch).message(self, live));
            }
            batch.add(&record, &id);
            ids.push(id);
        }
        messages.extend(batch.message(self, live));
        Ok((messages, ids))
    }
}

/// An event that is being put together.
#[derive(Default)]
struct Batch {
    records: Vec<u8>,
    bytes: usize,
    count: usize,
    /// The id of its first message.
    id: String,
}

impl Batch {
    /// Bytes around the records.
    const FRAME: usize = 16;

    fn add(&mut self, record: &str, id: &str) {
        if self.count == 0 {
            id.clone_into(&mut self.id);
        } else {
            self.records.push(b',');
        }
        self.records.extend_from_slice(record.as_bytes());
        self.bytes = self.records.len();
        self.count += 1;
    }

    fn message(self, events: &Events, live: &Live) -> Option<Message> {
        if self.count == 0 {
            return None;
        }
        let mut event = Vec::with_capacity(self.bytes + Self::FRAME);
        event.extend_from_slice(br#"{"Records":["#);
        event.extend_from_slice(&self.records);
        event.extend_from_slice(b"]}");
        Some(events.message(live, self.id, event))
    }
}

/// A failure of ours, to the log.
pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> ApiError {
    tracing::error!(error, "an event source cannot be read or written");
    ApiError::of(error)
}
