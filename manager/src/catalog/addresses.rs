//! Which function an address is of.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::Function;

/// The functions of all addresses, by the address' id. Behind the catalog's one writer.
#[derive(Debug, Default)]
pub(super) struct Addresses(RwLock<HashMap<String, Owner>>);

/// Tenant and name.
type Owner = (Arc<str>, Arc<str>);

impl Addresses {
    /// A function has taken the place of another, or there was none before, or is none any more.
    pub(super) fn change(&self, before: Option<&Function>, after: Option<&Function>) {
        let ids = |function: Option<&Function>| -> Vec<String> {
            let urls = function.into_iter().flat_map(|function| function.urls.values());
            urls.map(|url| url.id.clone()).collect()
        };
        let (gone, here) = (ids(before), ids(after));
        if gone == here {
            return;
        }
        let mut owners = self.0.write().unwrap_or_else(PoisonError::into_inner);
        gone.iter().for_each(|id| drop(owners.remove(id)));
        if let Some(function) = after {
            let owner: Owner = (function.tenant.as_str().into(), function.name.as_str().into());
            owners.extend(here.into_iter().map(|id| (id, owner.clone())));
        }
    }

    /// Tenant and name of the function that has an address.
    pub(super) fn owner(&self, id: &str) -> Option<Owner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}
