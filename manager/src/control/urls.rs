//! Addresses of functions: who may call them without naming the function, and how they answer.

use super::page::{Page, Paging, name_marker, page};
use super::reference::Subject;
use super::request::{CorsSettings, UrlSettings};
use super::{Control, now, required, settings};
use crate::api::ApiError;
use crate::auth::{Caller, are_letters, letters};
use crate::model::{Cors, FunctionUrl, LATEST, UrlAuth, UrlMode};

/// Letters and digits of an id: 160 random bits.
const ID: usize = 32;

/// The most headers, and the most origins (`service-2.json`, `HeadersList`, `AllowOriginsList`).
const MOST: usize = 100;
/// The longest header (`Header`) and the longest origin (`Origin`).
const LONGEST_HEADER: usize = 1024;
const LONGEST_ORIGIN: usize = 253;
/// What may be among the methods (`Method` has six letters at most: `OPTIONS` is never the function's).
const METHODS: [&str; 7] = ["GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*"];

/// An address with the ARN of what it is of.
#[derive(Clone, Debug)]
pub(crate) struct NamedUrl {
    pub(crate) arn: String,
    pub(crate) url: FunctionUrl,
}

impl Control {
    /// `CreateFunctionUrlConfig`. That everybody may call it has to be said; there is no usual.
    pub(crate) fn create_url(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
        request: UrlSettings,
    ) -> Result<NamedUrl, ApiError> {
        let subject = self.url_subject(caller, text, qualifier)?;
        let auth = auth(&required("AuthType", request.auth_type)?)?;
        let cors = request.cors.map(cors).transpose()?.flatten();
        let mode = request.invoke_mode.as_deref().map(mode).transpose()?.unwrap_or_default();
        let (id, now) = (id()?, now());
        let url = FunctionUrl { id, auth, cors, mode, created: now, modified: now };
        self.change(&caller.tenant, subject.name, |function| {
            if function.urls.contains_key(subject.qualifier) {
                return Err(ApiError::conflict(format!(
                    "Failed to create function url config for [functionArn = {}]. Error message:  FunctionUrlConfig \
                     exists for this Lambda function",
                    subject.arn
                )));
            }
            function.urls.insert(subject.qualifier.to_owned(), url.clone());
            Ok(())
        })?;
        Ok(NamedUrl { arn: subject.arn, url })
    }

    /// `UpdateFunctionUrlConfig`: what is not given stays.
    pub(crate) fn update_url(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
        request: UrlSettings,
    ) -> Result<NamedUrl, ApiError> {
        let subject = self.url_subject(caller, text, qualifier)?;
        let auth = request.auth_type.as_deref().map(auth).transpose()?;
        let cors = request.cors.map(cors).transpose()?;
        let mode = request.invoke_mode.as_deref().map(mode).transpose()?;
        let (_, url) = self.change(&caller.tenant, subject.name, |function| {
            let url = function.urls.get_mut(subject.qualifier).ok_or_else(missing)?;
            url.auth = auth.unwrap_or(url.auth);
            url.mode = mode.unwrap_or(url.mode);
            if let Some(cors) = cors {
                url.cors = cors;
            }
            url.modified = now();
            Ok(url.clone())
        })?;
        Ok(NamedUrl { arn: subject.arn, url })
    }

    /// `GetFunctionUrlConfig`.
    pub(crate) fn get_url(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<NamedUrl, ApiError> {
        let subject = self.url_subject(caller, text, qualifier)?;
        let function = self.find(caller, subject.name)?;
        let url = function.urls.get(subject.qualifier).cloned().ok_or_else(missing)?;
        Ok(NamedUrl { arn: subject.arn, url })
    }

    /// `ListFunctionUrlConfigs`.
    pub(crate) fn list_urls(
        &self,
        caller: &Caller,
        text: &str,
        paging: Paging<'_>,
    ) -> Result<Page<NamedUrl>, ApiError> {
        let scope = self.scope(caller);
        let function = self.find(caller, scope.parse_unqualified(text)?)?;
        let items = function.urls.iter().map(|(qualifier, url)| {
            let named = Some(qualifier.as_str()).filter(|name| *name != LATEST);
            let arn = scope.arn(&function.name, named);
            (qualifier.clone(), NamedUrl { arn, url: url.clone() })
        });
        page(items, paging, name_marker, String::clone)
    }

    /// `DeleteFunctionUrlConfig`.
    pub(crate) fn delete_url(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<(), ApiError> {
        let subject = self.url_subject(caller, text, qualifier)?;
        self.change(&caller.tenant, subject.name, |function| {
            function.urls.remove(subject.qualifier).map(drop).ok_or_else(missing)
        })?;
        Ok(())
    }

    /// A function or one of its aliases; versions have no addresses.
    fn url_subject<'a>(
        &self,
        caller: &Caller,
        text: &'a str,
        qualifier: Option<&'a str>,
    ) -> Result<Subject<'a>, ApiError> {
        let scope = self.scope(caller);
        let reference = scope.parse(text, qualifier)?;
        let function = self.find(caller, reference.name)?;
        match reference.qualifier {
            None => {}
            Some(alias) if function.aliases.contains_key(alias) => {}
            Some(number) if number == LATEST || number.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(ApiError::invalid(format!(
                    "Qualifier is `{number}`: a function URL is of an alias, or of the function without a qualifier"
                )));
            }
            missing => return Err(scope.not_found(reference.name, missing)),
        }
        let arn = scope.arn(reference.name, reference.qualifier);
        let qualifier = reference.qualifier.unwrap_or(LATEST);
        Ok(Subject { name: reference.name, qualifier, arn })
    }
}

