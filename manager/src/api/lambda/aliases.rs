//! Aliases over HTTP.

use axum::Json;
use axum::extract::Path;
use http::StatusCode;
use serde_json::Value;

use super::context::{Body, Context, bytes, parse};
use super::view;
use crate::api::ApiError;

/// `CreateAlias`.
pub(super) async fn create(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let request = parse(&bytes(body)?)?;
    let alias =
        context.run(move |context| context.control.create_alias(&context.caller, &name, request));
    Ok((StatusCode::CREATED, Json(view::alias(&alias.await?))))
}

/// `GetAlias`.
pub(super) async fn get(
    context: Context,
    Path((name, alias)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let alias = context.control.get_alias(&context.caller, &name, &alias)?;
    Ok(Json(view::alias(&alias)))
}

/// `UpdateAlias`.
pub(super) async fn update(
    context: Context,
    Path((name, alias)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let request = parse(&bytes(body)?)?;
    let alias = context
        .run(move |context| context.control.update_alias(&context.caller, &name, &alias, request));
    Ok(Json(view::alias(&alias.await?)))
}

/// `ListAliases`.
pub(super) async fn list(
    context: Context,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let version = context.query("FunctionVersion");
    let page = context.control.list_aliases(&context.caller, &name, version, context.paging()?)?;
    Ok(Json(view::page("Aliases", &page, view::alias)))
}

/// `DeleteAlias`.
pub(super) async fn delete(
    context: Context,
    Path((name, alias)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let done =
        context.run(move |context| context.control.delete_alias(&context.caller, &name, &alias));
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}
