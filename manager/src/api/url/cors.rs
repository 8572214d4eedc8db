//! What pages of other origins may do with an address (Fetch standard, section 3.2, "CORS protocol").
//!
//! Where its owner has said so, that counts, and not what the function says.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::Cors;

/// The answer to a browser that asks before it sends a request.
pub(super) fn preflight(cors: &Cors, origin: &HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    if permit(cors, origin, headers) {
        list(headers, ACCESS_CONTROL_ALLOW_METHODS, &cors.allow_methods);
        list(headers, ACCESS_CONTROL_ALLOW_HEADERS, &cors.allow_headers);
        if let Some(seconds) = cors.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, seconds.into());
        }
    }
    response
}

/// Says with an answer who may read it.
pub(super) fn allow(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) {
    for own in [
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE,
    ] {
        headers.remove(own);
    }
    if permit(cors, origin, headers) {
        list(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers);
    }
}

/// Says whether this origin may; whether it may.
fn permit(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) -> bool {
    // Never the origin itself in its place: a browser refuses cookies to everybody, and rightly so.
    let everybody = cors.allow_origins.iter().any(|allowed| allowed == "*");
    let allowed = everybody
        || cors.allow_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    if !everybody {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    if !allowed {
        return false;
    }
    let answer = if everybody { HeaderValue::from_static("*") } else { origin.clone() };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, answer);
    if cors.allow_credentials == Some(true) {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

/// A header with all of these, if there are any. They were checked when they were set.
fn list(headers: &mut HeaderMap, name: HeaderName, values: &[String]) {
    if values.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(&values.join(",")) {
        headers.insert(name, value);
    }
}
