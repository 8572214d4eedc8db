//! The door: a layer of the HTTP server that lets no request through whose caller is not known.
//!
//! Who has no key does not get to send a body. The body is read whole, since the signature is over all of it, and goes
//! on with the request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::Utc;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::task::spawn_blocking;

use super::claim::{Claim, unrecognized};
use super::verify::{in_ledger, prove, verify};
use super::{Caller, Keyring};
use crate::api::ApiError;

/// The largest body, bytes: a zip file of 50 MiB in base64, and what is around it. Actions have lower limits.
pub const MOST_BODY: usize = 70 << 20;

/// The longest that a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bodies over this are hashed beside the runtime: at 1 GB/s, this much keeps its thread for a quarter of a millisecond.
const LARGE: usize = 256 << 10;

/// Lets a request through with a [`Caller`] among its extensions, or answers it with what is wrong. For
/// [`axum::middleware::from_fn_with_state`].
pub async fn authenticate(
    State(keyring): State<Arc<Keyring>>,
    request: Request,
    next: Next,
) -> Response {
    match admit(keyring, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The request with its caller, and its body in memory.
async fn admit(keyring: Arc<Keyring>, request: Request) -> Result<Request, ApiError> {
    // A body that comes slowly does not make its signature old.
    let now = Utc::now();
    let (mut parts, body) = request.into_parts();
    let claim = Claim::of(&parts.headers)?;
    if keyring.known(claim.key()).is_none() {
        let (keyring, id) = (Arc::clone(&keyring), claim.key().to_owned());
        if beside(move || keyring.find(&id)).await?.map_err(|error| in_ledger(&error))?.is_none() {
            // Without a key, nothing that is wrong depends on the body.
            let error = prove(&claim, None, &parts, &Bytes::new(), now).err();
            return Err(error.unwrap_or_else(unrecognized));
        }
    }
    if matches!(claim, Claim::Bearer { .. }) {
        // Its truth does not depend on the body: no byte of that is read before.
        prove(&claim, keyring.known(claim.key()), &parts, &Bytes::new(), now)?;
    }
    let body = read(body, MOST_BODY, PATIENCE).await?;
    let caller = if body.len() > LARGE {
        let (copy, body) = (parts.clone(), body.clone());
        beside(move || verify(&keyring, &copy, &body, now)).await??
    } else {
        verify(&keyring, &parts, &body, now)?
    };
    parts.extensions.insert::<Caller>(caller);
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// Does what blocks on a thread where it may.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    spawn_blocking(work).await.map_err(|_| ApiError::internal())
}

/// Reads a body of up to `most` bytes that arrives within `patience`.
pub(super) async fn read(body: Body, most: usize, patience: Duration) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::too_large(format!("Request must be smaller than {most} bytes"));
    // It says so itself (Content-Length): there is no need to wait for it.
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(patience, Limited::new(body, most).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::malformed("The body ended before it was complete.")),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeoutException",
            format!("The body did not arrive within {} seconds.", patience.as_secs()),
        )),
    }
}
