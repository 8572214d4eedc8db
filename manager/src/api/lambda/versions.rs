//! Versions over HTTP.

use axum::Json;
use axum::extract::Path;
use http::StatusCode;
use serde_json::Value;

use super::context::{Body, Context, bytes, parse};
use super::view;
use crate::api::ApiError;

/// `PublishVersion`.
pub(super) async fn publish(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let request = parse(&bytes(body)?)?;
    let view = context.run(move |context| {
        let chosen = context.control.publish(&context.caller, &name, request)?;
        Ok(view::configuration(&context.control.scope(&context.caller), &chosen))
    });
    Ok((StatusCode::CREATED, Json(view.await?)))
}

/// `ListVersionsByFunction`.
pub(super) async fn list(
    context: Context,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let page = context.control.list_versions(&context.caller, &name, context.paging()?)?;
    let scope = context.control.scope(&context.caller);
    Ok(Json(view::page("Versions", &page, |chosen| view::configuration(&scope, chosen))))
}
