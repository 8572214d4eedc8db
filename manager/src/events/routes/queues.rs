//! Queues: putting messages, and what is in them.

use axum::Json;
use axum::extract::Path;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Body, Context, parse};
use crate::api::ApiError;
use crate::events::queue::internal;

/// Messages to put: `{"message": …}` or `{"messages": [ … ]}`, of any JSON values.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Put {
    #[serde(deserialize_with = "even_null")]
    message: Option<Value>,
    messages: Option<Vec<Value>>,
}

/// `null` is a message as well.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Puts messages; all of them or none.
pub(super) async fn put(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let ids = context.run(move |Context { events, caller, .. }| {
        // Here, as it may be long.
        let values = match parse(body)? {
            Put { message: Some(message), messages: None } => vec![message],
            Put { message: None, messages: Some(messages) } => messages,
            _ => return Err(ApiError::invalid("a body has either message or messages")),
        };
        events.put(caller, &name, values)
    });
    Ok(Json(json!({ "message_ids": ids.await? })))
}

/// What is in a queue. Its function may have other sources: what waits is counted for all of them.
pub(super) async fn get(
    context: Context,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let found = context.run(move |Context { events, caller, .. }| {
        let live = events.queue(caller, &name)?;
        let source = &live.source;
        let backlog = events.parts.ledger.backlog(&source.tenant, &source.function);
        let (waiting, oldest) = backlog.map_err(|error| internal(&error))?;
        Ok(json!({
            "name": name,
            "source": source.id,
            "function": source.function,
            "enabled": source.enabled,
            "waiting": waiting,
            "oldest": oldest,
        }))
    });
    Ok(Json(found.await?))
}
