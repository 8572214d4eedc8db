//! Tags of functions.

use std::collections::BTreeMap;

use super::{Control, required, settings};
use crate::api::ApiError;
use crate::auth::Caller;

/// Tags of one function (Lambda developer guide, "Tag restrictions").
const MOST: usize = 50;

impl Control {
    /// `TagResource`.
    pub(crate) fn tag(
        &self,
        caller: &Caller,
        resource: &str,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<(), ApiError> {
        let name = self.scope(caller).parse_unqualified(resource)?;
        self.find(caller, name)?;
        let tags = required("Tags", tags)?;
        self.change(&caller.tenant, name, |function| {
            function.tags.extend(tags);
            check(&function.tags)
        })?;
        Ok(())
    }

    /// `UntagResource`.
    pub(crate) fn untag(
        &self,
        caller: &Caller,
        resource: &str,
        keys: &[&str],
    ) -> Result<(), ApiError> {
        let name = self.scope(caller).parse_unqualified(resource)?;
        self.find(caller, name)?;
        self.change(&caller.tenant, name, |function| {
            function.tags.retain(|key, _| !keys.contains(&key.as_str()));
            Ok(())
        })?;
        Ok(())
    }

    /// `ListTags`.
    pub(crate) fn list_tags(
        &self,
        caller: &Caller,
        resource: &str,
    ) -> Result<BTreeMap<String, String>, ApiError> {
        let name = self.scope(caller).parse_unqualified(resource)?;
        Ok(self.find(caller, name)?.tags.clone())
    }
}

/// Whether a function may have these tags.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if tags.len() > MOST {
        return Err(ApiError::invalid(format!("a function has {MOST} tags at most")));
    }
    for (key, value) in tags {
        let long = key.chars().count() > 128 || value.chars().count() > 256;
        if key.is_empty() || long || key.starts_with("aws:") {
            return Err(ApiError::invalid(format!(
                "tag `{}`: a key has 1 to 128 characters and does not start with aws:, a value has up to 256",
                settings::shortened(key)
            )));
        }
    }
    Ok(())
}
