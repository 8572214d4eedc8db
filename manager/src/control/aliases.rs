//! Aliases: names for versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::page::{Page, Paging, name_marker, page};
use super::request::{AliasSettings, RoutingConfig};
use super::{Control, number_of_version, reference, required, settings, state};
use crate::api::ApiError;
use crate::auth::Caller;
use crate::model::{Alias, Function, LATEST, Weight};

#[cfg(test)]
mod tests;

/// The longest name (`service-2.json`, `Alias`).
const LONGEST_NAME: usize = 128;

/// The most aliases of a function: a bound where Lambda states none.
const MOST: usize = 1000;

/// An alias with its name and ARN.
#[derive(Clone, Debug)]
pub(crate) struct NamedAlias {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) alias: Alias,
}

impl Control {
    /// `CreateAlias`.
    pub(crate) fn create_alias(
        &self,
        caller: &Caller,
        text: &str,
        request: AliasSettings,
    ) -> Result<NamedAlias, ApiError> {
        let scope = self.scope(caller);
        let function = scope.parse_unqualified(text)?;
        self.find(caller, function)?;
        let name = required("Name", request.name)?;
        check_name(&name)?;
        let version = required("FunctionVersion", request.function_version)?;
        let description = request.description.unwrap_or_default();
        settings::check_description(&description)?;
        let weights = weights(request.routing_config)?;
        let arn = scope.arn(function, Some(&name));

        let (_, alias) = self.change(&caller.tenant, function, |found| {
            if found.aliases.contains_key(&name) {
                return Err(ApiError::conflict(format!("Alias already exists: {arn}")));
            }
            if found.aliases.len() >= MOST {
                return Err(ApiError::new(
                    http::StatusCode::BAD_REQUEST,
                    "AliasLimitExceededException",
                    format!("a function has {MOST} aliases at most: delete one"),
                ));
            }
            let alias = Alias { version, weights, description, revision: state::revision() };
            check(found, &alias, &scope)?;
            found.aliases.insert(name.clone(), alias.clone());
            Ok(alias)
        })?;
        Ok(NamedAlias { arn, name, alias })
    }

    /// `GetAlias`.
    pub(crate) fn get_alias(
        &self,
        caller: &Caller,
        text: &str,
        name: &str,
    ) -> Result<NamedAlias, ApiError> {
        let scope = self.scope(caller);
        let function = self.find(caller, scope.parse_unqualified(text)?)?;
        let arn = scope.arn(&function.name, Some(name));
        let alias = function.aliases.get(name).cloned().ok_or_else(|| missing(&arn))?;
        Ok(NamedAlias { arn, name: name.to_owned(), alias })
    }

    /// `UpdateAlias`.
    pub(crate) fn update_alias(
        &self,
        caller: &Caller,
        text: &str,
        name: &str,
        request: AliasSettings,
    ) -> Result<NamedAlias, ApiError> {
        let scope = self.scope(caller);
        let function = scope.parse_unqualified(text)?;
        self.find(caller, function)?;
        let arn = scope.arn(function, Some(name));
        if let Some(description) = &request.description {
            settings::check_description(description)?;
        }
        let weights = request.routing_config.map(|routing| weights(Some(routing))).transpose()?;

        let (_, alias) = self.change(&caller.tenant, function, |found| {
            let mut alias = found.aliases.get(name).cloned().ok_or_else(|| missing(&arn))?;
            state::check_revision(request.revision_id.as_deref(), &alias.revision)?;
            if let Some(version) = request.function_version {
                alias.version = version;
            }
            if let Some(description) = request.description {
                alias.description = description;
            }
            if let Some(weights) = weights {
                alias.weights = weights;
            }
            check(found, &alias, &scope)?;
            if alias.version == LATEST && found.provisioned.contains_key(name) {
                return Err(ApiError::invalid(
                    "Provisioned Concurrency Configs cannot be applied to unpublished function versions: delete the \
                     alias's first",
                ));
            }
            alias.revision = state::revision();
            found.aliases.insert(name.to_owned(), alias.clone());
            Ok(alias)
        })?;
        Ok(NamedAlias { arn, name: name.to_owned(), alias })
    }

