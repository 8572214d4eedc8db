//! What an `Authorization` header claims, before anybody has checked it.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use http::{HeaderMap, StatusCode, header};

use crate::api::ApiError;

/// The service in a credential scope.
pub(super) const SERVICE: &str = "lambda";

/// What a session's requests have; keys of ours have no sessions.
pub(super) const TOKEN: &str = "x-amz-security-token";

/// What the time of a request may be off by, as AWS has it.
const SKEW: TimeDelta = TimeDelta::minutes(15);

/// How `X-Amz-Date` is written.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// Whose key a request says it has.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is signed.
    Signed {
        /// The key's id; empty if the header has none, which the verification then says.
        key: String,
        /// The region in its credential scope, whichever that is: this host stands for all of them.
        region: String,
        /// The day in its scope, if the rest of that is what it has to be.
        day: Option<String>,
    },
    /// It has the secret with it.
    Bearer {
        /// The key's id.
        key: String,
        /// What it says is the secret.
        secret: String,
    },
}

impl Claim {
    /// The claim of a request.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            ));
        };
        let value = value
            .to_str()
            .map_err(|_| incomplete("Authorization header has characters that are not ASCII."))?;
        let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self::signed(rest));
        }
        match rest.trim().split_once(':') {
            Some((key, secret)) => {
                Ok(Self::Bearer { key: key.to_owned(), secret: secret.to_owned() })
            }
            None => Err(incomplete("Authorization must be 'Bearer <access key id>:<secret>'.")),
        }
    }

    /// Takes no more than what has to be known beforehand out of `Credential=<key>/<date>/<region>/…`. Where the
    /// parameter is there twice, the last one counts, as in the verification.
    fn signed(parameters: &str) -> Self {
        let mut values = parameters.split(',').rev();
        let credential = values.find_map(|one| one.trim().strip_prefix("Credential="));
        let mut scope = credential.unwrap_or_default().split('/');
        let mut next = || scope.next().unwrap_or_default();
        let (key, day, region) = (next().to_owned(), next().to_owned(), next().to_owned());
        let is_ours = [next(), next()] == [SERVICE, "aws4_request"];
        Self::Signed { key, region, day: is_ours.then_some(day) }
    }

    /// Whether it can be true, by the time and the scope that it names. A look that costs nothing, before what costs memory:
    /// what it does not understand is for the verification, which says what is wrong.
    pub(super) fn may_be_true(&self, headers: &HeaderMap, now: DateTime<Utc>) -> bool {
        let Self::Signed { day, .. } = self else { return true };
        let is_known = !headers.contains_key(TOKEN);
        let said = headers.get("x-amz-date").and_then(|value| value.to_str().ok());
        let time = said.and_then(|said| NaiveDateTime::parse_from_str(said, TIME).ok());
        let is_timely = time.is_some_and(|time| (now - time.and_utc()).abs() <= SKEW);
        is_known
            && is_timely
            && day.is_some()
            && day.as_deref() == said.and_then(|said| said.get(..8))
    }

    /// The key's id.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Signed { key, .. } | Self::Bearer { key, .. } => key,
        }
    }
}

/// A claim that is not whole.
pub(super) fn incomplete(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "IncompleteSignatureException", message)
}

/// A signature or secret that is not the one of its key.
pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "InvalidSignatureException", message)
}

/// A key that there is not.
pub(super) fn unrecognized() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )
}
