//! Whether a claim is true.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::claim::{Claim, invalid, unrecognized};
use super::{Caller, Keyring, sigv4};
use crate::api::ApiError;
use crate::ledger::LedgerError;
use crate::model::AccessKey;

/// Finds out who made a request. Hashes the body, and reads the ledger if the key is not known: blocks.
pub fn verify(
    keyring: &Keyring,
    parts: &Parts,
    body: &Bytes,
    now: DateTime<Utc>,
) -> Result<Caller, ApiError> {
    let claim = Claim::of(&parts.headers)?;
    let key = keyring.find(claim.key()).map_err(|error| in_ledger(&error))?;
    let key = prove(&claim, key, parts, body, now)?;
    check_body(&parts.headers, body)?;
    let Some(tenant) = keyring.tenant(&key.tenant) else {
        tracing::error!(key = key.id, tenant = key.tenant, "a key's tenant does not exist");
        return Err(ApiError::internal());
    };
    Ok(Caller {
        tenant: tenant.name.clone(),
        account: tenant.account.clone(),
        key: key.id.clone(),
        root: key.root,
    })
}

/// The key, if there is one and the claim to it is true.
pub(super) fn prove(
    claim: &Claim,
    key: Option<Arc<AccessKey>>,
    parts: &Parts,
    body: &Bytes,
    now: DateTime<Utc>,
) -> Result<Arc<AccessKey>, ApiError> {
    match claim {
        Claim::Signed { region, .. } => sigv4::check(key, region, parts, body, now),
        Claim::Bearer { secret, .. } => has_secret(key, secret),
    }
}

/// The ledger fails while a key is looked for.
pub(super) fn in_ledger(error: &LedgerError) -> ApiError {
    tracing::error!(error = error as &dyn std::error::Error, "cannot look for a key");
    ApiError::of(error)
}

/// A wrong secret and an unknown key are the same to whoever tries them out.
fn has_secret(key: Option<Arc<AccessKey>>, secret: &str) -> Result<Arc<AccessKey>, ApiError> {
    key.filter(|key| bool::from(key.secret.as_bytes().ct_eq(secret.as_bytes())))
        .ok_or_else(unrecognized)
}

/// What a header says about the body must be true: someone behind us may go by the header.
fn check_body(headers: &HeaderMap, body: &[u8]) -> Result<(), ApiError> {
    let Some(claimed) = headers.get("x-amz-content-sha256") else { return Ok(()) };
    if claimed.as_bytes().eq_ignore_ascii_case(hex::encode(Sha256::digest(body)).as_bytes()) {
        return Ok(());
    }
    Err(invalid("X-Amz-Content-SHA256 is not the SHA-256 of the body: sign the body that is sent."))
}
