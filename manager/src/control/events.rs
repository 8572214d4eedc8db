//! How asynchronous calls are made: retries, age, and who is told of the outcome.

use super::page::{Page, Paging, name_marker, page};
use super::reference::{Scope, Subject};
use super::request::{Destination, EventInvokeSettings};
use super::{Control, now, number_of, settings};
use crate::api::ApiError;
use crate::auth::Caller;
use crate::model::{EventInvoke, LATEST};

/// Settings with the ARN of what they are for.
#[derive(Clone, Debug)]
pub(crate) struct NamedEventInvoke {
    pub(crate) arn: String,
    pub(crate) settings: EventInvoke,
}

impl Control {
    /// `PutFunctionEventInvokeConfig`: what is not given is as Lambda has it.
    pub(crate) fn put_event_invoke(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
        request: EventInvokeSettings,
    ) -> Result<NamedEventInvoke, ApiError> {
        let subject = self.subject(caller, text, qualifier)?;
        let mut settings = EventInvoke::default();
        apply(request, &mut settings, subject.name, self.scope(caller))?;
        settings.modified = now();
        self.change(&caller.tenant, subject.name, |function| {
            function.event_invoke.insert(subject.qualifier.to_owned(), settings.clone());
            Ok(())
        })?;
        Ok(NamedEventInvoke { arn: subject.arn, settings })
    }

    /// `UpdateFunctionEventInvokeConfig`: what is not given stays.
    pub(crate) fn update_event_invoke(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
        request: EventInvokeSettings,
    ) -> Result<NamedEventInvoke, ApiError> {
        let subject = self.subject(caller, text, qualifier)?;
        let (_, settings) = self.change(&caller.tenant, subject.name, |function| {
            let found = function.event_invoke.get_mut(subject.qualifier);
            let settings = found.ok_or_else(|| missing(&subject))?;
            apply(request, settings, subject.name, self.scope(caller))?;
            settings.modified = now();
            Ok(settings.clone())
        })?;
        Ok(NamedEventInvoke { arn: subject.arn, settings })
    }

    /// `GetFunctionEventInvokeConfig`.
    pub(crate) fn get_event_invoke(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<NamedEventInvoke, ApiError> {
        let subject = self.subject(caller, text, qualifier)?;
        let function = self.find(caller, subject.name)?;
        let found = function.event_invoke.get(subject.qualifier).cloned();
        let settings = found.ok_or_else(|| missing(&subject))?;
        Ok(NamedEventInvoke { arn: subject.arn, settings })
    }

    /// `ListFunctionEventInvokeConfigs`.
    pub(crate) fn list_event_invoke(
        &self,
        caller: &Caller,
        text: &str,
        paging: Paging<'_>,
    ) -> Result<Page<NamedEventInvoke>, ApiError> {
        let scope = self.scope(caller);
        let function = self.find(caller, scope.parse_unqualified(text)?)?;
        let items = function.event_invoke.iter().map(|(qualifier, settings)| {
            let arn = scope.arn(&function.name, Some(qualifier));
            (qualifier.clone(), NamedEventInvoke { arn, settings: settings.clone() })
        });
        page(items, paging, name_marker, String::clone)
    }

    /// `DeleteFunctionEventInvokeConfig`.
    pub(crate) fn delete_event_invoke(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<(), ApiError> {
        let subject = self.subject(caller, text, qualifier)?;
        self.change(&caller.tenant, subject.name, |function| {
            let removed = function.event_invoke.remove(subject.qualifier);
            removed.map(drop).ok_or_else(|| missing(&subject))
        })?;
        Ok(())
    }

    fn subject<'a>(
        &self,
        caller: &Caller,
        text: &'a str,
        qualifier: Option<&'a str>,
    ) -> Result<Subject<'a>, ApiError> {
        let scope = self.scope(caller);
        let reference = scope.parse(text, qualifier)?;
        let name = reference.name;
        let function = self.find(caller, name)?;
        let qualifier = reference.qualifier.unwrap_or(LATEST);
        if number_of(&function, qualifier).is_none() {
            return Err(scope.not_found(name, Some(qualifier)));
        }
        Ok(Subject { name, qualifier, arn: scope.arn(name, Some(qualifier)) })
    }
}

