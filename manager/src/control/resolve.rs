//! Where a call goes.

use std::sync::Arc;

use http::StatusCode;

use super::reference::Scope;
use super::{Control, number_of_version, state};
use crate::api::ApiError;
use crate::model::{Alias, Function, LATEST, Snapshot, State, Version};

#[cfg(test)]
mod tests;

/// Seconds after which a function that is being restored may be asked for again.
const RESTORED: u32 = 1;

/// What answers a call.
#[derive(Clone, Debug)]
pub struct Target {
    /// The function.
    pub function: Arc<Function>,
    /// The version that runs: a number or `$LATEST`.
    pub version: String,
    /// What its machines start from.
    pub snapshot: Snapshot,
    /// What the caller asked for: a number, an alias or `$LATEST`. Settings are looked up by it.
    pub qualifier: String,
    /// ARN of what the caller asked for.
    pub arn: String,
}

impl Control {
    /// Finds what answers a call. Does not block.
    ///
    /// `name` and `qualifier` are as the caller gave them; `random`, evenly distributed in 0..1,000,000, decides
    /// between the versions of an alias.
    ///
    /// # Errors
    ///
    /// When there is no such function or version, or it cannot be called.
    pub fn resolve(
        &self,
        tenant: &str,
        name: &str,
        qualifier: Option<&str>,
        random: u32,
    ) -> Result<Target, ApiError> {
        let account = self.account(tenant);
        let scope = Scope { region: self.region(), account: &account };
        let reference = scope.parse(name, qualifier)?;
        let missing = || scope.not_found(reference.name, reference.qualifier);

        let function = self.catalog().get(tenant, reference.name).ok_or_else(missing)?;
        let qualifier = reference.qualifier.unwrap_or(LATEST);
        let version = choose(&function, qualifier, random).ok_or_else(missing)?;
        let snapshot = callable(version)?.clone();
        Ok(Target {
            version: version.qualifier(),
            snapshot,
            qualifier: qualifier.to_owned(),
            arn: scope.arn(reference.name, reference.qualifier),
            function: Arc::clone(&function),
        })
    }
}

impl Control {
    /// The function and the qualifier that a caller names, which must be there; whether it can be called by now is not
    /// asked. Does not block.
    ///
    /// # Errors
    ///
    /// When there is no such function, version or alias.
    pub(crate) fn named(
        &self,
        tenant: &str,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<(String, String), ApiError> {
        let account = self.account(tenant);
        let scope = Scope { region: self.region(), account: &account };
        let reference = scope.parse(name, qualifier)?;
        let missing = || scope.not_found(reference.name, reference.qualifier);
        let function = self.catalog().get(tenant, reference.name).ok_or_else(missing)?;
        let qualifier = reference.qualifier.unwrap_or(LATEST);
        choose(&function, qualifier, 0).ok_or_else(missing)?;
        Ok((reference.name.to_owned(), qualifier.to_owned()))
    }
}

/// The version that a call goes to.
fn choose<'a>(function: &'a Function, qualifier: &str, random: u32) -> Option<&'a Version> {
    let name = match function.aliases.get(qualifier) {
        Some(alias) => divide(alias, random),
        None => qualifier,
    };
    state::version(function, number_of_version(function, name)?)
}

/// The version that an alias sends a call to.
fn divide(alias: &Alias, random: u32) -> &str {
    let mut below = 0;
    for (version, weight) in &alias.weights {
        below += weight.0;
        if random < below {
            return version;
        }
    }
    &alias.version
}

/// The snapshot of a version that can be called.
fn callable(version: &Version) -> Result<&Snapshot, ApiError> {
    let state = match (&version.state, &version.snapshot) {
        (State::Active, Some(snapshot)) => return Ok(snapshot),
        // Unlike the others, this is no caller's doing and will pass: clients try such errors again by themselves.
        (State::Restoring, _) => {
            let error = ApiError::new(
                StatusCode::BAD_GATEWAY,
                "ResourceNotReadyException",
                "The function's snapshot cannot be opened any more and is being built anew: try again",
            );
            return Err(ApiError { retry_after: Some(RESTORED), ..error });
        }
        (State::Failed { code, reason }, _) => format!("Failed ({code}: {reason})"),
        // Active without a snapshot does not occur; to a caller it is the same.
        (State::Pending | State::Active, _) => "Pending".to_owned(),
    };
    Err(ApiError::conflict(format!(
        "The operation cannot be performed at this time. The function is currently in the following state: {state}"
    )))
}
