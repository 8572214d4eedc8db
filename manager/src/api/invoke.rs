//! `Invoke`, as AWS Lambda's clients make it, and `InvokeWithResponseStream` ([`stream`]).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, body::Body};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use calve_proto::limits::MAX_BODY;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{ApiError, ThrottleReason};
use crate::auth::Caller;
use crate::clock::now;
use crate::engine::{EngineError, chain};
use crate::events::MOST_WAITING;
use crate::host::Host;
use crate::idempotent::{KEY_HEADER, OwnKey};
use crate::invoke::{Invocation, Invoked, Replay};
use crate::ledger::{LedgerError, Message};

mod frames;
mod stream;

/// The largest event of an asynchronous call: AWS Lambda's 1 MB.
const MOST_ASYNC: usize = 1 << 20;
/// The longest routing value and trace header.
const LONGEST: usize = 512;

/// The call's id, as every answer has it.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(super) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// Whether a call is to be waited for, taken in, or only checked.
const INVOCATION_TYPE: &str = "x-amz-invocation-type";

pub(super) fn routes() -> Router<Arc<Host>> {
    Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .route("/2021-11-15/functions/{name}/response-streaming-invocations", post(stream::invoke))
        // `InvokeAsync`, which AWS has deprecated and clients still have.
        .route("/2014-11-13/functions/{name}/invoke-async", post(invoke_async))
        .route("/2014-11-13/functions/{name}/invoke-async/", post(invoke_async))
}

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "Qualifier")]
    qualifier: Option<String>,
}

/// What a call is made of.
type Incoming = (State<Arc<Host>>, Extension<Caller>, Path<String>, Query<Asked>, HeaderMap, Bytes);

async fn invoke(incoming: Incoming) -> Response {
    let answer = async |asked: Request, headers: HeaderMap| match header(&headers, INVOCATION_TYPE)
    {
        None | Some("RequestResponse") => asked.answer(&headers).await,
        Some("Event") => match own_key(&headers) {
            Ok(key) => asked.take_in(key).await,
            Err(error) => Err(error),
        },
        Some("DryRun") => asked.dry_run(),
        Some(other) => Err(ApiError::invalid(format!(
            "X-Amz-Invocation-Type: {other:.64} is none of RequestResponse, Event, DryRun"
        ))),
    };
    respond(incoming, answer).await
}

/// The answer to a call, with the ids that it goes by.
async fn respond<F: Future<Output = Result<Response, ApiError>>>(
    (State(host), Extension(caller), Path(name), Query(Asked { qualifier }), headers, event): Incoming,
    answer: impl FnOnce(Request, HeaderMap) -> F,
) -> Response {
    let request = Uuid::new_v4().to_string();
    let trace = trace(&headers, &request);
    let qualifier = qualifier.filter(|qualifier| !qualifier.is_empty());
    let asked = Request {
        host,
        caller,
        name,
        qualifier,
        event,
        request: request.clone(),
        trace: trace.clone(),
    };
    let answer = answer(asked, headers).await;
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    insert(response.headers_mut(), REQUEST_ID, &request);
    insert(response.headers_mut(), TRACE_ID, &trace);
    response
}

async fn invoke_async(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    event: Bytes,
) -> Response {
    let request = Uuid::new_v4().to_string();
    let trace = trace(&headers, &request);
    let asked =
        Request { host, caller, name, qualifier: None, event, request: request.clone(), trace };
    let mut response = match asked.take_in(None).await {
        Ok(_) => {
            (StatusCode::ACCEPTED, axum::Json(serde_json::json!({ "Status": 202 }))).into_response()
        }
        Err(error) => error.into_response(),
    };
    insert(response.headers_mut(), REQUEST_ID, &request);
    response
}

/// A call as it was asked for.
struct Request {
    host: Arc<Host>,
    caller: Caller,
    name: String,
    qualifier: Option<String>,
    event: Bytes,
    request: String,
    trace: String,
}

impl Request {
    /// Makes the call and waits for it.
    async fn answer(self, headers: &HeaderMap) -> Result<Response, ApiError> {
        let host = self.host.clone();
        let invoked = host.invoke(self.invocation(headers).await?).await?;
        show(invoked, wants_logs(headers))
    }

    /// The call, if it can be made.
    async fn invocation(self, headers: &HeaderMap) -> Result<Invocation, ApiError> {
        let event = event(self.event, MAX_BODY).await?;
        let route = header(headers, "x-calve-route").map(str::to_owned);
        if route.as_ref().is_some_and(|route| route.is_empty() || route.len() > LONGEST) {
            return Err(ApiError::invalid(format!("X-Calve-Route: 1 to {LONGEST} bytes")));
        }
        let key = own_key(headers)?;
        Ok(Invocation {
            tenant: self.caller.tenant,
            name: self.name,
            qualifier: self.qualifier,
            event,
            request: self.request,
            trace: self.trace,
            route,
            key,
            results: None,
        })
    }

    /// Whether the call could be made.
    fn dry_run(&self) -> Result<Response, ApiError> {
        let Self { host, caller, name, qualifier, .. } = self;
        let tried = host.dry_run(&caller.tenant, name, qualifier.as_deref());
        tried.map(|()| StatusCode::NO_CONTENT.into_response())
    }

