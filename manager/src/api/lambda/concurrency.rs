//! Concurrency over HTTP.

use axum::Json;
use axum::extract::Path;
use http::StatusCode;
use serde_json::{Value, json};

use super::context::{Body, Context, bytes, parse};
use super::view;
use crate::api::ApiError;

/// `PutFunctionConcurrency`.
pub(super) async fn put(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let request = parse(&bytes(body)?)?;
    let reserved = context
        .run(move |context| context.control.put_concurrency(&context.caller, &name, &request));
    Ok(Json(json!({ "ReservedConcurrentExecutions": reserved.await? })))
}

/// `GetFunctionConcurrency`.
pub(super) async fn get(
    context: Context,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let reserved = context.control.get_concurrency(&context.caller, &name)?;
    Ok(Json(match reserved {
        Some(reserved) => json!({ "ReservedConcurrentExecutions": reserved }),
        None => json!({}),
    }))
}

/// `DeleteFunctionConcurrency`.
pub(super) async fn delete(
    context: Context,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let done =
        context.run(move |context| context.control.delete_concurrency(&context.caller, &name));
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PutProvisionedConcurrencyConfig`.
pub(super) async fn put_provisioned(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let request = parse(&bytes(body)?)?;
    let provisioned = context.run(move |context| {
        context.control.put_provisioned(&context.caller, &name, context.qualifier(), &request)
    });
    Ok((StatusCode::ACCEPTED, Json(view::provisioned(&provisioned.await?, false))))
}

/// `GetProvisionedConcurrencyConfig`, and with `List=ALL` in the query `ListProvisionedConcurrencyConfigs`.
pub(super) async fn get_provisioned(
    context: Context,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let (control, caller) = (&context.control, &context.caller);
    if context.query("List") == Some("ALL") {
        let page = control.list_provisioned(caller, &name, context.paging()?)?;
        let key = "ProvisionedConcurrencyConfigs";
        return Ok(Json(view::page(key, &page, |item| view::provisioned(item, true))));
    }
    let provisioned = control.get_provisioned(caller, &name, context.qualifier())?;
    Ok(Json(view::provisioned(&provisioned, false)))
}

/// `DeleteProvisionedConcurrencyConfig`.
pub(super) async fn delete_provisioned(
    context: Context,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let done = context.run(move |context| {
        context.control.delete_provisioned(&context.caller, &name, context.qualifier())
    });
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}
