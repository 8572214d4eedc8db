//! A function's result as an HTTP response ("Invoking Lambda function URLs", "Response payload format").
//!
//! An object with a `statusCode` is a response; anything else is the JSON body of one. What says that it is a response and
//! cannot be one is the function's failure.

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::apart;
use super::refusal::Refusal;
use crate::auth::LARGE;
use crate::invoke::Invoked;

/// What is nobody's but the server's (RFC 9110, section 7.6.1).
const OWN: [HeaderName; 6] = [
    CONNECTION,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    http::header::TE,
    http::header::TRAILER,
    http::header::UPGRADE,
];

/// Most headers and cookies of a response. An HTTP server's map of headers has an end, and takes no more than that.
const MOST_HEADERS: usize = 256;
/// Most bytes of them.
const LONGEST: usize = 64 << 10;

/// The response to a call that was made.
pub(super) async fn of(invoked: Invoked) -> Result<Response, Refusal> {
    match invoked.answer.map(|answer| answer.result) {
        Ok(Ok(result)) => apart(result.len() > LARGE, || interpret(result)).await,
        // Both are told to the log, and to the function's owner.
        Ok(Err(_)) | Err(_) => Err(Refusal::bad_gateway()),
    }
}

/// The response that a whole result is.
pub(super) fn interpret(result: Vec<u8>) -> Result<Response, Refusal> {
    let fields = match serde_json::from_slice(&result) {
        Ok(Value::Object(fields)) if fields.contains_key("statusCode") => fields,
        _ => return Ok(plain(result.into(), "application/json")),
    };
    let encoded = match fields.get("isBase64Encoded") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(encoded)) => *encoded,
        Some(_) => return Err(Refusal::bad_gateway()),
    };
    let body = match fields.get("body") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if encoded => {
            BASE64.decode(text).map_err(|_| Refusal::bad_gateway())?
        }
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(_) => return Err(Refusal::bad_gateway()),
    };
    let mut response = head(&fields)?;
    *response.body_mut() = Body::from(body);
    Ok(response)
}

/// A response with nothing but a body.
pub(super) fn plain(body: Body, content_type: &str) -> Response {
    let mut response = Response::new(body);
    let usual = HeaderValue::from_static("application/octet-stream");
    let content_type = HeaderValue::from_str(content_type).unwrap_or(usual);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A response but for its body: `statusCode`, `headers` and `cookies`.
pub(super) fn head(fields: &Map<String, Value>) -> Result<Response, Refusal> {
    let status = match fields.get("statusCode") {
        None | Some(Value::Null) => StatusCode::OK,
        Some(given) => status(given).ok_or_else(Refusal::bad_gateway)?,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !are_few(fields) {
        return Err(Refusal::bad_gateway());
    }
    set(headers, fields.get("headers")).ok_or_else(Refusal::bad_gateway)?;
    bake(headers, fields.get("cookies")).ok_or_else(Refusal::bad_gateway)?;
    Ok(response)
}

/// Whether headers and cookies are within their bounds.
fn are_few(fields: &Map<String, Value>) -> bool {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let headers = fields.get("headers").and_then(Value::as_object).into_iter().flatten();
    let headers = headers.map(|(name, value)| name.len() + length(value));
    let cookies = fields.get("cookies").and_then(Value::as_array).into_iter().flatten();
    let lengths = headers.chain(cookies.map(length));
    let (count, bytes) = lengths.fold((0, 0), |(count, bytes), more| (count + 1, bytes + more));
    count <= MOST_HEADERS && bytes <= LONGEST
}

/// A status that is a response's last word.
fn status(given: &Value) -> Option<StatusCode> {
    let number = match given {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let number = u16::try_from(number?).ok().filter(|number| (200..600).contains(number))?;
    StatusCode::from_u16(number).ok()
}

/// Sets the headers of a function; none, if these are none.
fn set(headers: &mut HeaderMap, given: Option<&Value>) -> Option<()> {
    let given = match given {
        None | Some(Value::Null) => return Some(()),
        Some(given) => given.as_object()?,
    };
    for (name, value) in given {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = match value {
            Value::String(text) => HeaderValue::from_str(text).ok()?,
            Value::Number(_) | Value::Bool(_) => HeaderValue::from_str(&value.to_string()).ok()?,
            _ => return None,
        };
        if !OWN.contains(&name) {
            headers.try_insert(name, value).ok()?;
        }
    }
    Some(())
}

/// Sets the cookies of a function, each with a header of its own; none, if these are none.
fn bake(headers: &mut HeaderMap, given: Option<&Value>) -> Option<()> {
    let given = match given {
        None | Some(Value::Null) => return Some(()),
        Some(given) => given.as_array()?,
    };
    for cookie in given {
        headers.try_append(SET_COOKIE, HeaderValue::from_str(cookie.as_str()?).ok()?).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_json(text: &str) -> Result<Response, Refusal> {
        interpret(text.as_bytes().to_vec())
    }

    #[test]
    fn a_result_that_is_no_response_is_the_body_of_one() {
        for text in ["\"Hello\"", "[1]", "{\"a\":1}", "null"] {
            let response = of_json(text).unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        }
    }

    #[test]
    fn a_response_is_taken_as_it_is_but_for_what_is_the_servers() {
        let response = of_json(
            r#"{"statusCode":201,"headers":{"X-A":"b","Content-Length":"9","n":1},"cookies":["a=1","b=2"],"body":"x"}"#,
        )
        .unwrap();
        let headers = response.headers();
        assert_eq!((response.status().as_u16(), &headers["x-a"]), (201, &"b".parse().unwrap()));
        assert!(!headers.contains_key(CONTENT_LENGTH));
        assert_eq!(headers.get_all(SET_COOKIE).iter().count(), 2);
    }

    #[test]
    fn more_headers_than_a_server_takes_are_the_functions_failure() {
        let of = |headers: Map<String, Value>, cookies: Vec<String>| {
            let fields =
                serde_json::json!({ "statusCode": 200, "headers": headers, "cookies": cookies });
            of_json(&fields.to_string())
        };
        let headers = |count| (0..count).map(|n| (format!("h{n}"), Value::from(1))).collect();
        assert!(of(headers(200), Vec::new()).is_ok());
        for count in [MOST_HEADERS + 1, 30_000] {
            assert_eq!(of(headers(count), Vec::new()).unwrap_err(), Refusal::bad_gateway());
            let cookies = vec!["a=1".to_owned(); count];
            assert_eq!(of(Map::new(), cookies).unwrap_err(), Refusal::bad_gateway());
        }
        let long = vec!["a".repeat(LONGEST + 1)];
        assert_eq!(of(Map::new(), long).unwrap_err(), Refusal::bad_gateway());
    }

    #[test]
    fn what_cannot_be_a_response_is_the_functions_failure() {
        for text in [
            r#"{"statusCode":101}"#,
            r#"{"statusCode":"abc"}"#,
            r#"{"statusCode":1e9}"#,
            r#"{"statusCode":200,"headers":[]}"#,
            r#"{"statusCode":200,"headers":{"a b":"c"}}"#,
            r#"{"statusCode":200,"headers":{"a":"b\r\nc: d"}}"#,
            r#"{"statusCode":200,"headers":{"a":{}}}"#,
            r#"{"statusCode":200,"cookies":["a\nb"]}"#,
            r#"{"statusCode":200,"body":{}}"#,
            r#"{"statusCode":200,"body":"%","isBase64Encoded":true}"#,
        ] {
            assert_eq!(of_json(text).unwrap_err(), Refusal::bad_gateway(), "{text}");
        }
    }
}
