//! What clients see: documents with the names of `service-2.json`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::api::timestamp;
use crate::control::base64_digest;
use crate::control::package::{UNZIPPED_MOST, ZIPPED_MOST};
use crate::control::page::Page;
use crate::control::reference::Scope;
use crate::control::{
    AccountSettings, Chosen, NamedAlias, NamedEventInvoke, NamedUrl, Provisioned,
};
use crate::model::{Configuration, Layer, State, Update, Version};

/// What may stand in a query as it is (RFC 3986, "unreserved").
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A `FunctionConfiguration`.
pub(super) fn configuration(scope: &Scope<'_>, chosen: &Chosen) -> Value {
    let (function, version) = (&chosen.function, chosen.version());
    let mut view = Map::new();
    let mut set = |name: &str, value: Value| view.insert(name.to_owned(), value);
    set("FunctionName", json!(function.name));
    set("FunctionArn", json!(scope.arn(&function.name, chosen.qualifier.as_deref())));
    set("Version", json!(version.qualifier()));
    set("CodeSize", json!(version.code.size));
    set("CodeSha256", json!(base64_digest(&version.code)));
    set("LastModified", json!(timestamp(version.modified)));
    set("RevisionId", json!(version.revision));
    set("PackageType", json!("Zip"));
    set("Architectures", json!(["x86_64"]));
    let log_group = format!("/aws/lambda/{}", function.name);
    set("LoggingConfig", json!({ "LogFormat": "Text", "LogGroup": log_group }));
    view.extend(settings(version));
    view.extend(state(version));
    Value::Object(view)
}

/// What the owner has set.
fn settings(version: &Version) -> Map<String, Value> {
    let of: &Configuration = &version.configuration;
    let mut view = Map::new();
    let mut set = |name: &str, value: Value| view.insert(name.to_owned(), value);
    set("Runtime", json!(of.runtime));
    set("Role", json!(of.role));
    set("Handler", json!(of.handler));
    set("Description", json!(of.description));
    set("Timeout", json!(of.timeout_s));
    set("MemorySize", json!(of.memory_mib));
    set("TracingConfig", json!({ "Mode": of.tracing }));
    set("EphemeralStorage", json!({ "Size": of.ephemeral_mib }));
    let optimised = version.number.is_some() && of.snap_start != "None";
    let optimisation = if optimised { "On" } else { "Off" };
    set("SnapStart", json!({ "ApplyOn": of.snap_start, "OptimizationStatus": optimisation }));
    if !of.environment.is_empty() {
        set("Environment", json!({ "Variables": of.environment }));
    }
    if !of.dead_letter.is_empty() {
        set("DeadLetterConfig", json!({ "TargetArn": of.dead_letter }));
    }
    if !of.layers.is_empty() {
        let layer = |of: &Layer| json!({ "Arn": of.arn, "CodeSize": of.code.size });
        let layers: Vec<Value> = of.layers.iter().map(layer).collect();
        set("Layers", json!(layers));
    }
    view
}

/// How it stands with its snapshot.
fn state(version: &Version) -> Map<String, Value> {
    let mut view = Map::new();
    let mut set = |name: &str, value: &str| view.insert(name.to_owned(), json!(value));
    match &version.state {
        State::Pending => {
            set("State", "Pending");
            set("StateReason", "The function is being created.");
            set("StateReasonCode", "Creating");
        }
        State::Active => {
            set("State", "Active");
        }
        State::Restoring => {
            set("State", "Pending");
            set(
                "StateReason",
                "The function's snapshot cannot be opened any more and is built anew.",
            );
            set("StateReasonCode", "Restoring");
        }
        State::Failed { code, reason } => {
            set("State", "Failed");
            set("StateReason", reason);
            set("StateReasonCode", code);
        }
    }
    match &version.update {
        // "Set to Successful after function creation completes": until then there is none, so that waiters go on.
        Update::Successful if version.state == State::Pending => {}
        Update::Successful => {
            set("LastUpdateStatus", "Successful");
        }
        Update::InProgress => {
            set("LastUpdateStatus", "InProgress");
            set("LastUpdateStatusReason", "The function is being created.");
            set("LastUpdateStatusReasonCode", "Creating");
        }
        Update::Failed { code, reason } => {
            set("LastUpdateStatus", "Failed");
            set("LastUpdateStatusReason", reason);
            set("LastUpdateStatusReasonCode", code);
        }
    }
    view
}

