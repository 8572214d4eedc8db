//! Event source mappings, with the names and status codes of Lambda's `service-2.json`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::Path;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Body, Context, parse, required};
use crate::api::ApiError;
use crate::events::manage::with_batch_size;
use crate::events::settings::{Kind, MOST_BATCH};
use crate::events::{Change, Draft, Events, Live, arn};

/// The most mappings of one answer, as Lambda has it.
const PAGE: usize = 100;

/// `CreateEventSourceMapping` and `UpdateEventSourceMapping`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Mapping {
    event_source_arn: Option<String>,
    function_name: Option<String>,
    enabled: Option<bool>,
    batch_size: Option<i64>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// What Lambda has and we have not: it would be wrong to take it and do otherwise.
const UNSUPPORTED: [&str; 17] = [
    "FilterCriteria",
    "KMSKeyArn",
    "ScalingConfig",
    "MaximumBatchingWindowInSeconds",
    "ParallelizationFactor",
    "DestinationConfig",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "TumblingWindowInSeconds",
    "Topics",
    "Queues",
    "SourceAccessConfigurations",
    "SelfManagedEventSource",
    "FunctionResponseTypes",
    "DocumentDBEventSourceConfig",
    "ProvisionedPollerConfig",
];

impl Mapping {
    fn check(&self) -> Result<(), ApiError> {
        for name in UNSUPPORTED {
            if self.others.get(name).is_some_and(|value| !is_nothing(value)) {
                return Err(ApiError::invalid(format!(
                    "{name} is not supported for this event source; retries, age and destinations are those of the \
                     function's event invoke config"
                )));
            }
        }
        Ok(())
    }

    fn batch_size(&self) -> Result<Option<u32>, ApiError> {
        let size = self.batch_size.map(u32::try_from).transpose();
        size.map_err(|_| ApiError::invalid(format!("BatchSize has to be 1 to {MOST_BATCH}")))
    }
}

/// What says the same as leaving it out.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        _ => false,
    }
}

type Accepted = Result<(StatusCode, Json<Value>), ApiError>;

/// `CreateEventSourceMapping`.
pub(super) async fn create(context: Context, body: Body) -> Accepted {
    let request: Mapping = parse(body)?;
    request.check()?;
    let created = context.run(move |Context { events, caller, .. }| {
        let function = required("FunctionName", request.function_name.clone())?;
        let source = required("EventSourceArn", request.event_source_arn.clone())?;
        let mut kind = arn::parse(&source, &events.parts.region, &caller.account)?;
        if let Some(size) = request.batch_size()? {
            kind = with_batch_size(kind, size)?;
        }
        let enabled = request.enabled.unwrap_or(true);
        let live = events.create(caller, Draft { function, enabled, kind })?;
        Ok(view(events, &live, None))
    });
    Ok((StatusCode::ACCEPTED, Json(created.await?)))
}

/// `GetEventSourceMapping`.
pub(super) async fn get(context: Context, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let found = context.run(move |Context { events, caller, .. }| {
        Ok(view(events, &*events.get(caller, &id)?, None))
    });
    Ok(Json(found.await?))
}

/// `ListEventSourceMappings`: all, or those of a function, of a source, or of both.
pub(super) async fn list(context: Context) -> Result<Json<Value>, ApiError> {
    let page = context.run(|context| {
        let Context { events, caller, .. } = context;
        let most = match context.query("MaxItems").map(str::parse) {
            None => PAGE,
            Some(Ok(most @ 1..=10_000)) => PAGE.min(most),
            Some(_) => return Err(ApiError::invalid("MaxItems has to be a number, 1 to 10000")),
        };
        let function =
            context.query("FunctionName").map(|text| events.target(caller, text)).transpose()?;
        let source = context.query("EventSourceArn");
        let source = source
            .map(|text| arn::parse(text, &events.parts.region, &caller.account))
            .transpose()?;
        let after = context.query("Marker").unwrap_or_default();
        let all = events.list(caller)?;
        let mut rest = all.iter().filter(|live| {
            live.source.id.as_str() > after
                && function.as_ref().is_none_or(|target| {
                    target.name == live.source.function && target.qualifier == live.source.qualifier
                })
                && source.as_ref().is_none_or(|kind| live.settings.source.is_same_place(kind))
        });
        let items: Vec<_> = rest.by_ref().take(most).collect();
        let views: Vec<_> = items.iter().map(|live| view(events, live, None)).collect();
        let mut page = json!({ "EventSourceMappings": views });
        if let (Some(last), true) = (items.last(), rest.next().is_some()) {
            page["NextMarker"] = last.source.id.as_str().into();
        }
        Ok(page)
    });
    Ok(Json(page.await?))
}

/// `UpdateEventSourceMapping`.
pub(super) async fn update(context: Context, Path(id): Path<String>, body: Body) -> Accepted {
    let request: Mapping = parse(body)?;
    request.check()?;
    let updated = context.run(move |Context { events, caller, .. }| {
        let batch_size = request.batch_size()?;
        let Mapping { function_name: function, enabled, .. } = request;
        let change = Change { function, enabled, kind: None, batch_size };
        Ok(view(events, &*events.update(caller, &id, change)?, None))
    });
    Ok((StatusCode::ACCEPTED, Json(updated.await?)))
}

/// `DeleteEventSourceMapping`.
pub(super) async fn delete(context: Context, Path(id): Path<String>) -> Accepted {
    let deleted = context.run(move |Context { events, caller, .. }| {
        Ok(view(events, &*events.delete(caller, &id)?, Some("Deleting")))
    });
    Ok((StatusCode::ACCEPTED, Json(deleted.await?)))
}

/// `EventSourceMappingConfiguration`. Changes are done when they are answered: there is no `Creating` or `Enabling`.
fn view(events: &Events, live: &Live, state: Option<&str>) -> Value {
    let [source, function, own] = events.arns(live);
    let batch_size = match live.settings.source {
        Kind::Queue { batch_size, .. } => batch_size,
        _ => 1,
    };
    let enabled = if live.source.enabled { "Enabled" } else { "Disabled" };
    json!({
        "UUID": live.source.id,
        "EventSourceMappingArn": own,
        "EventSourceArn": source,
        "FunctionArn": function,
        "BatchSize": batch_size,
        "MaximumBatchingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "State": state.unwrap_or(enabled),
        "StateTransitionReason": "USER_INITIATED",
        // Seconds with a fraction, as the protocol has times.
        "LastModified": seconds(live.source.modified),
    })
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 have 41 bits")]
fn seconds(at: u64) -> f64 {
    at as f64 / 1000.0
}
