//! Sources of all kinds, with their settings.

use axum::Json;
use axum::extract::Path;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Body, Context, parse, required};
use crate::api::ApiError;
use crate::events::{Change, Draft, Events, Kind, Live};

/// A source to be, or what is to change of one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Request {
    function: Option<String>,
    enabled: Option<bool>,
    settings: Option<Kind>,
}

/// Adds a source.
pub(super) async fn create(
    context: Context,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let request: Request = parse(body)?;
    let created = context.run(move |Context { events, caller, .. }| {
        let draft = Draft {
            function: required("function", request.function)?,
            enabled: request.enabled.unwrap_or(true),
            kind: required("settings", request.settings)?,
        };
        Ok(view(events, &*events.create(caller, draft)?))
    });
    Ok((StatusCode::CREATED, Json(created.await?)))
}

/// A source.
pub(super) async fn get(context: Context, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let found = context
        .run(move |Context { events, caller, .. }| Ok(view(events, &*events.get(caller, &id)?)));
    Ok(Json(found.await?))
}

/// All sources, or those of the function that the query names.
pub(super) async fn list(context: Context) -> Result<Json<Value>, ApiError> {
    let all = context.run(|context| {
        let Context { events, caller, .. } = context;
        let function = context.query("function");
        let all = events.list(caller)?;
        let some =
            all.iter().filter(|live| function.is_none_or(|name| live.source.function == name));
        Ok(some.map(|live| view(events, live)).collect::<Vec<_>>())
    });
    Ok(Json(json!({ "sources": all.await? })))
}

/// Changes a source; what is not given stays.
pub(super) async fn update(
    context: Context,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let Request { function, enabled, settings: kind } = parse(body)?;
    let updated = context.run(move |Context { events, caller, .. }| {
        let change = Change { function, enabled, kind, batch_size: None };
        Ok(view(events, &*events.update(caller, &id, change)?))
    });
    Ok(Json(updated.await?))
}

/// Removes a source.
pub(super) async fn delete(
    context: Context,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    context.run(move |Context { events, caller, .. }| events.delete(caller, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(events: &Events, live: &Live) -> Value {
    let [source, function, _] = events.arns(live);
    json!({
        "id": live.source.id,
        "arn": source,
        "function": live.source.function,
        "qualifier": live.source.qualifier,
        "function_arn": function,
        "enabled": live.source.enabled,
        "settings": live.settings.source,
        "modified": live.source.modified,
    })
}
