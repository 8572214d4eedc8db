//! Functions over HTTP.

use axum::Json;
use axum::extract::Path;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use serde_json::Value;

use super::context::{Body, Context, bytes, parse};
use super::view;
use crate::api::ApiError;

type Answer = Result<Json<Value>, ApiError>;

/// `CreateFunction`.
pub(super) async fn create(
    context: Context,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let body = bytes(body)?;
    let view = context.run(move |context| {
        let (request, settings) = (parse(&body)?, parse(&body)?);
        drop(body);
        let chosen = context.control.create(&context.caller, request, settings)?;
        Ok(view::configuration(&context.control.scope(&context.caller), &chosen))
    });
    Ok((StatusCode::CREATED, Json(view.await?)))
}

/// `ListFunctions`.
pub(super) async fn list(context: Context) -> Answer {
    let all = match context.query("FunctionVersion") {
        None => false,
        Some("ALL") => true,
        Some(_) => return Err(ApiError::invalid("FunctionVersion has to be ALL, or left out")),
    };
    let page = context.control.list(&context.caller, all, context.paging()?)?;
    let scope = context.control.scope(&context.caller);
    Ok(Json(view::page("Functions", &page, |chosen| view::configuration(&scope, chosen))))
}

/// `GetFunction`.
pub(super) async fn get(context: Context, Path(name): Path<String>) -> Answer {
    let chosen = context.control.choose(&context.caller, &name, context.qualifier())?;
    let scope = context.control.scope(&context.caller);
    Ok(Json(view::function(&scope, &chosen, &context.origin)))
}

/// `GetFunctionConfiguration`.
pub(super) async fn get_configuration(context: Context, Path(name): Path<String>) -> Answer {
    let chosen = context.control.choose(&context.caller, &name, context.qualifier())?;
    Ok(Json(view::configuration(&context.control.scope(&context.caller), &chosen)))
}

/// `UpdateFunctionCode`.
pub(super) async fn update_code(context: Context, Path(name): Path<String>, body: Body) -> Answer {
    let body = bytes(body)?;
    let view = context.run(move |context| {
        let (package, request) = (parse(&body)?, parse(&body)?);
        drop(body);
        let chosen = context.control.update_code(&context.caller, &name, package, &request)?;
        Ok(view::configuration(&context.control.scope(&context.caller), &chosen))
    });
    Ok(Json(view.await?))
}

/// `UpdateFunctionConfiguration`.
pub(super) async fn update_configuration(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Answer {
    let body = bytes(body)?;
    let view = context.run(move |context| {
        let (settings, precondition) = (parse(&body)?, parse(&body)?);
        let (control, caller) = (&context.control, &context.caller);
        let chosen = control.update_configuration(caller, &name, settings, &precondition)?;
        Ok(view::configuration(&control.scope(caller), &chosen))
    });
    Ok(Json(view.await?))
}

/// `DeleteFunction`.
pub(super) async fn delete(
    context: Context,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let done = context
        .run(move |context| context.control.delete(&context.caller, &name, context.qualifier()));
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The package that `GetFunction`'s `Code.Location` leads to.
pub(super) async fn package(
    context: Context,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let package = context.run(move |context| {
        let chosen = context.control.choose(&context.caller, &name, context.qualifier())?;
        context.control.package(&context.caller, &chosen)
    });
    Ok(([(header::CONTENT_TYPE, "application/zip")], package.await?))
}
