//! Bodies on their way in. A signature is over all of a body, so that it is in memory before anybody knows whose it is.
//!
//! All bodies together get so much memory and no more. One that says how long it is has room before its first byte is read; of
//! others, room is found as they come. What finds none waits for a moment and is sent away to try again. A key's id is no
//! secret: half of the room is the most that is given to bodies which claim the same one, so that nobody is kept out by
//! what others do in their own name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::ApiError;

/// The unit of room, bytes.
const UNIT: usize = 1 << 10;

/// A body up to this needs no room: with one on each connection that there may be, they are 64 MiB.
const SMALL: usize = 16 << 10;

/// How much more room is looked for, at the least, for a body that does not say how long it is.
const STEP: usize = 64 << 10;

/// The longest that a body waits for room.
const WAIT: Duration = Duration::from_secs(2);

/// Seconds after which to try again where there was no room.
const AGAIN: u32 = 1;

/// Keys whose share is remembered though nobody uses it, before they are looked through.
const IDLE_SHARES: usize = 64;

/// The room that there is for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    all: Arc<Semaphore>,
    /// What one key's bodies have of it, in units.
    share: u32,
    /// By key.
    shares: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// How a body has to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Bytes that it may have.
    pub(super) most: usize,
    /// The longest that all of it may take.
    pub(super) whole: Duration,
    /// The longest that nothing of it may come.
    pub(super) pause: Duration,
}

/// Room that a body has; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Room<'a> {
    bodies: &'a Bodies,
    own: Arc<Semaphore>,
    bytes: usize,
    held: Vec<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Room for so many MiB.
    pub(super) fn new(mib: u32) -> Self {
        Self::of_units(mib.saturating_mul(1 << 10))
    }

    /// Room for so many KiB.
    pub(super) fn of_units(units: u32) -> Self {
        let all = Arc::new(Semaphore::new(units as usize));
        Self { all, share: units / 2, shares: Mutex::default() }
    }

    /// No room yet, for a body that claims this key.
    pub(super) fn room(&self, key: &str) -> Room<'_> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let there = shares.get(key).and_then(Weak::upgrade);
        let own = there.unwrap_or_else(|| {
            if shares.len() >= IDLE_SHARES {
                shares.retain(|_, share| share.strong_count() > 0);
            }
            let own = Arc::new(Semaphore::new(self.share as usize));
            shares.insert(key.to_owned(), Arc::downgrade(&own));
            own
        });
        Room { bodies: self, own, bytes: 0, held: Vec::new() }
    }
}

impl Room<'_> {
    /// Sees to it that there is room for `bytes` in all.
    async fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes <= self.bytes.max(SMALL) {
            return Ok(());
        }
        if bytes.div_ceil(UNIT) > self.bodies.share as usize {
            let most = self.bodies.share as usize * UNIT;
            return Err(ApiError::too_large(format!(
                "This host takes bodies of up to {most} bytes"
            )));
        }
        let units = (bytes - self.bytes).div_ceil(UNIT);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let found = timeout(WAIT, async {
            let own = self.own.clone().acquire_many_owned(units).await;
            [own, self.bodies.all.clone().acquire_many_owned(units).await]
        });
        let Ok([Ok(own), Ok(all)]) = found.await else { return Err(no_room()) };
        self.held.extend([own, all]);
        self.bytes += units as usize * UNIT;
        Ok(())
    }
}

/// Reads a body.
pub(super) async fn read(
    mut body: Body,
    pace: Pace,
    room: &mut Room<'_>,
) -> Result<Bytes, ApiError> {
    let too_large =
        || ApiError::too_large(format!("Request must be smaller than {} bytes", pace.most));
    let hint = body.size_hint();
    // It says so itself (Content-Length): there is no need to wait for it.
    if hint.lower() > pace.most as u64 {
        return Err(too_large());
    }
    let length = hint.exact().and_then(|length| usize::try_from(length).ok());
    room.grow(length.unwrap_or(0)).await?;
    let end = Instant::now() + pace.whole;
    // What comes in one piece is not copied.
    let (mut first, mut whole, mut bytes) = (Bytes::new(), BytesMut::new(), 0);
    loop {
        let next = timeout_at(end.min(Instant::now() + pace.pause), body.frame()).await;
        let frame = match next {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(ApiError::malformed("The body ended before it was complete."));
            }
            Err(_) => return Err(too_slow(pace)),
        };
        // Trailers say nothing to us.
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len();
        if bytes > pace.most {
            return Err(too_large());
        }
        if bytes > room.bytes.max(SMALL) {
            room.grow(bytes.saturating_add(STEP).min(pace.most)).await?;
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(length.unwrap_or(bytes));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

fn too_slow(pace: Pace) -> ApiError {
    let text = format!(
        "The body did not arrive within {} seconds, or nothing of it for {}.",
        pace.whole.as_secs(),
        pace.pause.as_secs()
    );
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException", text)
}

fn no_room() -> ApiError {
    let text = "too many bodies are being received at the moment; try again";
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceException", text);
    ApiError { retry_after: Some(AGAIN), ..error }
}
