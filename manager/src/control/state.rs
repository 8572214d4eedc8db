//! What becomes of a version. Pure functions over the model.
//!
//! ```text
//!            create, publish
//!                  │
//!                  ▼        built                    update             built
//!               Pending ───────────► Active ────────────────► Active ─────────► Active
//!                  ▲ │               Successful               InProgress        Successful
//!           update │ │ failed                                   │ failed
//!                  │ ▼                                          ▼
//!                 Failed                                      Active, Failed: answers from the snapshot of before
//!                    ▲            lost                    built
//!                    │   Active ────────► Restoring ───────────────► Active
//!                    └────────────────────────┘ failed
//! ```
//!
//! A snapshot is lost when it cannot be opened any more: it was made by another program or for another processor, is
//! damaged, or is gone. It is built anew from the package, once: what cannot be built is not tried again by itself.
//!
//! A build belongs to the revision that it was begun with: the result of another is nobody's any more.

use std::collections::BTreeSet;

use crate::api::ApiError;
use crate::engine::BuildFailure;
use crate::model::{Function, Millis, Snapshot, State, Update, Version};

#[cfg(test)]
mod tests;

/// Published versions of one function. Lambda bounds them by the bytes of their code, which here they share; a function
/// is one document in the ledger, so that their number has to have an end.
const VERSIONS_MOST: usize = 500;

/// A revision, or a lineage, that there has not been yet.
pub(crate) fn revision() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A version of a function; `None` is `$LATEST`.
pub(crate) fn version(function: &Function, number: Option<u32>) -> Option<&Version> {
    match number {
        None => Some(&function.latest),
        Some(number) => function.versions.get(&number),
    }
}

/// `$LATEST` and all that is published, in order.
pub(crate) fn versions(function: &Function) -> impl Iterator<Item = &Version> {
    std::iter::once(&function.latest).chain(function.versions.values())
}

/// Whether a snapshot is being built, or would be if the host had not been stopped.
pub(crate) fn is_building(version: &Version) -> bool {
    has_none_yet(version) || version.update == Update::InProgress
}

/// Whether there is nothing to answer calls from until a build is done.
fn has_none_yet(version: &Version) -> bool {
    matches!(version.state, State::Pending | State::Restoring)
}

/// The builds that `after` needs and `before` did not.
pub(crate) fn begun(before: Option<&Function>, after: &Function) -> Vec<Option<u32>> {
    let old: BTreeSet<&str> = before.into_iter().flat_map(versions).map(|v| &*v.revision).collect();
    let new = versions(after).filter(|v| is_building(v) && !old.contains(&*v.revision));
    new.map(|version| version.number).collect()
}

/// The snapshots that a function's calls are answered from.
pub(crate) fn snapshots(function: &Function) -> BTreeSet<&str> {
    versions(function)
        .filter_map(|version| Some(version.snapshot.as_ref()?.name.as_str()))
        .collect()
}

/// Says whether `$LATEST` can be changed or published now.
pub(crate) fn check_settled(version: &Version, arn: &str) -> Result<(), ApiError> {
    let what = if has_none_yet(version) {
        "The function is currently in the following state: Pending".to_owned()
    } else if version.update == Update::InProgress {
        format!("An update is in progress for resource: {arn}")
    } else {
        return Ok(());
    };
    Err(ApiError::conflict(format!("The operation cannot be performed at this time. {what}")))
}

/// Says whether a client that knew `wanted` knows the present revision.
pub(crate) fn check_revision(wanted: Option<&str>, present: &str) -> Result<(), ApiError> {
    if wanted.is_some_and(|wanted| wanted != present) {
        return Err(ApiError::precondition(
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to \
             retrieve the latest Revision Id",
        ));
    }
    Ok(())
}

/// Notes a change that needs a new snapshot. What answers calls goes on doing so.
pub(crate) fn begin(version: &mut Version, now: Millis) {
    touch(version, now);
    version.lineage = revision();
    version.update = Update::InProgress;
    if version.state != State::Active {
        version.state = State::Pending;
    }
}

/// Notes a change that needs none.
pub(crate) fn touch(version: &mut Version, now: Millis) {
    version.revision = revision();
    version.modified = now;
}

/// Notes what came of a build; whether it was the build that is waited for.
pub(crate) fn finish(
    version: &mut Version,
    revision: &str,
    result: Result<Snapshot, BuildFailure>,
) -> bool {
    if version.revision != revision || !is_building(version) {
        return false;
    }
    match result {
        Ok(snapshot) => {
            version.state = State::Active;
            version.update = Update::Successful;
            version.snapshot = Some(snapshot);
        }
        Err(BuildFailure { code, reason }) => {
            if has_none_yet(version) {
                version.state = State::Failed { code: code.clone(), reason: reason.clone() };
            }
            version.update = Update::Failed { code, reason };
        }
    }
    true
}

/// Notes that a snapshot cannot be opened any more; whether calls were answered from it. Its version is to be built anew,
/// as a revision of its own, so that nothing takes the snapshot of before for the new one. It is the same work as before all
/// the same: its lineage stays, by which its records are found. A build of another revision that is under way will do as well.
pub(crate) fn lose(function: &mut Function, snapshot: &str) -> bool {
    let mut all = std::iter::once(&mut function.latest).chain(function.versions.values_mut());
    let found = all.find(|version| version.snapshot.as_ref().is_some_and(|s| s.name == snapshot));
    let Some(version) = found else { return false };
    // After an update that failed, what is built anew is not what the snapshot was made from.
    if version.lineage.is_empty() && version.update == Update::Successful {
        snapshot.clone_into(&mut version.lineage);
    }
    version.snapshot = None;
    version.state = State::Restoring;
    if version.update != Update::InProgress {
        version.revision = revision();
    }
    true
}

/// Publishes `$LATEST`: the number of the version that stands for it. What was published last is not published again.
pub(crate) fn publish(
    function: &mut Function,
    description: Option<String>,
    now: Millis,
) -> Result<u32, ApiError> {
    if let Some(last) = function.versions.values().next_back()
        && let Some(number) = last.number
        && is_same(last, &function.latest)
    {
        return Ok(number);
    }
    if function.versions.len() >= VERSIONS_MOST {
        return Err(ApiError::new(
            http::StatusCode::PAYMENT_REQUIRED,
            "ServiceQuotaExceededException",
            format!("a function has {VERSIONS_MOST} published versions at most: delete some"),
        ));
    }
    let number = function.last_number + 1;
    let mut published = Version {
        number: Some(number),
        configuration: function.latest.configuration.clone(),
        code: function.latest.code.clone(),
        state: State::Pending,
        update: Update::Successful,
        revision: revision(),
        lineage: revision(),
        modified: now,
        snapshot: None,
    };
    if let Some(description) = description {
        published.configuration.description = description;
    }
    function.last_number = number;
    function.versions.insert(number, published);
    Ok(number)
}

/// Whether publishing would make another of the same. One that could not be built is worth another try.
fn is_same(published: &Version, latest: &Version) -> bool {
    let mut configuration = latest.configuration.clone();
    configuration.description.clone_from(&published.configuration.description);
    published.code == latest.code
        && published.configuration == configuration
        && !matches!(published.state, State::Failed { .. })
}
