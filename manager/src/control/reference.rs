//! How requests name functions: name, partial ARN or ARN, each with a qualifier or without.
//!
//! ```text
//! name                                               name:qualifier
//! 123456789012:function:name                         123456789012:function:name:qualifier
//! arn:aws:lambda:eu-central-1:123456789012:function:name[:qualifier]
//! ```

use crate::api::ApiError;
use crate::model::LATEST;

/// The longest name of a function.
const LONGEST_NAME: usize = 64;
/// The longest qualifier.
const LONGEST_QUALIFIER: usize = 128;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// The function's name.
    pub(crate) name: &'a str,
    /// Version number, alias or `$LATEST`.
    pub(crate) qualifier: Option<&'a str>,
}

/// A function that there is, and the key of what one of its versions or aliases has: [`LATEST`](crate::model::LATEST) where
/// none was named.
pub(super) struct Subject<'a> {
    pub(super) name: &'a str,
    pub(super) qualifier: &'a str,
    pub(super) arn: String,
}

/// Whose functions, and where: what ARNs are made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// Region.
    pub(crate) region: &'a str,
    /// Twelve digits.
    pub(crate) account: &'a str,
}

impl Scope<'_> {
    /// ARN of a function, a version or an alias.
    pub(crate) fn arn(&self, name: &str, qualifier: Option<&str>) -> String {
        let Self { region, account } = self;
        match qualifier {
            Some(qualifier) => {
                format!("arn:aws:lambda:{region}:{account}:function:{name}:{qualifier}")
            }
            None => format!("arn:aws:lambda:{region}:{account}:function:{name}"),
        }
    }

    /// That there is no such function, as Lambda says it.
    pub(crate) fn not_found(&self, name: &str, qualifier: Option<&str>) -> ApiError {
        ApiError::not_found(format!("Function not found: {}", self.arn(name, qualifier)))
    }

    /// Reads a request's `FunctionName` and `Qualifier`.
    ///
    /// # Errors
    ///
    /// When they are malformed, contradict each other, or name something of another account or region.
    pub(crate) fn parse<'a>(
        &self,
        text: &'a str,
        qualifier: Option<&'a str>,
    ) -> Result<Reference<'a>, ApiError> {
        let parts: Vec<&str> = text.splitn(9, ':').collect();
        let (owner, rest) = match parts.as_slice() {
            ["arn", partition, "lambda", region, account, "function", rest @ ..]
                if partition.starts_with("aws") =>
            {
                self.check_region(region)?;
                (Some(*account), rest)
            }
            [account, "function", rest @ ..] if is_account(account) && !rest.is_empty() => {
                (Some(*account), rest)
            }
            ["function", rest @ ..] if !rest.is_empty() => (None, rest),
            rest => (None, rest),
        };
        let (name, named) = match rest {
            [name] => (*name, None),
            [name, named] => (*name, Some(*named)),
            _ => return Err(malformed(text)),
        };
        if !is_name(name, LONGEST_NAME) {
            return Err(malformed(text));
        }
        let qualifier = agree(named, qualifier)?;
        if owner.is_some_and(|owner| owner != self.account) {
            // What others have is none of the caller's business: it is not there.
            return Err(ApiError::not_found(format!("Function not found: {text}")));
        }
        Ok(Reference { name, qualifier })
    }

    /// Reads a `FunctionName` where only a whole function will do.
    pub(crate) fn parse_unqualified<'a>(&self, text: &'a str) -> Result<&'a str, ApiError> {
        match self.parse(text, None)? {
            Reference { name, qualifier: None | Some(LATEST) } => Ok(name),
            Reference { qualifier: Some(qualifier), .. } => Err(ApiError::invalid(format!(
                "this action is about a function, not about its version or alias `{qualifier}`: name it without"
            ))),
        }
    }

    fn check_region(&self, region: &str) -> Result<(), ApiError> {
        if region == self.region {
            return Ok(());
        }
        Err(ApiError::not_found(format!(
            "Functions from '{region}' are not reachable in this region ('{}')",
            self.region
        )))
    }
}

fn agree<'a>(
    named: Option<&'a str>,
    qualifier: Option<&'a str>,
) -> Result<Option<&'a str>, ApiError> {
    for given in [named, qualifier].into_iter().flatten() {
        if given != LATEST && !is_name(given, LONGEST_QUALIFIER) {
            return Err(ApiError::invalid(format!(
                "`{given}` is no qualifier: it is a version number, an alias or {LATEST}"
            )));
        }
    }
    match (named, qualifier) {
        (Some(named), Some(qualifier)) if named != qualifier => Err(ApiError::invalid(
            "The derived qualifier from the function name does not match the specified qualifier.",
        )),
        _ => Ok(named.or(qualifier)),
    }
}

/// Whether it can be the name of a function or of an alias.
pub(crate) fn is_name(text: &str, longest: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=longest).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn malformed(text: &str) -> ApiError {
    let shown: String = text.chars().take(160).collect();
    ApiError::invalid(format!(
        "`{shown}` names no function: a name has 1 to {LONGEST_NAME} letters, digits, - and _; an ARN is \
         arn:aws:lambda:region:account:function:name"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'_> = Scope { region: "eu-central-1", account: "123456789012" };

    #[test]
    fn reads_every_form() {
        let cases = [
            ("f", None),
            ("f:prod", Some("prod")),
            ("f:$LATEST", Some("$LATEST")),
            ("123456789012:function:f", None),
            ("123456789012:function:f:1", Some("1")),
            ("function:f", None),
            ("arn:aws:lambda:eu-central-1:123456789012:function:f", None),
            ("arn:aws:lambda:eu-central-1:123456789012:function:f:prod", Some("prod")),
        ];
        for (text, qualifier) in cases {
            assert_eq!(
                SCOPE.parse(text, None).unwrap(),
                Reference { name: "f", qualifier },
                "{text}"
            );
        }
        assert_eq!(SCOPE.parse("function", None).unwrap().name, "function");
    }

    #[test]
    fn refuses_what_names_no_function() {
        let long = "x".repeat(65);
        for text in ["", "a b", "f:", "f:a:b", "../f", "arn:aws:s3:::bucket", &long, "f:1/2"] {
            let error = SCOPE.parse(text, None).unwrap_err();
            assert_eq!(error.name, "InvalidParameterValueException", "{text}");
        }
    }

    #[test]
    fn what_belongs_to_others_is_not_found() {
        for text in [
            "210987654321:function:f",
            "arn:aws:lambda:eu-central-1:210987654321:function:f",
            "arn:aws:lambda:us-east-1:123456789012:function:f",
        ] {
            assert_eq!(SCOPE.parse(text, None).unwrap_err().name, "ResourceNotFoundException");
        }
    }

    #[test]
    fn qualifiers_have_to_agree() {
        assert_eq!(SCOPE.parse("f:1", Some("1")).unwrap().qualifier, Some("1"));
        assert_eq!(SCOPE.parse("f", Some("1")).unwrap().qualifier, Some("1"));
        assert!(SCOPE.parse("f:1", Some("2")).is_err());
        assert!(SCOPE.parse("f", Some("")).is_err());
        assert!(SCOPE.parse_unqualified("f:1").is_err());
        assert_eq!(SCOPE.parse_unqualified("f:$LATEST").unwrap(), "f");
    }
}