    /// `ListAliases`: all, or those of a version.
    pub(crate) fn list_aliases(
        &self,
        caller: &Caller,
        text: &str,
        version: Option<&str>,
        paging: Paging<'_>,
    ) -> Result<Page<NamedAlias>, ApiError> {
        let scope = self.scope(caller);
        let function: Arc<Function> = self.find(caller, scope.parse_unqualified(text)?)?;
        let refers = |alias: &Alias| {
            version.is_none_or(|v| alias.version == v || alias.weights.contains_key(v))
        };
        let aliases = function.aliases.iter().filter(|(_, alias)| refers(alias));
        let items = aliases.map(|(name, alias)| {
            let arn = scope.arn(&function.name, Some(name));
            (name.clone(), NamedAlias { arn, name: name.clone(), alias: alias.clone() })
        });
        page(items, paging, name_marker, String::clone)
    }

    /// `DeleteAlias`, with what is set for it. As with Lambda, one that is gone is no error.
    pub(crate) fn delete_alias(
        &self,
        caller: &Caller,
        text: &str,
        name: &str,
    ) -> Result<(), ApiError> {
        let function = self.scope(caller).parse_unqualified(text)?;
        self.find(caller, function)?;
        self.change(&caller.tenant, function, |found| {
            if found.aliases.remove(name).is_some() {
                found.provisioned.remove(name);
                found.event_invoke.remove(name);
                found.urls.remove(name);
            }
            Ok(())
        })?;
        Ok(())
    }
}

fn missing(arn: &str) -> ApiError {
    ApiError::not_found(format!("Cannot find alias arn: {arn}"))
}

/// A name that no version number can be.
fn check_name(name: &str) -> Result<(), ApiError> {
    let number = name.bytes().all(|byte| byte.is_ascii_digit());
    if number || !reference::is_name(name, LONGEST_NAME) {
        return Err(ApiError::invalid(format!(
            "`{}` cannot be an alias: it has 1 to {LONGEST_NAME} letters, digits, - and _, and is no number",
            settings::shortened(name)
        )));
    }
    Ok(())
}

/// The weights of a request, in millionths.
fn weights(routing: Option<RoutingConfig>) -> Result<BTreeMap<String, Weight>, ApiError> {
    let given = routing.and_then(|routing| routing.additional_version_weights).unwrap_or_default();
    if given.len() > 1 {
        return Err(ApiError::invalid(format!(
            "Number of items in AdditionalVersionWeights cannot be greater than 1. Number of items: {}",
            given.len()
        )));
    }
    let weigh = |(version, weight): (String, f64)| {
        if !(0.0..=1.0).contains(&weight) {
            return Err(ApiError::invalid(format!(
                "the weight of version {} is {weight}: it has to be 0 to 1",
                settings::shortened(&version)
            )));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 1,000,000"
        )]
        let millionths = (weight * 1e6).round() as u32;
        Ok((version, Weight(millionths)))
    };
    given.into_iter().map(weigh).collect()
}

/// Whether an alias refers to what there is, in a way that makes sense.
fn check(function: &Function, alias: &Alias, scope: &reference::Scope<'_>) -> Result<(), ApiError> {
    for version in std::iter::once(&alias.version).chain(alias.weights.keys()) {
        if number_of_version(function, version).is_none() {
            let shown = settings::shortened(version);
            return Err(scope.not_found(&function.name, Some(&shown)));
        }
    }
    let version = &alias.version;
    if alias.weights.contains_key(version) {
        return Err(ApiError::invalid(format!(
            "Invalid function version {version}. Function version {version} is already included in routing \
             configuration."
        )));
    }
    let unpublished = version == LATEST || alias.weights.contains_key(LATEST);
    if unpublished && !alias.weights.is_empty() {
        return Err(ApiError::invalid(
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ));
    }
    Ok(())
}
