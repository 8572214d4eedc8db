//! Checks what the caller wants to send, so that a mistake is named here and not by the guest.

use std::time::Duration;

use super::{Call, SessionError};
use crate::limits::{
    MAX_BODY, MAX_ENV, MAX_FUNCTION_NAME, MAX_HANDLER, MAX_HOSTNAME, MAX_LABEL, SEED_LEN, is_id,
};
use crate::wire;

/// A duration as the protocol's milliseconds: rounded up, so that a short deadline does not become "default".
pub(super) fn millis(duration: Option<Duration>) -> u32 {
    duration
        .map_or(0, |d| u32::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1))
}

fn bounded(ok: bool, what: &'static str, bound: &'static str) -> Result<(), SessionError> {
    if ok { Ok(()) } else { Err(SessionError::BadRequest { what, bound }) }
}

pub(super) fn check_configure(configure: &wire::Configure) -> Result<(), SessionError> {
    let env: usize = configure.env.iter().map(|v| v.name.len() + v.value.len()).sum();
    let labels = [&configure.runtime, &configure.function_version, &configure.function_arn];
    bounded(configure.handler.len() <= MAX_HANDLER, "handler", "at most 256 bytes")?;
    bounded(env <= MAX_ENV, "environment", "at most 32 KiB in all")?;
    bounded(
        configure.env.iter().all(|v| {
            !v.name.is_empty() && !v.name.contains(['=', '\0']) && !v.value.contains('\0')
        }),
        "environment variable",
        "a name without `=`, and no NUL byte",
    )?;
    bounded(
        configure.function_name.len() <= MAX_FUNCTION_NAME,
        "function name",
        "at most 140 bytes",
    )?;
    bounded(
        labels.iter().all(|label| label.len() <= MAX_LABEL),
        "runtime, version or ARN",
        "at most 512 bytes",
    )
}

pub(super) fn check_preload(preload: &wire::Preload) -> Result<(), SessionError> {
    bounded(preload.runtime.len() <= MAX_LABEL, "runtime", "at most 512 bytes")
}

pub(super) fn check_thaw(thaw: &wire::ThawFacts) -> Result<(), SessionError> {
    bounded(SEED_LEN.contains(&thaw.seed.len()), "seed", "32 to 256 bytes")?;
    bounded(is_id(&thaw.machine_id), "machine id", "1 to 64 letters, digits, `-`, `_` or `.`")?;
    bounded(thaw.hostname.len() <= MAX_HOSTNAME, "host name", "at most 63 bytes")
}

pub(super) fn check_call(call: &Call<'_>) -> Result<(), SessionError> {
    bounded(is_id(call.request_id), "request id", "1 to 64 letters, digits, `-`, `_` or `.`")?;
    bounded(call.event.len() <= MAX_BODY, "event", "at most 6 MiB (6,291,456 bytes)")?;
    bounded(call.trace_id.len() <= MAX_LABEL, "trace id", "at most 512 bytes")
}
