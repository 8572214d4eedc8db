//! The routes: Lambda's event source mappings, and our own for all kinds of source and for queues.
//!
//! | route | what it does |
//! | --- | --- |
//! | `/2015-03-31/event-source-mappings[/{UUID}]` | `mappings`: as Lambda's `service-2.json` has them |
//! | `/calve/v1/sources[/{id}]` | `sources`: all kinds, with their settings |
//! | `/calve/v1/queues/{name}[/messages]` | `queues`: what is in a queue, and putting messages |

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::routing::{get, post};
use bytes::Bytes;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::{Events, MOST_PUT};
use crate::api::{ApiError, asked, blocking};
use crate::auth::Caller;

mod mappings;
mod queues;
mod sources;

/// Bytes of a request about a source.
const MOST_BODY: usize = 1 << 20;

/// The routes. Requests have the [`Caller`] among their extensions.
pub fn routes() -> Router<Arc<Events>> {
    let mappings = get(mappings::list).post(mappings::create);
    let mapping = || get(mappings::get).put(mappings::update).delete(mappings::delete);
    Router::new()
        // With and without a slash at the end: both are in use.
        .route("/2015-03-31/event-source-mappings", mappings.clone())
        .route("/2015-03-31/event-source-mappings/", mappings)
        .route("/2015-03-31/event-source-mappings/{id}", mapping())
        .route("/calve/v1/sources", get(sources::list).post(sources::create))
        .route(
            "/calve/v1/sources/{id}",
            get(sources::get).put(sources::update).delete(sources::delete),
        )
        .route("/calve/v1/queues/{name}", get(queues::get))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .merge(
            Router::new()
                .route("/calve/v1/queues/{name}/messages", post(queues::put))
                .layer(DefaultBodyLimit::max(MOST_PUT)),
        )
}

/// A request but for its path and body.
struct Context {
    events: Arc<Events>,
    caller: Caller,
    query: Vec<(String, String)>,
}

/// A request's body, or why there is none.
type Body = Result<Bytes, BytesRejection>;

impl Context {
    /// A parameter of the query; an empty one is none.
    fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Does something that blocks.
    async fn run<T: Send + 'static>(
        self,
        action: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        blocking(move || action(&self)).await
    }
}

impl FromRequestParts<Arc<Events>> for Context {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, events: &Arc<Events>) -> Result<Self, ApiError> {
        let (caller, query) = asked(parts)?;
        Ok(Self { events: events.clone(), caller, query })
    }
}

/// Reads a body that is a JSON document.
fn parse<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let body = body.map_err(|rejection| {
        if rejection.status() == http::StatusCode::PAYLOAD_TOO_LARGE {
            return ApiError::too_large("the body is larger than it may be");
        }
        ApiError::malformed(format!("the body cannot be read: {rejection}"))
    })?;
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    // To serde, an array is an object without names.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::malformed("Could not parse request body into json: it is no object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        ApiError::malformed(format!("Could not parse request body into json: {error}"))
    })
}

/// A parameter that has to be there.
fn required<T>(name: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::invalid(format!("{name} is missing")))
}
