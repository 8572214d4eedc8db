//! Our own routes: what AWS Lambda has no word for.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::ApiError;
use crate::auth::Caller;
use crate::clock::now;
use crate::engine::chain;
use crate::host::Host;
use crate::idempotent::Idempotency;
use crate::ledger::LedgerError;
use crate::model::{Millis, Policy, Reuse, Routing};

/// Calls that are shown at most.
const MOST: usize = 100;

pub(super) fn routes() -> Router<Arc<Host>> {
    Router::new()
        .route("/calve/v1/functions/{name}/policy", put(set_policy).get(policy))
        .route("/calve/v1/functions/{name}/queue", get(queue))
        .route("/calve/v1/functions/{name}/dead-letters", get(dead_letters))
        .route("/calve/v1/functions/{name}/invocations", get(invocations))
        .route("/calve/v1/invocations", get(all_invocations))
        .route("/calve/v1/top", get(top))
}

async fn policy(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Policy>, ApiError> {
    let (name, _) = host.control.named(&caller.tenant, &name, None)?;
    let function = host.control.catalog().get(&caller.tenant, &name);
    function.map(|function| Json(function.policy.clone())).ok_or_else(|| missing(&name))
}

/// A policy as it is set: nothing is guessed, so that nobody believes in a setting that is none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    reuse: Reuse,
    #[serde(default)]
    routing: Routing,
    #[serde(default)]
    idempotency: Option<Idempotency>,
}

/// Sets what machines may be used for. Machines of before are ended: nothing of them is reused under another policy.
async fn set_policy(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Policy>, ApiError> {
    let wanted = serde_json::from_slice(&body)
        .map_err(|error| ApiError::malformed(format!("the policy cannot be read: {error}")))?;
    let Wanted { reuse, routing, idempotency } = wanted;
    if let Some(idempotency) = &idempotency {
        let checked = idempotency.check();
        checked.map_err(|error| ApiError::invalid(format!("idempotency: {error}")))?;
    }
    let policy = Policy { reuse, routing, idempotency };
    let (changing, new) = (host.clone(), policy.clone());
    let changed = spawn_blocking(move || changing.control.put_policy(&caller, &name, new));
    let function = changed.await.map_err(|_| ApiError::internal())??;
    host.renew(&function);
    Ok(Json(policy))
}

async fn queue(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let (name, _) = host.control.named(&caller.tenant, &name, None)?;
    let done = host.queue.done(&caller.tenant, &name);
    let looked = spawn_blocking(move || {
        let (waiting, oldest) = host.ledger.backlog(&caller.tenant, &name)?;
        let dead = host.ledger.dead(&caller.tenant, &name)?;
        let oldest_age_ms = oldest.map(|oldest| now().saturating_sub(oldest));
        let state = json!({ "waiting": waiting, "dead": dead, "done": done, "oldest_age_ms": oldest_age_ms });
        Ok::<_, LedgerError>(state)
    });
    answered(looked.await)
}

/// Bytes of events that are shown at most.
const MOST_BYTES: usize = 4 << 20;

/// A dead letter as it is shown. Its event is written as it was, not taken apart.
#[derive(Serialize)]
struct Letter {
    request: String,
    qualifier: String,
    created_ms: Millis,
    buried_ms: Millis,
    tries: u32,
    reason: String,
    event: Option<Box<RawValue>>,
}

async fn dead_letters(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Vec<Letter>>, ApiError> {
    let (name, _) = host.control.named(&caller.tenant, &name, None)?;
    let looked = spawn_blocking(move || {
        let letters = host.ledger.dead_letters(&caller.tenant, &name, MOST)?;
        let mut bytes = 0;
        let shown = letters.into_iter().take_while(|letter| {
            bytes += letter.message.event.len();
            bytes <= MOST_BYTES
        });
        let shown = shown.map(|letter| Letter {
            request: letter.message.id,
            qualifier: letter.message.qualifier,
            created_ms: letter.message.created,
            buried_ms: letter.buried,
            tries: letter.message.tries,
            reason: letter.reason,
            event: serde_json::from_slice(&letter.message.event).ok(),
        });
        Ok::<_, LedgerError>(shown.collect())
    });
    answered(looked.await)
}

async fn invocations(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let (name, _) = host.control.named(&caller.tenant, &name, None)?;
    Ok(Json(host.recents.of(&caller.tenant, Some(&name), MOST)).into_response())
}

async fn all_invocations(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    Json(host.recents.of(&caller.tenant, None, MOST)).into_response()
}

#[derive(Deserialize)]
struct Which {
    tenant: Option<String>,
}

/// Machines, what waits, and the functions: of the caller's tenant; of any or of all, for a root key.
async fn top(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
    Query(Which { tenant }): Query<Which>,
) -> Result<Json<Value>, ApiError> {
    let tenant = match tenant {
        Some(other) if other != caller.tenant && !caller.root => {
            return Err(ApiError::not_found(format!("there is no tenant {other:.63}")));
        }
        other => other.or(Some(caller.tenant).filter(|_| !caller.root)),
    };
    let counts = host.dispatcher.counts(tenant.as_deref()).await;
    let (looking, whose) = (host.clone(), tenant.clone());
    let queued = spawn_blocking(move || match whose {
        Some(tenant) => looking.ledger.length_of(&tenant),
        None => looking.ledger.length().map(|(queued, _)| queued),
    });
    let queued = queued.await.ok().and_then(Result::ok);
    let catalog = host.control.catalog();
    let theirs = tenant.map_or_else(|| catalog.all(), |tenant| catalog.list(&tenant));
    let shown = theirs.iter().filter_map(|function| {
        let window = host.percentiles.find(&function.tenant, &function.name)?;
        let (tally, summary) = (window.tally(), window.summary());
        let ms = |took: Duration| took.as_secs_f64() * 1000.0;
        Some(json!({
            "tenant": function.tenant,
            "name": function.name,
            "calls": tally.calls,
            "errors": tally.errors,
            "p50_ms": summary.map(|summary| ms(summary.p50)),
            "p99_ms": summary.map(|summary| ms(summary.p99)),
        }))
    });
    let mut shown: Vec<Value> = shown.collect();
    shown.sort_by_key(|function| std::cmp::Reverse(function["calls"].as_u64()));
    shown.truncate(MOST);
    Ok(Json(json!({
        "machines": {
            "booting": counts.booting,
            "warm": counts.warm,
            "idle": counts.idle,
            "busy": counts.busy,
            "leaving": counts.leaving,
        },
        "waiting": counts.waiting,
        "queue": queued,
        "functions": shown,
    })))
}

fn missing(name: &str) -> ApiError {
    ApiError::not_found(format!("Function not found: {name}"))
}

/// What was found in the ledger.
fn answered<T>(
    looked: Result<Result<T, LedgerError>, tokio::task::JoinError>,
) -> Result<Json<T>, ApiError> {
    match looked {
        Ok(Ok(value)) => Ok(Json(value)),
        Ok(Err(error)) => {
            tracing::error!(error = chain(&error), "cannot look into the ledger");
            Err(ApiError::of(&error))
        }
        Err(_) => Err(ApiError::internal()),
    }
}
