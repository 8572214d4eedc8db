//! An HTTP request as a function sees it: payload format 2.0 ("Invoking Lambda function URLs", "Request payload format").

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::Query;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use calve_proto::limits::MAX_BODY;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use super::refusal::Refusal;
use crate::auth::Caller;
use crate::model::Millis;

/// What there is to be told.
pub(super) struct Asked<'a> {
    pub(super) parts: &'a Parts,
    pub(super) body: &'a Bytes,
    /// Whoever signed it; none, where everybody may call.
    pub(super) caller: Option<&'a Caller>,
    /// The address.
    pub(super) id: &'a str,
    /// Its host name.
    pub(super) host: &'a str,
    pub(super) peer: Option<IpAddr>,
    /// The call's id.
    pub(super) call: &'a str,
    pub(super) now: Millis,
}

/// The event.
pub(super) fn of(asked: &Asked<'_>) -> Result<Bytes, Refusal> {
    let Asked { parts, body, .. } = asked;
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": parts.uri.path(),
        "rawQueryString": parts.uri.query().unwrap_or_default(),
        "headers": headers(asked),
        "requestContext": context(asked),
        "isBase64Encoded": false,
    });
    let cookies = cookies(&parts.headers);
    if !cookies.is_empty() {
        event["cookies"] = json!(cookies);
    }
    let query = query(parts)?;
    if !query.is_empty() {
        event["queryStringParameters"] = json!(query);
    }
    if !body.is_empty() {
        match textual(&parts.headers).then(|| std::str::from_utf8(body)) {
            Some(Ok(text)) => event["body"] = json!(text),
            _ => {
                event["body"] = json!(BASE64.encode(body));
                event["isBase64Encoded"] = json!(true);
            }
        }
    }
    let event = event.to_string();
    // Base64 and escapes make more of it.
    if event.len() > MAX_BODY {
        return Err(Refusal::too_large());
    }
    Ok(event.into())
}

fn context(asked: &Asked<'_>) -> Value {
    let Asked { parts, caller, id, host, call, now, .. } = asked;
    let account = caller.map_or("anonymous", |caller| caller.account.as_str());
    let mut context = json!({
        "accountId": account,
        "apiId": id,
        "domainName": host,
        "domainPrefix": id,
        "http": {
            "method": parts.method.as_str(),
            "path": parts.uri.path(),
            "protocol": format!("{:?}", parts.version),
            "sourceIp": asked.peer.map(|ip| ip.to_string()).unwrap_or_default(),
            "userAgent": text_of(&parts.headers, header::USER_AGENT),
        },
        "requestId": call,
        "routeKey": "$default",
        "stage": "$default",
        "time": common_log(*now),
        "timeEpoch": now,
    });
    if let Some(caller) = caller {
        context["authorizer"] = json!({ "iam": {
            "accessKey": caller.key,
            "accountId": caller.account,
            "callerId": caller.key,
            "cognitoIdentity": null,
            "principalOrgId": null,
            "userArn": format!("arn:aws:iam::{}:user/{}", caller.account, caller.tenant),
            "userId": caller.key,
        }});
    }
    context
}

/// Headers by name in small letters; those that are there more than once with commas. Cookies are told elsewhere.
fn headers(asked: &Asked<'_>) -> BTreeMap<String, String> {
    let headers = &asked.parts.headers;
    let names = headers.keys().filter(|name| *name != header::COOKIE);
    let mut told: BTreeMap<String, String> = names
        .map(|name| {
            let values: Vec<_> = headers.get_all(name).iter().map(text).collect();
            (name.as_str().to_owned(), values.join(","))
        })
        .collect();
    if let Some(peer) = asked.peer {
        // As every proxy does: who came to us is the last.
        let chain = told.entry("x-forwarded-for".to_owned()).or_default();
        *chain = if chain.is_empty() { peer.to_string() } else { format!("{chain}, {peer}") };
    }
    told.entry("x-forwarded-proto".to_owned()).or_insert_with(|| "http".to_owned());
    told
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::COOKIE).iter().map(text);
    let pairs = lines
        .flat_map(|line| line.split(';').map(|pair| pair.trim().to_owned()).collect::<Vec<_>>());
    pairs.filter(|pair| !pair.is_empty()).collect()
}

/// Parameters of the query, decoded; those that are there more than once with commas.
fn query(parts: &Parts) -> Result<BTreeMap<String, String>, Refusal> {
    let Query::<Vec<(String, String)>>(pairs) =
        Query::try_from_uri(&parts.uri).map_err(|_| Refusal::malformed())?;
    let mut query = BTreeMap::<String, String>::new();
    for (name, value) in pairs {
        query
            .entry(name)
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert(value);
    }
    Ok(query)
}

/// Whether a body is text by its type, and goes into the event as it is.
fn textual(headers: &HeaderMap) -> bool {
    let given = text_of(headers, header::CONTENT_TYPE).to_ascii_lowercase();
    let media = given.split(';').next().unwrap_or_default().trim();
    media.starts_with("text/")
        || media.ends_with("+json")
        || media.ends_with("+xml")
        || matches!(media, "application/json" | "application/xml" | "application/javascript")
}

fn text_of(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers.get(name).map(text).unwrap_or_default()
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// `28/Nov/2026:16:00:00 +0000`, as web servers' logs have it.
fn common_log(now: Millis) -> String {
    let time = i64::try_from(now).ok().and_then(chrono::DateTime::from_timestamp_millis);
    time.unwrap_or_default().format("%d/%b/%Y:%H:%M:%S +0000").to_string()
}
