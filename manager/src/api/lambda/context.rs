//! What every handler needs of a request, with errors in Lambda's shape.

use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, State};
use bytes::Bytes;
use http::header;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::BODY_MOST;
use crate::api::{ApiError, asked, blocking};
use crate::auth::Caller;
use crate::control::Control;
use crate::control::page::Paging;

/// A request but for its path and body.
pub(super) struct Context {
    pub(super) control: Arc<Control>,
    pub(super) caller: Caller,
    query: Vec<(String, String)>,
    /// Scheme and host by which the client has reached us.
    pub(super) origin: String,
}

/// A request's body, or why there is none.
pub(super) type Body = Result<Bytes, BytesRejection>;

impl Context {
    /// A parameter of the query; an empty one is none.
    pub(super) fn query(&self, name: &'static str) -> Option<&str> {
        self.query_all(name).next().filter(|value| !value.is_empty())
    }

    /// Every value of a parameter that may be repeated.
    pub(super) fn query_all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `Qualifier`.
    pub(super) fn qualifier(&self) -> Option<&str> {
        self.query("Qualifier")
    }

    /// `Marker` and `MaxItems`.
    pub(super) fn paging(&self) -> Result<Paging<'_>, ApiError> {
        let most = self.query("MaxItems").map(str::parse).transpose();
        let most =
            most.map_err(|_| ApiError::invalid("MaxItems has to be a number, 1 to 10000"))?;
        Ok(Paging { marker: self.query("Marker"), most })
    }

    /// Has the control plane do something that blocks.
    pub(super) async fn run<T: Send + 'static>(
        self,
        action: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        blocking(move || action(&self)).await
    }
}

impl FromRequestParts<Arc<Control>> for Context {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, ApiError> {
        let State(control) = match State::from_request_parts(parts, control).await {
            Ok(state) => state,
            Err(never) => match never {},
        };
        let (caller, query) = asked(parts)?;
        Ok(Self { control, caller, query, origin: origin(parts) })
    }
}

fn origin(parts: &Parts) -> String {
    let value = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let secure = value("x-forwarded-proto") == Some("https");
    let named = value(header::HOST.as_str());
    let host = named.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
    format!("{}://{}", if secure { "https" } else { "http" }, host.unwrap_or("localhost"))
}

/// Reads a body that is a JSON document; an empty one has nothing in it.
pub(super) fn parse<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        // serde_json's text ends with "at line 1 column 5".
        ApiError::malformed(format!("Could not parse request body into json: {error}"))
    })
}

/// The bytes of a body.
pub(super) fn bytes(body: Body) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| {
        if rejection.status() == http::StatusCode::PAYLOAD_TOO_LARGE {
            return ApiError::too_large(format!("Request must be smaller than {BODY_MOST} bytes"));
        }
        ApiError::malformed(format!("the body cannot be read: {rejection}"))
    })
}
