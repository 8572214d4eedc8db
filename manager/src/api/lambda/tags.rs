//! Tags and account settings over HTTP.

use axum::Json;
use axum::extract::Path;
use http::StatusCode;
use serde_json::{Value, json};

use super::context::{Body, Context, bytes, parse};
use super::view;
use crate::api::ApiError;
use crate::control::request::Tags;

/// `TagResource`.
pub(super) async fn tag(
    context: Context,
    Path(resource): Path<String>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let Tags { tags } = parse(&bytes(body)?)?;
    context.run(move |context| context.control.tag(&context.caller, &resource, tags)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `UntagResource`.
pub(super) async fn untag(
    context: Context,
    Path(resource): Path<String>,
) -> Result<StatusCode, ApiError> {
    let done = context.run(move |context| {
        let keys: Vec<&str> = context.query_all("tagKeys").collect();
        context.control.untag(&context.caller, &resource, &keys)
    });
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `ListTags`.
pub(super) async fn list(
    context: Context,
    Path(resource): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let tags = context.control.list_tags(&context.caller, &resource)?;
    Ok(Json(json!({ "Tags": tags })))
}

/// `GetAccountSettings`.
pub(super) async fn account_settings(context: Context) -> Result<Json<Value>, ApiError> {
    let settings = context.run(|context| context.control.account_settings(&context.caller));
    Ok(Json(view::account_settings(&settings.await?)))
}
