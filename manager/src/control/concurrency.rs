//! Concurrency: kept for functions, and machines that are kept ready.

use super::page::{Page, Paging, name_marker, page};
use super::request::Concurrency;
use super::{Control, number_of, required, settings};
use crate::api::ApiError;
use crate::auth::Caller;
use crate::model::{Function, Millis};

/// Machines that are kept ready for a version or an alias.
#[derive(Clone, Debug)]
pub(crate) struct Provisioned {
    /// ARN of the version or alias.
    pub(crate) arn: String,
    /// As many as are wanted.
    pub(crate) requested: u32,
    /// As many as there are.
    pub(crate) ready: u32,
    /// When what they are for was last changed.
    pub(crate) modified: Millis,
}

impl Control {
    /// `PutFunctionConcurrency`.
    pub(crate) fn put_concurrency(
        &self,
        caller: &Caller,
        text: &str,
        request: &Concurrency,
    ) -> Result<u32, ApiError> {
        let name = self.scope(caller).parse_unqualified(text)?;
        self.find(caller, name)?;
        let key = "ReservedConcurrentExecutions";
        let wanted = required(key, request.reserved_concurrent_executions)?;
        let wanted = settings::within(key, wanted, 0..=u32::MAX)?;
        let most = self.tenant(caller)?.quota.concurrency;
        self.change(&caller.tenant, name, |function| {
            // Under the catalogue's writer lock: no two functions get the same.
            let free = most.saturating_sub(self.reserved(&caller.tenant, Some(name)));
            if wanted > free {
                return Err(ApiError::invalid(format!(
                    "Specified {key} for function is {wanted}: of the tenant's {most}, {free} are not reserved by \
                     other functions"
                )));
            }
            let provisioned: u32 = function.provisioned.values().sum();
            if wanted < provisioned {
                return Err(ApiError::invalid(format!(
                    "Specified {key} for function is {wanted}, but {provisioned} are provisioned for it: reduce that \
                     first"
                )));
            }
            function.reserved = Some(wanted);
            Ok(())
        })?;
        Ok(wanted)
    }

    /// `GetFunctionConcurrency`.
    pub(crate) fn get_concurrency(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<Option<u32>, ApiError> {
        Ok(self.find(caller, self.scope(caller).parse_unqualified(text)?)?.reserved)
    }

    /// `DeleteFunctionConcurrency`.
    pub(crate) fn delete_concurrency(&self, caller: &Caller, text: &str) -> Result<(), ApiError> {
        let name = self.scope(caller).parse_unqualified(text)?;
        self.find(caller, name)?;
        self.change(&caller.tenant, name, |function| {
            function.reserved = None;
            Ok(())
        })?;
        Ok(())
    }

    /// `PutProvisionedConcurrencyConfig`.
    pub(crate) fn put_provisioned(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
        request: &Concurrency,
    ) -> Result<Provisioned, ApiError> {
        let (name, qualifier) = self.provisionable(caller, text, qualifier)?;
        let key = "ProvisionedConcurrentExecutions";
        let wanted = required(key, request.provisioned_concurrent_executions)?;
        let wanted = settings::within(key, wanted, 1..=u32::MAX)?;
        let most = self.tenant(caller)?.quota.concurrency;
        let (function, ()) = self.change(&caller.tenant, name, |function| {
            check_published(function, qualifier)
                .unwrap_or_else(|| Err(self.scope(caller).not_found(name, Some(qualifier))))?;
            let others = function.provisioned.iter().filter(|(other, _)| *other != qualifier);
            let others: u32 = others.map(|(_, count)| *count).sum();
            let free = function
                .reserved
                .unwrap_or_else(|| most.saturating_sub(self.reserved(&caller.tenant, Some(name))));
            if others.saturating_add(wanted) > free {
                return Err(ApiError::invalid(format!(
                    "Requested Provisioned Concurrency should not be greater than what the function may have at \
                     once: that is {free}, of which {others} are provisioned already"
                )));
            }
            function.provisioned.insert(qualifier.to_owned(), wanted);
            Ok(())
        })?;
        Ok(self.provisioned(caller, &function, qualifier, wanted))
    }

    /// `GetProvisionedConcurrencyConfig`.
    pub(crate) fn get_provisioned(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<Provisioned, ApiError> {
        let (name, qualifier) = self.provisionable(caller, text, qualifier)?;
        let function = self.find(caller, name)?;
        let requested = function.provisioned.get(qualifier).ok_or_else(|| {
            ApiError::new(
                http::StatusCode::NOT_FOUND,
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
            )
        })?;
        Ok(self.provisioned(caller, &function, qualifier, *requested))
    }

    /// `ListProvisionedConcurrencyConfigs`.
    pub(crate) fn list_provisioned(
        &self,
        caller: &Caller,
        text: &str,
        paging: Paging<'_>,
    ) -> Result<Page<Provisioned>, ApiError> {
        let function = self.find(caller, self.scope(caller).parse_unqualified(text)?)?;
        let items = function.provisioned.iter().map(|(qualifier, requested)| {
            (qualifier.clone(), self.provisioned(caller, &function, qualifier, *requested))
        });
        page(items, paging, name_marker, String::clone)
    }

    /// `DeleteProvisionedConcurrencyConfig`. As with Lambda, one that is gone is no error.
    pub(crate) fn delete_provisioned(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<(), ApiError> {
        let (name, qualifier) = self.provisionable(caller, text, qualifier)?;
        self.change(&caller.tenant, name, |function| {
            function.provisioned.remove(qualifier);
            Ok(())
        })?;
        Ok(())
    }

    /// Calls at once that a tenant's functions have reserved, but for one of them.
    pub(super) fn reserved(&self, tenant: &str, but: Option<&str>) -> u32 {
        let functions = self.catalog().list(tenant);
        let others = functions.iter().filter(|function| but != Some(function.name.as_str()));
        others.filter_map(|function| function.reserved).fold(0, u32::saturating_add)
    }

    /// The function, and its version or alias, that a request about machines is about.
    fn provisionable<'a>(
        &self,
        caller: &Caller,
        text: &'a str,
        qualifier: Option<&'a str>,
    ) -> Result<(&'a str, &'a str), ApiError> {
        let scope = self.scope(caller);
        let reference = scope.parse(text, qualifier)?;
        let qualifier = required("Qualifier", reference.qualifier)?;
        let function = self.find(caller, reference.name)?;
        check_published(&function, qualifier)
            .unwrap_or_else(|| Err(scope.not_found(reference.name, Some(qualifier))))?;
        Ok((reference.name, qualifier))
    }

    fn provisioned(
        &self,
        caller: &Caller,
        function: &Function,
        qualifier: &str,
        requested: u32,
    ) -> Provisioned {
        let ready = self.parts.readiness.ready(&caller.tenant, &function.name, qualifier);
        let version = number_of(function, qualifier).flatten();
        let version = version.and_then(|number| function.versions.get(&number));
        Provisioned {
            arn: self.scope(caller).arn(&function.name, Some(qualifier)),
            requested,
            ready: ready.min(requested),
            modified: version.unwrap_or(&function.latest).modified,
        }
    }
}

/// Whether machines can be kept for it: `None` where it is not there at all.
fn check_published(function: &Function, qualifier: &str) -> Option<Result<(), ApiError>> {
    Some(match number_of(function, qualifier)? {
        Some(_) => Ok(()),
        None => Err(ApiError::invalid(
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
        )),
    })
}
