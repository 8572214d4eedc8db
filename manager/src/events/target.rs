//! How requests about sources name functions: name, partial ARN or ARN, each with a qualifier or without.

use crate::api::ApiError;
use crate::control::reference::Scope;
use crate::model::{Function, LATEST};

/// A function and one of its versions or aliases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The function's name.
    pub(super) name: String,
    /// Version number, alias or `$LATEST`.
    pub(super) qualifier: String,
}

impl Target {
    /// Reads `FunctionName`.
    pub(super) fn parse(text: &str, region: &str, account: &str) -> Result<Self, ApiError> {
        let parts: Vec<&str> = text.splitn(9, ':').collect();
        let (scope, rest) = match parts.as_slice() {
            ["arn", "aws", "lambda", of_region, of_account, "function", rest @ ..] => {
                ((*of_region, *of_account), rest)
            }
            [of_account, "function", rest @ ..] if !rest.is_empty() => {
                ((region, *of_account), rest)
            }
            rest => ((region, account), rest),
        };
        let (name, qualifier) = match rest {
            [name] => (*name, LATEST),
            [name, qualifier] => (*name, *qualifier),
            _ => return Err(malformed(text)),
        };
        if name.is_empty() || name.len() > 64 || qualifier.is_empty() || qualifier.len() > 128 {
            return Err(malformed(text));
        }
        if scope != (region, account) {
            // What others have is none of the caller's business: it is not there.
            return Err(ApiError::not_found(format!("Function not found: {text}")));
        }
        Ok(Self { name: name.to_owned(), qualifier: qualifier.to_owned() })
    }

    /// Its ARN; that of the function alone where `$LATEST` is meant.
    pub(super) fn arn(name: &str, qualifier: &str, region: &str, account: &str) -> String {
        let qualifier = Some(qualifier).filter(|qualifier| *qualifier != LATEST);
        Scope { region, account }.arn(name, qualifier)
    }
}

/// Whether a function has such a version or alias.
pub(super) fn has(function: &Function, qualifier: &str) -> bool {
    let number = || qualifier.parse().ok().filter(|number: &u32| number.to_string() == qualifier);
    qualifier == LATEST
        || function.aliases.contains_key(qualifier)
        || number().is_some_and(|number| function.versions.contains_key(&number))
}

fn malformed(text: &str) -> ApiError {
    let shown: String = text.chars().take(160).collect();
    ApiError::invalid(format!("`{shown}` names no function: use its name or its ARN"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, &'static str> {
        Target::parse(text, "eu-central-1", "123456789012").map_err(|error| error.name)
    }

    #[test]
    fn reads_every_form() {
        for (text, qualifier) in [
            ("f", LATEST),
            ("f:prod", "prod"),
            ("123456789012:function:f", LATEST),
            ("arn:aws:lambda:eu-central-1:123456789012:function:f:7", "7"),
        ] {
            let expected = Target { name: "f".into(), qualifier: qualifier.into() };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_the_callers() {
        for text in [
            "210987654321:function:f",
            "arn:aws:lambda:eu-central-1:210987654321:function:f",
            "arn:aws:lambda:us-east-1:123456789012:function:f",
        ] {
            assert_eq!(parse(text), Err("ResourceNotFoundException"), "{text}");
        }
        for text in ["", "f:", "f:a:b:c"] {
            assert_eq!(parse(text), Err("InvalidParameterValueException"), "{text}");
        }
    }
}
