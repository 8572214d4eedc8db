//! Layers over HTTP.

use axum::Json;
use axum::extract::Path;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use super::context::{Body, Context, bytes, parse};
use super::view;
use crate::api::{ApiError, timestamp};
use crate::control::{Wanted, base64_digest};
use crate::model::LayerVersion;

type Answer = Result<Json<Value>, ApiError>;

/// `PublishLayerVersion`.
pub(super) async fn publish(
    context: Context,
    Path(name): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let body = bytes(body)?;
    let view = context.run(move |context| {
        let request = parse(&body)?;
        drop(body);
        let layer = context.control.publish_layer(&context.caller, &name, request)?;
        Ok(with_content(context, &layer))
    });
    Ok((StatusCode::CREATED, Json(view.await?)))
}

/// `ListLayers`; with `find=LayerVersion`, `GetLayerVersionByArn`.
pub(super) async fn list_or_find(context: Context) -> Answer {
    let view = context.run(|context| match context.query("find") {
        Some("LayerVersion") => {
            let arn = context.query("Arn").ok_or_else(|| ApiError::invalid("Arn is missing"))?;
            let layer = context.control.layer_by_arn(&context.caller, arn)?;
            Ok(with_content(context, &layer))
        }
        Some(_) => Err(ApiError::invalid("find has to be LayerVersion, or left out")),
        None => {
            let (wanted, paging) = (wanted(context), context.paging()?);
            let page = context.control.list_layers(&context.caller, wanted, paging)?;
            Ok(view::page("Layers", &page, |layer| in_layers(context, layer)))
        }
    });
    Ok(Json(view.await?))
}

/// `ListLayerVersions`.
pub(super) async fn list_versions(context: Context, Path(name): Path<String>) -> Answer {
    let view = context.run(move |context| {
        let (control, wanted, paging) = (&context.control, wanted(context), context.paging()?);
        let page = control.list_layer_versions(&context.caller, &name, wanted, paging)?;
        Ok(view::page("LayerVersions", &page, |layer| Value::Object(item(context, layer))))
    });
    Ok(Json(view.await?))
}

/// `GetLayerVersion`.
pub(super) async fn get(context: Context, Path((name, number)): Path<(String, String)>) -> Answer {
    let view = context.run(move |context| {
        let layer = context.control.layer(&context.caller, &name, &number)?;
        Ok(with_content(context, &layer))
    });
    Ok(Json(view.await?))
}

/// `DeleteLayerVersion`.
pub(super) async fn delete(
    context: Context,
    Path((name, number)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let done =
        context.run(move |context| context.control.delete_layer(&context.caller, &name, &number));
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The package that `Content.Location` leads to.
pub(super) async fn package(
    context: Context,
    Path((name, number)): Path<(String, String)>,
) -> Result<impl IntoResponse, ApiError> {
    let package = context.run(move |context| {
        let layer = context.control.layer(&context.caller, &name, &number)?;
        context.control.layer_package(&layer)
    });
    Ok(([(header::CONTENT_TYPE, "application/zip")], package.await?))
}

/// `CompatibleRuntime` and `CompatibleArchitecture`.
fn wanted(context: &Context) -> Wanted<'_> {
    Wanted {
        runtime: context.query("CompatibleRuntime"),
        architecture: context.query("CompatibleArchitecture"),
    }
}

/// A `LayerVersionsListItem`.
fn item(context: &Context, layer: &LayerVersion) -> Map<String, Value> {
    let scope = context.control.scope(&context.caller);
    let mut view = Map::new();
    let mut set = |name: &str, value: Value| view.insert(name.to_owned(), value);
    set("LayerVersionArn", json!(scope.layer_version_arn(&layer.name, layer.number)));
    set("Version", json!(layer.number));
    set("Description", json!(layer.description));
    set("CreatedDate", json!(timestamp(layer.created)));
    if !layer.runtimes.is_empty() {
        set("CompatibleRuntimes", json!(layer.runtimes));
    }
    if !layer.architectures.is_empty() {
        set("CompatibleArchitectures", json!(layer.architectures));
    }
    if !layer.license.is_empty() {
        set("LicenseInfo", json!(layer.license));
    }
    view
}

/// A `LayersListItem`.
fn in_layers(context: &Context, layer: &LayerVersion) -> Value {
    json!({
        "LayerName": layer.name,
        "LayerArn": context.control.scope(&context.caller).layer_arn(&layer.name),
        "LatestMatchingVersion": item(context, layer),
    })
}

/// A `GetLayerVersionResponse`, which is a `PublishLayerVersionResponse`, too.
fn with_content(context: &Context, layer: &LayerVersion) -> Value {
    let LayerVersion { name, number, code, .. } = layer;
    let mut view = item(context, layer);
    let arn = context.control.scope(&context.caller).layer_arn(name);
    view.insert("LayerArn".to_owned(), json!(arn));
    let origin = &context.origin;
    let content = json!({
        "Location": format!("{origin}/calve/v1/layers/{name}/versions/{number}/content"),
        "CodeSha256": base64_digest(code),
        "CodeSize": code.size,
    });
    view.insert("Content".to_owned(), content);
    Value::Object(view)
}
