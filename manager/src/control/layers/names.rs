//! How requests name layers: a name, an ARN, an ARN with a version.
//!
//! ```text
//! name
//! arn:aws:lambda:eu-central-1:123456789012:layer:name[:version]
//! ```

use crate::api::ApiError;
use crate::control::reference::{Scope, is_name};
use crate::control::settings::shortened;

/// The longest name of a layer, as `service-2.json` has it.
const LONGEST: usize = 140;

impl Scope<'_> {
    /// ARN of a layer.
    pub(crate) fn layer_arn(&self, name: &str) -> String {
        let Self { region, account } = self;
        format!("arn:aws:lambda:{region}:{account}:layer:{name}")
    }

    /// ARN of a layer version.
    pub(crate) fn layer_version_arn(&self, name: &str, number: u32) -> String {
        format!("{}:{number}", self.layer_arn(name))
    }

    /// Reads a request's `LayerName`.
    ///
    /// # Errors
    ///
    /// When it is malformed, or names something of another account or region.
    pub(crate) fn parse_layer<'a>(&self, text: &'a str) -> Result<&'a str, ApiError> {
        let parts: Vec<&str> = text.splitn(8, ':').collect();
        let (place, name) = match parts.as_slice() {
            [name] => (None, *name),
            ["arn", partition, "lambda", region, account, "layer", name]
                if partition.starts_with("aws") =>
            {
                (Some((*region, *account)), *name)
            }
            _ => return Err(ApiError::invalid(malformed(text))),
        };
        if !is_name(name, LONGEST) {
            return Err(ApiError::invalid(malformed(text)));
        }
        // What others have is none of the caller's business: it is not there.
        if place.is_some_and(|place| place != (self.region, self.account)) {
            return Err(missing(text));
        }
        Ok(name)
    }

    /// That there is no such layer version.
    pub(super) fn no_layer(&self, name: &str, number: u32) -> ApiError {
        missing(&self.layer_version_arn(name, number))
    }
}

/// Reads a layer version's number.
pub(super) fn number(text: &str) -> Result<u32, ApiError> {
    // `+1` and `01` are numbers to Rust.
    let number = text.parse::<u32>().ok().filter(|number| number.to_string() == text);
    number.filter(|number| *number > 0).ok_or_else(|| {
        let text = shortened(text);
        ApiError::invalid(format!("`{text}` is no number of a layer version: they start at 1"))
    })
}

pub(super) fn malformed(text: &str) -> String {
    format!(
        "`{}` names no layer: a name has 1 to {LONGEST} letters, digits, - and _; an ARN is \
         arn:aws:lambda:region:account:layer:name, and of a version ends in its number",
        shortened(text)
    )
}

fn missing(text: &str) -> ApiError {
    ApiError::not_found(format!("Layer version not found: {}", shortened(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'_> = Scope { region: "eu-central-1", account: "123456789012" };

    #[test]
    fn a_layer_is_named_or_given_by_its_arn() {
        assert_eq!(SCOPE.parse_layer("l_1-x").unwrap(), "l_1-x");
        assert_eq!(SCOPE.parse_layer(&SCOPE.layer_arn("l")).unwrap(), "l");
        assert_eq!(SCOPE.layer_version_arn("l", 7), format!("{}:7", SCOPE.layer_arn("l")));
        let long = "x".repeat(141);
        for text in ["", "a b", "l:1", "../l", &long, "arn:aws:lambda:eu-central-1:1:function:f"] {
            let error = SCOPE.parse_layer(text).unwrap_err();
            assert_eq!(error.name, "InvalidParameterValueException", "{text}");
        }
        for text in [
            "arn:aws:lambda:eu-central-1:210987654321:layer:l",
            "arn:aws:lambda:us-east-1:123456789012:layer:l",
        ] {
            assert_eq!(SCOPE.parse_layer(text).unwrap_err().name, "ResourceNotFoundException");
        }
    }

    #[test]
    fn versions_are_counted_from_one() {
        assert_eq!(number("1").unwrap(), 1);
        for text in ["0", "-1", "+1", "01", "1.0", "x", "", "99999999999"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
