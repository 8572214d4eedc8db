//! AWS Signature Version 4, verified ("Create a signed AWS API request" in the IAM User Guide).
//!
//! The crate does it, and differs from AWS's own clients in one thing that matters. They sign paths encoded *twice*,
//! except S3's: an ARN's colon is `%3A` on the wire and `%253A` in the signature. The crate undoes the first encoding
//! and applies one: `%3A` again. It is therefore given a path in which each `%` is `%25` already, which it leaves alone;
//! and each `+` is `%2B`, since it takes a plus for a space, as in a query. Golden signatures of botocore are among the
//! tests.
//!
//! Another difference does not matter here: parameters of a query are sorted as whole `name=value` texts instead of by
//! name. That differs only if one name begins with another, which no action of AWS Lambda has.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Uri};
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, SignatureError, SignatureOptions,
    VecSignedHeaderRequirements, sigv4_validate_request,
};

use super::claim::{SERVICE, TOKEN, incomplete, invalid, unrecognized};
use crate::api::ApiError;
use crate::model::AccessKey;

/// Headers that are added after signing: for statistics; and the body's hash, which is held against the body.
const UNSIGNED: [&str; 3] = ["x-amz-user-agent", "x-amz-cf-id", "x-amz-content-sha256"];

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whether `key` has signed the request; the key if so. All other errors of a request come before the one that there is
/// no key, as AWS has them.
pub(super) fn check(
    key: Option<Arc<AccessKey>>,
    region: &str,
    parts: &Parts,
    body: &Bytes,
    now: DateTime<Utc>,
) -> Result<Arc<AccessKey>, ApiError> {
    // Keys of ours have no session: the token is somebody else's.
    let key = key.filter(|_| !parts.headers.contains_key(TOKEN));
    let mut request = Request::new(body.clone());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = to_sign(&parts.uri)?;
    *request.headers_mut() = parts.headers.clone();

    let ours = key.clone();
    let mut keys = tower::service_fn(move |request: GetSigningKeyRequest| {
        std::future::ready(signing_key(ours.as_deref(), &request))
    });
    let must = must_be_signed(&parts.headers);
    let options = SignatureOptions::default();
    let checked = sigv4_validate_request(request, region, SERVICE, &mut keys, now, &must, options)
        // Body and key are there: there is nothing to wait for.
        .now_or_never();
    match checked {
        Some(Ok(_)) => key.ok_or_else(unrecognized),
        Some(Err(error)) => Err(refusal(error)),
        None => Err(ApiError::internal()),
    }
}

/// The signing key of `key` for what a request claims.
fn signing_key(
    key: Option<&AccessKey>,
    request: &GetSigningKeyRequest,
) -> Result<GetSigningKeyResponse, BoxError> {
    let key = key.filter(|key| key.id == request.access_key());
    let key = key.ok_or_else(|| SignatureError::InvalidClientTokenId(String::new()))?;
    let secret = KSecretKey::from_str(&key.secret)?;
    let signing = secret.to_ksigning(request.request_date(), request.region(), request.service());
    Ok(GetSigningKeyResponse::builder().signing_key(signing).build()?)
}

/// The address to verify in place of the one of the request.
fn to_sign(uri: &Uri) -> Result<Uri, ApiError> {
    let path = uri.path();
    // Signatures are made over paths without these, so that one signature would be good for many paths, of which some
    // lead elsewhere.
    let mut segments = path.trim_start_matches('/').trim_end_matches('/').split('/');
    let doubled = path.contains("//");
    if doubled || segments.any(|segment| segment == "." || segment == "..") {
        let text = "The path has empty, '.' or '..' segments: ask for the path itself.";
        return Err(ApiError::malformed(text));
    }
    let mut twice = path.replace('%', "%25").replace('+', "%2B");
    if let Some(query) = uri.query() {
        twice = twice + "?" + query;
    }
    PathAndQuery::try_from(twice)
        .map(Uri::from)
        .map_err(|_| ApiError::malformed("The path is too long."))
}

/// Headers of the request that mean something to us, so that they must not be added on the way.
fn must_be_signed(headers: &HeaderMap) -> VecSignedHeaderRequirements {
    let mut must = VecSignedHeaderRequirements::default();
    for name in headers.keys().map(http::HeaderName::as_str) {
        let meaningful = name.starts_with("x-amz-") || name.starts_with("x-calve-");
        if meaningful && !UNSIGNED.contains(&name) {
            must.add_always_present(name);
        }
    }
    must
}

/// What AWS Lambda says to it.
fn refusal(error: BoxError) -> ApiError {
    let error = match error.downcast::<SignatureError>() {
        Ok(error) => *error,
        Err(error) => SignatureError::InternalServiceError(error),
    };
    match error {
        SignatureError::IncompleteSignature(message) => incomplete(message),
        SignatureError::InvalidClientTokenId(_) => unrecognized(),
        SignatureError::SignatureDoesNotMatch(message) => invalid(message.unwrap_or_else(|| {
            "The request is signed in its header and in its query: sign it once.".to_owned()
        })),
        SignatureError::InvalidURIPath(message) | SignatureError::MalformedQueryString(message) => {
            ApiError::malformed(message)
        }
        error => {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot verify a signature");
            ApiError::internal()
        }
    }
}
