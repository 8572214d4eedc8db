//! Settings of asynchronous calls over HTTP.

use axum::Json;
use axum::extract::Path;
use http::StatusCode;
use serde_json::Value;

use super::context::{Body, Context, bytes, parse};
use super::view;
use crate::api::ApiError;

/// `PutFunctionEventInvokeConfig`.
pub(super) async fn put(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let request = parse(&bytes(body)?)?;
    let settings = context.run(move |context| {
        context.control.put_event_invoke(&context.caller, &name, context.qualifier(), request)
    });
    Ok(Json(view::event_invoke(&settings.await?)))
}

/// `UpdateFunctionEventInvokeConfig`.
pub(super) async fn update(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let request = parse(&bytes(body)?)?;
    let settings = context.run(move |context| {
        context.control.update_event_invoke(&context.caller, &name, context.qualifier(), request)
    });
    Ok(Json(view::event_invoke(&settings.await?)))
}

/// `GetFunctionEventInvokeConfig`.
pub(super) async fn get(
    context: Context,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let found = context.control.get_event_invoke(&context.caller, &name, context.qualifier())?;
    Ok(Json(view::event_invoke(&found)))
}

/// `ListFunctionEventInvokeConfigs`.
pub(super) async fn list(
    context: Context,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let page = context.control.list_event_invoke(&context.caller, &name, context.paging()?)?;
    Ok(Json(view::page("FunctionEventInvokeConfigs", &page, view::event_invoke)))
}

/// `DeleteFunctionEventInvokeConfig`.
pub(super) async fn delete(
    context: Context,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let done = context.run(move |context| {
        context.control.delete_event_invoke(&context.caller, &name, context.qualifier())
    });
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}