fn missing(subject: &Subject<'_>) -> ApiError {
    ApiError::not_found(format!("The function {} doesn't have an EventInvokeConfig", subject.arn))
}

/// Changes what `request` has.
fn apply(
    request: EventInvokeSettings,
    to: &mut EventInvoke,
    own_name: &str,
    scope: Scope<'_>,
) -> Result<(), ApiError> {
    if let Some(retries) = request.maximum_retry_attempts {
        to.retries = settings::within("MaximumRetryAttempts", retries, 0..=2)?;
    }
    if let Some(age) = request.maximum_event_age_in_seconds {
        to.max_age_s = settings::within("MaximumEventAgeInSeconds", age, 60..=21_600)?;
    }
    let Some(destinations) = request.destination_config else { return Ok(()) };
    if let Some(success) = destinations.on_success {
        to.on_success = destination(success, own_name, scope)?;
    }
    if let Some(failure) = destinations.on_failure {
        to.on_failure = destination(failure, own_name, scope)?;
    }
    Ok(())
}

/// ARN of one of the tenant's functions, other than the one whose calls these are: that would never end.
fn destination(given: Destination, own_name: &str, scope: Scope<'_>) -> Result<String, ApiError> {
    let arn = given.destination.unwrap_or_default();
    if arn.is_empty() {
        return Ok(arn);
    }
    let function = scope.parse(&arn, None).ok().filter(|_| arn.starts_with("arn:"));
    match function {
        Some(function) if function.name == own_name => Err(ApiError::invalid(
            "DestinationConfig: a function cannot be the destination of its own calls",
        )),
        Some(_) => Ok(arn),
        None => Err(ApiError::invalid(format!(
            "DestinationConfig: `{}` is not the ARN of a function of this account and region, which is all that this \
             host can send to",
            settings::shortened(&arn)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::Destinations;
    use super::*;

    const SCOPE: Scope<'_> = Scope { region: "eu-central-1", account: "123456789012" };

    fn to(arn: &str) -> EventInvokeSettings {
        let destination = Some(Destination { destination: Some(arn.to_owned()) });
        let destinations = Destinations { on_failure: destination, ..Default::default() };
        EventInvokeSettings { destination_config: Some(destinations), ..Default::default() }
    }

    #[test]
    fn destinations_are_other_functions() {
        let mut settings = EventInvoke::default();
        let good = "arn:aws:lambda:eu-central-1:123456789012:function:other";
        apply(to(good), &mut settings, "f", SCOPE).unwrap();
        assert_eq!(settings.on_failure, good);
        for bad in [
            "arn:aws:lambda:eu-central-1:123456789012:function:f:1",
            "arn:aws:lambda:eu-central-1:999999999999:function:other",
            "arn:aws:sns:eu-central-1:123456789012:topic",
            "other",
        ] {
            assert!(apply(to(bad), &mut settings, "f", SCOPE).is_err(), "{bad}");
        }
        apply(to(""), &mut settings, "f", SCOPE).unwrap();
        assert_eq!(settings.on_failure, "");
    }

    #[test]
    fn what_is_not_given_stays_and_bounds_hold() {
        let mut settings = EventInvoke::default();
        let request = EventInvokeSettings { maximum_retry_attempts: Some(1), ..Default::default() };
        apply(request, &mut settings, "f", SCOPE).unwrap();
        assert_eq!((settings.retries, settings.max_age_s), (1, 21_600));
        let request =
            EventInvokeSettings { maximum_event_age_in_seconds: Some(59), ..Default::default() };
        assert!(apply(request, &mut settings, "f", SCOPE).is_err());
    }
}