/// `GetFunction`'s answer.
pub(super) fn function(scope: &Scope<'_>, chosen: &Chosen, origin: &str) -> Value {
    let function = &chosen.function;
    let mut location = format!("{origin}/calve/v1/functions/{}/code", function.name);
    if let Some(qualifier) = &chosen.qualifier {
        location += &format!("?Qualifier={}", utf8_percent_encode(qualifier, QUERY));
    }
    let mut view = json!({
        "Configuration": configuration(scope, chosen),
        "Code": { "RepositoryType": "S3", "Location": location },
    });
    if !function.tags.is_empty() {
        view["Tags"] = json!(function.tags);
    }
    if let Some(reserved) = function.reserved {
        view["Concurrency"] = json!({ "ReservedConcurrentExecutions": reserved });
    }
    view
}

/// An `AliasConfiguration`.
pub(super) fn alias(named: &NamedAlias) -> Value {
    let NamedAlias { arn, name, alias } = named;
    let mut view = json!({
        "AliasArn": arn,
        "Name": name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RevisionId": alias.revision,
    });
    if !alias.weights.is_empty() {
        let weights = alias.weights.iter();
        let weights: Map<String, Value> = weights
            .map(|(version, weight)| (version.clone(), json!(f64::from(weight.0) / 1e6)))
            .collect();
        view["RoutingConfig"] = json!({ "AdditionalVersionWeights": weights });
    }
    view
}

/// A provisioned concurrency configuration: in a list, its ARN says whose.
pub(super) fn provisioned(of: &Provisioned, in_list: bool) -> Value {
    let status = if of.ready >= of.requested { "READY" } else { "IN_PROGRESS" };
    let mut view = json!({
        "RequestedProvisionedConcurrentExecutions": of.requested,
        "AvailableProvisionedConcurrentExecutions": of.ready,
        "AllocatedProvisionedConcurrentExecutions": of.ready,
        "Status": status,
        "LastModified": timestamp(of.modified),
    });
    if in_list {
        view["FunctionArn"] = json!(of.arn);
    }
    view
}

/// A `FunctionEventInvokeConfig`. Its time is of type `timestamp`: seconds since 1970.
pub(super) fn event_invoke(named: &NamedEventInvoke) -> Value {
    let NamedEventInvoke { arn, settings } = named;
    let destination = |arn: &str| match arn {
        "" => json!({}),
        arn => json!({ "Destination": arn }),
    };
    let (seconds, millis) = (settings.modified / 1000, settings.modified % 1000);
    let modified: Value =
        format!("{seconds}.{millis:03}").parse::<f64>().map_or(Value::Null, Value::from);
    json!({
        "LastModified": modified,
        "FunctionArn": arn,
        "MaximumRetryAttempts": settings.retries,
        "MaximumEventAgeInSeconds": settings.max_age_s,
        "DestinationConfig": {
            "OnSuccess": destination(&settings.on_success),
            "OnFailure": destination(&settings.on_failure),
        },
    })
}

/// A `FunctionUrlConfig`. Clients reach it as they have reached us, but for the host's name: `origin` has the rest.
pub(super) fn url(named: &NamedUrl, origin: &str, domain: &str) -> Value {
    let NamedUrl { arn, url } = named;
    let (scheme, host) = origin.split_once("://").unwrap_or(("http", origin));
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let numeric = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = if numeric { format!(":{port}") } else { String::new() };
    let mut view = json!({
        "FunctionUrl": format!("{scheme}://{}.{domain}{port}/", url.id),
        "FunctionArn": arn,
        "AuthType": url.auth,
        "InvokeMode": url.mode,
        "CreationTime": timestamp(url.created),
        "LastModifiedTime": timestamp(url.modified),
    });
    if let Some(cors) = &url.cors {
        view["Cors"] = json!(cors);
    }
    view
}

/// `GetAccountSettings`' answer.
pub(super) fn account_settings(of: &AccountSettings) -> Value {
    json!({
        "AccountLimit": {
            "TotalCodeSize": of.tenant.quota.storage,
            "CodeSizeUnzipped": UNZIPPED_MOST,
            "CodeSizeZipped": ZIPPED_MOST,
            "ConcurrentExecutions": of.tenant.quota.concurrency,
            "UnreservedConcurrentExecutions": of.unreserved,
        },
        "AccountUsage": { "TotalCodeSize": of.code_bytes, "FunctionCount": of.functions },
    })
}

/// A list, and how to go on with it.
pub(super) fn page<T>(name: &str, page: &Page<T>, view: impl Fn(&T) -> Value) -> Value {
    let items: Vec<Value> = page.items.iter().map(view).collect();
    let mut document = json!({ name: items });
    if let Some(next) = &page.next {
        document["NextMarker"] = json!(next);
    }
    document
}