    /// Takes the call in, to be made when it is its turn.
    async fn take_in(self, key: Option<OwnKey>) -> Result<Response, ApiError> {
        let Self { host, caller, name, qualifier, event: given, request, trace } = self;
        let event = event(given, MOST_ASYNC).await?;
        let (function, qualifier) =
            host.control.named(&caller.tenant, &name, qualifier.as_deref())?;
        let now = now();
        let message = Message {
            id: request,
            tenant: caller.tenant,
            function,
            qualifier,
            event: event.to_vec(),
            created: now,
            due: now,
            tries: 0,
            source: String::new(),
            trace,
            key: key.map(|key| key.as_str().to_owned()).unwrap_or_default(),
        };
        let keeping = host.clone();
        let kept = spawn_blocking(move || {
            let (waiting, _) = keeping.ledger.backlog(&message.tenant, &message.function)?;
            if waiting >= MOST_WAITING {
                return Ok(false);
            }
            keeping.ledger.enqueue(&message).map(|()| true)
        });
        match kept.await {
            Ok(Ok(false)) => Err(ApiError::throttled(
                ThrottleReason::FunctionRate,
                format!("Rate Exceeded: {MOST_WAITING} asynchronous calls of {name} wait already"),
                60,
            )),
            Ok(Ok(true)) => {
                host.queue.wake();
                Ok(StatusCode::ACCEPTED.into_response())
            }
            Ok(Err(LedgerError::Missing { .. })) => {
                Err(ApiError::not_found(format!("Function not found: {name}")))
            }
            Ok(Err(error)) => {
                tracing::error!(error = chain(&error), "cannot take a call in");
                Err(ApiError::of(&error))
            }
            Err(_) => Err(ApiError::internal()),
        }
    }
}

/// An event that is within bounds and JSON; `{}` where there is none.
async fn event(event: Bytes, most: usize) -> Result<Bytes, ApiError> {
    if event.len() > most {
        return Err(ApiError::too_large(format!(
            "Request must be smaller than {most} bytes for the Invoke operation"
        )));
    }
    if event.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    // Parsing is linear: a small event is not worth a thread.
    const SMALL: usize = 64 << 10;
    if event.len() <= SMALL {
        return checked(event);
    }
    spawn_blocking(move || checked(event)).await.map_err(|_| ApiError::internal())?
}

fn checked(event: Bytes) -> Result<Bytes, ApiError> {
    match serde_json::from_slice::<IgnoredAny>(&event) {
        Ok(_) => Ok(event),
        Err(error) => {
            Err(ApiError::malformed(format!("Could not parse request body into json: {error}")))
        }
    }
}

/// The answer to a call that was made.
fn show(invoked: Invoked, wants_logs: bool) -> Result<Response, ApiError> {
    let Invoked { answer, version, start, machine, state_lost, logs, replay } = invoked;
    let answer = answer.map_err(|error| unanswered(&error))?;
    let (body, failed) = match answer.result {
        Ok(result) => (result, false),
        Err(failure) => (failure.body, true),
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    insert(headers, HeaderName::from_static("x-amz-executed-version"), &version);
    insert(headers, HeaderName::from_static("x-calve-machine"), &machine);
    insert(headers, HeaderName::from_static("x-calve-start"), start.as_str());
    if failed {
        // As AWS says of every failure of a managed runtime's function.
        insert(headers, HeaderName::from_static("x-amz-function-error"), "Unhandled");
    }
    if state_lost {
        insert(headers, HeaderName::from_static("x-calve-state-lost"), "true");
    }
    if let Some(replay) = replay {
        let how = match replay {
            Replay::Hit => "hit",
            Replay::Joined => "joined",
        };
        insert(headers, HeaderName::from_static("x-calve-idempotent"), how);
    }
    if wants_logs {
        insert(headers, HeaderName::from_static("x-amz-log-result"), &BASE64.encode(logs));
    }
    Ok(response)
}

/// That a call got no answer.
fn unanswered(error: &EngineError) -> ApiError {
    match error {
        EngineError::Request(error) => ApiError::malformed(error.to_string()),
        EngineError::TimedOut => ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "ServiceException",
            "the machine did not answer in time and was ended",
        ),
        _ => ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ServiceException",
            "the machine failed before it answered; the host's log says why. It may have run the function",
        ),
    }
}

fn wants_logs(headers: &HeaderMap) -> bool {
    header(headers, "x-amz-log-type") == Some("Tail")
}

/// The caller's idempotency key.
fn own_key(headers: &HeaderMap) -> Result<Option<OwnKey>, ApiError> {
    let key = headers.get(KEY_HEADER).map(|value| OwnKey::parse(value.as_bytes())).transpose();
    key.map_err(|error| ApiError::invalid(format!("{KEY_HEADER}: {error}")))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Adds a header whose value is ours; one that could not be written is left out.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The trace that the call is part of: the client's, or a new one (AWS X-Ray, "Tracing header").
pub(super) fn trace(headers: &HeaderMap, request: &str) -> String {
    if let Some(given) = header(headers, TRACE_ID.as_str()).filter(|given| given.len() <= LONGEST) {
        return given.to_owned();
    }
    let id: String = request.chars().filter(char::is_ascii_hexdigit).take(24).collect();
    format!("Root=1-{:08x}-{id}", now() / 1000)
}
