//! The description of our own routes, for people and for generators of clients (OpenAPI 3.1).
//!
//! It is written by hand; tests hold it against the routes in the source, in both directions.

use axum::Router;
use axum::routing::get;
use http::header;

const DOCUMENT: &str = include_str!("openapi.json");

/// Without a key: it describes this program, not what anybody does with it.
pub(super) fn open_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let document = || async { ([(header::CONTENT_TYPE, "application/json")], DOCUMENT) };
    Router::new().route("/calve/v1/openapi.json", get(document))
}

#[cfg(test)]
mod tests;
