//! What anybody may ask, and what watchers follow: health, metrics, changes of machines.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::{Stream, stream};
use http::{StatusCode, header};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::auth::Caller;
use crate::dispatch::Change;
use crate::host::Host;
use crate::metrics::{CONTENT_TYPE, MachineState};

use super::ApiError;

/// Without a key: for load balancers.
pub(super) fn open_routes() -> Router<Arc<Host>> {
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready))
}

pub(super) fn routes() -> Router<Arc<Host>> {
    Router::new().route("/metrics", get(metrics)).route("/calve/v1/events", get(events))
}

/// Whether calls are taken: not while the host is being shut down.
async fn ready(State(host): State<Arc<Host>>) -> Response {
    match host.is_draining() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
        false => "ready\n".into_response(),
    }
}

/// Of all tenants, so for root keys.
async fn metrics(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    if !caller.root {
        return Err(forbidden());
    }
    let counts = host.dispatcher.counts(None).await;
    for (state, machines) in [
        (MachineState::Booting, counts.booting),
        (MachineState::Warm, counts.warm),
        (MachineState::Idle, counts.idle),
        (MachineState::Busy, counts.busy),
        (MachineState::Draining, counts.leaving),
    ] {
        host.metrics.set_machines(state, machines as u64);
    }
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], host.metrics.render()).into_response())
}

/// Every change of a machine of the caller's tenant; of all, for root keys.
async fn events(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // Ends with the host, which would wait for its connection otherwise.
    let watching = (host.dispatcher.watch(), host.end(), caller);
    let changes = stream::unfold(watching, |(mut changes, mut end, caller)| async {
        let event = tokio::select! {
            event = next(&mut changes, &caller) => event?,
            _ = end.wait_for(|end| *end) => return None,
        };
        Some((Ok(event), (changes, end, caller)))
    });
    Sse::new(changes).keep_alive(KeepAlive::default())
}

async fn next(changes: &mut Receiver<Change>, caller: &Caller) -> Option<Event> {
    loop {
        match changes.recv().await {
            Ok(change) if caller.root || *change.code.tenant == *caller.tenant => {
                let data = json!({
                    "machine": change.machine,
                    "tenant": &*change.code.tenant,
                    "function": &*change.code.function,
                    "state": format!("{:?}", change.state),
                });
                return Some(Event::default().event("machine").data(data.to_string()));
            }
            Ok(_) => {}
            // Whoever is too slow is told how many they have missed; but not how many others have.
            Err(RecvError::Lagged(missed)) => {
                let missed = if caller.root { missed.to_string() } else { "some".to_owned() };
                return Some(Event::default().event("missed").data(missed));
            }
            Err(RecvError::Closed) => return None,
        }
    }
}

fn forbidden() -> ApiError {
    let text = "this is of all tenants: it takes a root key";
    ApiError::new(StatusCode::FORBIDDEN, "AccessDeniedException", text)
}
