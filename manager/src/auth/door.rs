//! The door: a layer of the HTTP server that lets no request through whose caller is not known.
//!
//! Who has no key does not get to send a body, nor does one whose signature cannot be right whatever the body is. The body
//! is read whole, since the signature is over all of it, and goes on with the request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::Utc;
use tokio::task::spawn_blocking;

use super::bodies::{Bodies, Pace, read};
use super::claim::{Claim, TOKEN, unrecognized};
use super::verify::{in_ledger, prove, verify};
use super::{Caller, Keyring};
use crate::api::ApiError;

/// The largest body, bytes: a zip file of 50 MiB in base64, and what is around it. Actions have lower limits.
pub const MOST_BODY: usize = 70 << 20;

/// How a body of up to `most` bytes has to come.
const fn pace(most: usize) -> Pace {
    Pace { most, whole: Duration::from_secs(60), pause: Duration::from_secs(10) }
}

/// Bodies over this are hashed beside the runtime: at 1 GB/s, this much keeps its thread for a quarter of a millisecond.
pub(crate) const LARGE: usize = 256 << 10;

/// What the door needs to know. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    keyring: Arc<Keyring>,
    bodies: Arc<Bodies>,
    /// Of requests that need no key: strangers take no room from those who have one.
    open: Arc<Bodies>,
}

/// What part of the room strangers have, besides the others'.
const OPEN: u32 = 4;

impl Door {
    /// The door of those who have a key, at which bodies get `bodies_mib` of memory together, MiB.
    pub fn new(keyring: Arc<Keyring>, bodies_mib: u32) -> Self {
        let (bodies, open) = (Bodies::new(bodies_mib), Bodies::new(bodies_mib.div_ceil(OPEN)));
        Self { keyring, bodies: Arc::new(bodies), open: Arc::new(open) }
    }
}

/// Lets a request through with a [`Caller`] among its extensions, or answers it with what is wrong. For
/// [`axum::middleware::from_fn_with_state`].
pub async fn authenticate(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.admit(request, MOST_BODY).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

impl Door {
    /// The request with its caller, and its body of up to `most` bytes in memory.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or with whoever sent it.
    pub(crate) async fn admit(&self, request: Request, most: usize) -> Result<Request, ApiError> {
        let Self { keyring, bodies, .. } = self.clone();
        // A body that comes slowly does not make its signature old.
        let now = Utc::now();
        let (mut parts, body) = request.into_parts();
        let claim = Claim::of(&parts.headers)?;
        if keyring.known(claim.key()).is_none() {
            let (keyring, id) = (Arc::clone(&keyring), claim.key().to_owned());
            if beside(move || keyring.find(&id))
                .await?
                .map_err(|error| in_ledger(&error))?
                .is_none()
            {
                // Without a key, nothing that is wrong depends on the body.
                let error = prove(&claim, None, &parts, &Bytes::new(), now).err();
                return Err(error.unwrap_or_else(unrecognized));
            }
        }
        match &claim {
            // Its truth does not depend on the body: no byte of that is read before.
            Claim::Bearer { .. } => {
                prove(&claim, keyring.known(claim.key()), &parts, &Bytes::new(), now)?;
            }
            // Neither does what is wrong with this one. Should nothing be, then only the key is missing.
            Claim::Signed { .. } if !claim.may_be_true(&parts.headers, now) => {
                let error = prove(&claim, None, &parts, &Bytes::new(), now).err();
                let error = error.unwrap_or_else(unrecognized);
                if error != unrecognized() || parts.headers.contains_key(TOKEN) {
                    return Err(error);
                }
            }
            Claim::Signed { .. } => {}
        }
        let mut room = bodies.room(claim.key());
        let body = read(body, pace(most), &mut room).await?;
        let caller = if body.len() > LARGE {
            let (copy, body) = (parts.clone(), body.clone());
            beside(move || verify(&keyring, &copy, &body, now)).await??
        } else {
            verify(&keyring, &parts, &body, now)?
        };
        drop(room);
        parts.extensions.insert::<Caller>(caller);
        Ok(Request::from_parts(parts, Body::from(body)))
    }

    /// The body, of up to `most` bytes, of a request that needs no key. All those that come to one tenant share half of
    /// the room that there is for such.
    ///
    /// # Errors
    ///
    /// When it is too large or too slow, or there is no room for it.
    pub(crate) async fn take(
        &self,
        tenant: &str,
        body: Body,
        most: usize,
    ) -> Result<Bytes, ApiError> {
        let mut room = self.open.room(tenant);
        read(body, pace(most), &mut room).await
    }
}

/// Does what blocks, or takes long, on a thread where it may.
pub(crate) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    spawn_blocking(work).await.map_err(|_| ApiError::internal())
}
