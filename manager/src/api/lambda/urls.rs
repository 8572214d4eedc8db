//! Addresses of functions over HTTP: how they are set up. Calls of them are in [`url`](crate::api::url).

use axum::Json;
use axum::extract::Path;
use http::StatusCode;
use serde_json::Value;

use super::context::{Body, Context, bytes, parse};
use super::view;
use crate::api::ApiError;
use crate::control::NamedUrl;

/// `CreateFunctionUrlConfig`.
pub(super) async fn create(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let request = parse(&bytes(body)?)?;
    let view = context.run(move |context| {
        let (control, caller) = (&context.control, &context.caller);
        let url = control.create_url(caller, &name, context.qualifier(), request)?;
        let mut view = show(context, &url);
        // Lambda does not say it of what has just been made.
        view.as_object_mut().map(|view| view.remove("LastModifiedTime"));
        Ok(view)
    });
    Ok((StatusCode::CREATED, Json(view.await?)))
}

/// `UpdateFunctionUrlConfig`.
pub(super) async fn update(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let request = parse(&bytes(body)?)?;
    let view = context.run(move |context| {
        let (control, caller) = (&context.control, &context.caller);
        let url = control.update_url(caller, &name, context.qualifier(), request)?;
        Ok(show(context, &url))
    });
    Ok(Json(view.await?))
}

/// `GetFunctionUrlConfig`.
pub(super) async fn get(
    context: Context,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let url = context.control.get_url(&context.caller, &name, context.qualifier())?;
    Ok(Json(show(&context, &url)))
}

/// `ListFunctionUrlConfigs`.
pub(super) async fn list(
    context: Context,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let page = context.control.list_urls(&context.caller, &name, context.paging()?)?;
    Ok(Json(view::page("FunctionUrlConfigs", &page, |url| show(&context, url))))
}

/// `DeleteFunctionUrlConfig`.
pub(super) async fn delete(
    context: Context,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let done = context.run(move |context| {
        context.control.delete_url(&context.caller, &name, context.qualifier())
    });
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}

fn show(context: &Context, url: &NamedUrl) -> Value {
    view::url(url, &context.origin, context.control.url_domain())
}
