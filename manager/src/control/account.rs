//! What a tenant may use and does use; and the settings that Lambda has no word for.

use std::sync::Arc;

use super::Control;
use crate::api::ApiError;
use crate::auth::Caller;
use crate::model::{Function, Policy, Tenant};

/// What a tenant may use, and what it does.
#[derive(Clone, Debug)]
pub(crate) struct AccountSettings {
    pub(crate) tenant: Arc<Tenant>,
    /// Calls at once that are left to functions without a reservation.
    pub(crate) unreserved: u32,
    pub(crate) code_bytes: u64,
    pub(crate) functions: usize,
}

impl Control {
    /// Changes what machines of a function may be used for. Ours: Lambda has no such action. Blocks.
    ///
    /// # Errors
    ///
    /// When there is no such function, or the ledger fails.
    pub fn put_policy(
        &self,
        caller: &Caller,
        text: &str,
        policy: Policy,
    ) -> Result<Arc<Function>, ApiError> {
        let name = self.scope(caller).parse_unqualified(text)?;
        self.find(caller, name)?;
        let changed = self.change(&caller.tenant, name, |function| {
            function.policy = policy;
            Ok(())
        })?;
        Ok(changed.0)
    }

    /// `GetAccountSettings`.
    pub(crate) fn account_settings(&self, caller: &Caller) -> Result<AccountSettings, ApiError> {
        let tenant = self.tenant(caller)?;
        let reserved = self.reserved(&caller.tenant, None);
        Ok(AccountSettings {
            unreserved: tenant.quota.concurrency.saturating_sub(reserved),
            code_bytes: self.codes().used(&caller.tenant),
            functions: self.catalog().count(&caller.tenant),
            tenant,
        })
    }
}