fn missing() -> ApiError {
    ApiError::not_found("The resource you requested does not exist.")
}

/// One that nobody has and nobody can guess.
fn id() -> Result<String, ApiError> {
    let letters = letters::<ID>().map_err(|error| {
        tracing::error!(%error, "the system has no random numbers");
        ApiError::internal()
    })?;
    // Names of hosts are in small letters.
    Ok(letters.to_ascii_lowercase())
}

/// Whether it can be the id of an address.
pub(crate) fn is_id(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_uppercase())
        && are_letters(&text.to_ascii_uppercase(), ID)
}

fn auth(text: &str) -> Result<UrlAuth, ApiError> {
    match text {
        "NONE" => Ok(UrlAuth::None),
        "AWS_IAM" => Ok(UrlAuth::AwsIam),
        other => Err(unknown("AuthType", other, "NONE or AWS_IAM")),
    }
}

fn mode(text: &str) -> Result<UrlMode, ApiError> {
    match text {
        "BUFFERED" => Ok(UrlMode::Buffered),
        "RESPONSE_STREAM" => Ok(UrlMode::ResponseStream),
        other => Err(unknown("InvokeMode", other, "BUFFERED or RESPONSE_STREAM")),
    }
}

fn unknown(what: &str, given: &str, allowed: &str) -> ApiError {
    let shown = settings::shortened(given);
    ApiError::invalid(format!("{what} is `{shown}`: it has to be {allowed}"))
}

/// What a request says about other origins; nothing, if it says nothing.
fn cors(request: CorsSettings) -> Result<Option<Cors>, ApiError> {
    let max_age = request.max_age.map(|age| settings::within("MaxAge", age, 0..=86_400));
    let cors = Cors {
        allow_credentials: request.allow_credentials,
        allow_headers: texts("AllowHeaders", request.allow_headers, LONGEST_HEADER)?,
        allow_methods: methods(request.allow_methods)?,
        allow_origins: texts("AllowOrigins", request.allow_origins, LONGEST_ORIGIN)?,
        expose_headers: texts("ExposeHeaders", request.expose_headers, LONGEST_HEADER)?,
        max_age: max_age.transpose()?,
    };
    Ok(Some(cors).filter(|cors| *cors != Cors::default()))
}

/// Texts that can stand in a header, side by side.
fn texts(what: &str, given: Option<Vec<String>>, longest: usize) -> Result<Vec<String>, ApiError> {
    let given = given.unwrap_or_default();
    if given.len() > MOST {
        return Err(ApiError::invalid(format!("{what} has more than {MOST} entries")));
    }
    let fits = |text: &String| {
        (1..=longest).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
    };
    match given.iter().find(|text| !fits(text)) {
        None => Ok(given),
        Some(bad) => Err(ApiError::invalid(format!(
            "{what}: `{}` is not 1 to {longest} visible characters without a comma",
            settings::shortened(bad)
        ))),
    }
}

fn methods(given: Option<Vec<String>>) -> Result<Vec<String>, ApiError> {
    let given = given.unwrap_or_default();
    match given.iter().find(|method| !METHODS.contains(&method.as_str())) {
        Some(bad) => Err(unknown("a method of AllowMethods", bad, &METHODS.join(" or "))),
        None if given.len() > METHODS.len() => {
            Err(ApiError::invalid("AllowMethods names a method more than once"))
        }
        None => Ok(given),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_hosts() {
        let (one, other) = (id().unwrap(), id().unwrap());
        assert!(is_id(&one) && one != other);
        for bad in
            ["", "short", &one.to_uppercase(), &format!("{one}a"), &one.replace(&one[..1], "-")]
        {
            assert!(!is_id(bad), "{bad}");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused() {
        let origins = |origin: &str| {
            let allow_origins = Some(vec![origin.to_owned()]);
            cors(CorsSettings { allow_origins, ..CorsSettings::default() })
        };
        assert!(origins("https://a.example").unwrap().is_some());
        for bad in ["", "a\r\nSet-Cookie: b", "a, b", "ü", &"x".repeat(254)] {
            assert!(origins(bad).is_err(), "{bad:?}");
        }
        assert_eq!(cors(CorsSettings::default()).unwrap(), None);
        let old = CorsSettings { max_age: Some(86_401), ..CorsSettings::default() };
        assert!(cors(old).is_err());
        let allow_methods = Some(vec!["OPTIONS".to_owned()]);
        assert!(cors(CorsSettings { allow_methods, ..CorsSettings::default() }).is_err());
    }
}
