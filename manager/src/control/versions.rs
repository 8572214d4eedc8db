//! Published versions.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::page::{Page, Paging, page};
use super::request::Publish;
use super::{Chosen, Control, now, number_of_version, settings, state};
use crate::api::ApiError;
use crate::auth::Caller;
use crate::model::{Code, Function, LATEST, State, Update};

impl Control {
    /// `PublishVersion`.
    pub(crate) fn publish(
        &self,
        caller: &Caller,
        text: &str,
        request: Publish,
    ) -> Result<Chosen, ApiError> {
        let name = self.scope(caller).parse_unqualified(text)?;
        self.find(caller, name)?;
        if let Some(description) = &request.description {
            settings::check_description(description)?;
        }
        let arn = self.scope(caller).arn(name, None);
        let (function, number) = self.change(&caller.tenant, name, |function| {
            let latest = &function.latest;
            state::check_revision(request.revision_id.as_deref(), &latest.revision)?;
            check_code(request.code_sha256.as_deref(), &latest.code)?;
            state::check_settled(latest, &arn)?;
            check_good(function)?;
            state::publish(function, request.description, now())
        })?;
        Ok(Chosen { function, number: Some(number), qualifier: Some(number.to_string()) })
    }

    /// `ListVersionsByFunction`: `$LATEST` first.
    pub(crate) fn list_versions(
        &self,
        caller: &Caller,
        text: &str,
        paging: Paging<'_>,
    ) -> Result<Page<Chosen>, ApiError> {
        let function = self.find(caller, self.scope(caller).parse_unqualified(text)?)?;
        let items = state::versions(&function).map(|version| {
            let number = version.number;
            let qualifier = Some(version.qualifier());
            let chosen = Chosen { function: Arc::clone(&function), number, qualifier };
            (number.unwrap_or(0), chosen)
        });
        page(items, paging, |marker| marker.parse().ok(), u32::to_string)
    }

    /// `DeleteFunction` with a qualifier.
    pub(super) fn delete_version(
        &self,
        caller: &Caller,
        name: &str,
        qualifier: &str,
    ) -> Result<(), ApiError> {
        if qualifier == LATEST {
            return Err(ApiError::invalid(
                "$LATEST version cannot be deleted without deleting the function.",
            ));
        }
        let found = self.find(caller, name)?;
        if found.aliases.contains_key(qualifier) {
            return Err(ApiError::invalid(format!(
                "`{qualifier}` is an alias: aliases are deleted with DeleteAlias"
            )));
        }
        let missing = || self.scope(caller).not_found(name, Some(qualifier));
        self.change(&caller.tenant, name, |function| {
            let number = number_of_version(function, qualifier).flatten().ok_or_else(missing)?;
            check_unreferenced(function, qualifier)?;
            function.versions.remove(&number);
            function.provisioned.remove(qualifier);
            function.event_invoke.remove(qualifier);
            Ok(())
        })?;
        Ok(())
    }
}

/// The digest as Lambda shows it.
pub(crate) fn base64_digest(code: &Code) -> String {
    STANDARD.encode(hex::decode(&code.sha256).unwrap_or_default())
}

fn check_code(wanted: Option<&str>, code: &Code) -> Result<(), ApiError> {
    let present = base64_digest(code);
    match wanted {
        Some(wanted) if wanted != present => Err(ApiError::invalid(format!(
            "CodeSHA256 ({}) is different from current CodeSHA256 in $LATEST ({present}). Please try again with the \
             CodeSHA256 in $LATEST.",
            settings::shortened(wanted)
        ))),
        _ => Ok(()),
    }
}

/// What could not be built is not worth a version.
fn check_good(function: &Function) -> Result<(), ApiError> {
    let ((State::Failed { code, reason }, _) | (_, Update::Failed { code, reason })) =
        (&function.latest.state, &function.latest.update)
    else {
        return Ok(());
    };
    Err(ApiError::conflict(format!(
        "The operation cannot be performed at this time. $LATEST could not be built ({code}: {reason}): update its \
         code or configuration first"
    )))
}

fn check_unreferenced(function: &Function, version: &str) -> Result<(), ApiError> {
    let refers = function
        .aliases
        .iter()
        .filter(|(_, alias)| alias.version == version || alias.weights.contains_key(version));
    let names: Vec<&str> = refers.map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(ApiError::conflict(format!(
        "Unable to delete version because the following aliases reference it: [{}]",
        names.join(", ")
    )))
}
