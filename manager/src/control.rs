//! The control plane: what AWS Lambda's actions do to functions, without HTTP.
//!
//! | module | what it does |
//! | --- | --- |
//! | `reference` | reads names and ARNs |
//! | `request` | what clients send |
//! | `settings`, `package` | what a function may be |
//! | `state` | what becomes of versions; pure |
//! | `functions`, `layers`, `versions`, `aliases`, `concurrency`, `events`, `urls`, `tags`, `account` | the actions |
//! | `builds` | which snapshots are to be built, and what came of them |
//! | `resolve` | where a call goes |
//!
//! Actions block: on the ledger, on the code store. Looking something up does not. Every action is one change of one
//! function: it is in the ledger when the action returns.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc::UnboundedSender;

use crate::api::ApiError;
use crate::auth::{Caller, Keyring};
use crate::catalog::Catalog;
use crate::clock::now;
use crate::codes::{CodeStore, CodesError};
use crate::ledger::Ledger;
use crate::model::{Function, LATEST, Tenant, Version};

mod account;
mod aliases;
mod builds;
mod concurrency;
mod events;
mod functions;
mod layers;
pub(crate) mod package;
pub(crate) mod page;
pub(crate) mod reference;
pub(crate) mod request;
mod resolve;
pub(crate) mod settings;
mod state;
mod tags;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod urls;
mod versions;

pub(crate) use account::AccountSettings;
pub(crate) use aliases::NamedAlias;
pub use builds::{BuildJob, Plan};
pub(crate) use concurrency::Provisioned;
pub(crate) use events::NamedEventInvoke;
pub(crate) use layers::Wanted;
use reference::Scope;
pub use resolve::Target;
pub(crate) use urls::{NamedUrl, is_id as is_url_id};
pub(crate) use versions::base64_digest;

/// What a control plane is made of.
pub struct Parts {
    /// The functions.
    pub catalog: Arc<Catalog>,
    /// Their code, and that of layers.
    pub codes: Arc<CodeStore>,
    /// What there is besides functions.
    pub ledger: Arc<dyn Ledger>,
    /// Whose they may be.
    pub keyring: Arc<Keyring>,
    /// The region in our ARNs.
    pub region: String,
    /// What the host names of functions' addresses end with.
    pub url_domain: String,
    /// Takes what is to be built.
    pub builds: UnboundedSender<BuildJob>,
    /// Takes the names of snapshots that no call will be answered from any more.
    pub retired: UnboundedSender<String>,
    /// Knows the machines that stand ready.
    pub readiness: Arc<dyn Readiness>,
}

/// Knows the machines that stand ready, for the status of provisioned concurrency.
pub trait Readiness: Send + Sync + 'static {
    /// Machines that are ready for calls of this version or alias.
    fn ready(&self, tenant: &str, function: &str, qualifier: &str) -> u32;
}

/// There are none.
impl Readiness for () {
    fn ready(&self, _tenant: &str, _function: &str, _qualifier: &str) -> u32 {
        0
    }
}

/// The control plane. Safe to share between threads.
pub struct Control {
    parts: Parts,
    /// Shared while a package has been stored that nothing refers to yet, or while one that is referred to is given to
    /// another function; exclusive to collect garbage.
    uploads: RwLock<()>,
    /// Whose layer is unpacked to be looked at.
    unpacking: layers::Turns,
}

/// A version of a function that an action is about.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// The function.
    pub(crate) function: Arc<Function>,
    /// Which version; `None` is `$LATEST`.
    pub(crate) number: Option<u32>,
    /// The end of its ARN, as the client named it.
    pub(crate) qualifier: Option<String>,
}

impl Chosen {
    /// The version itself.
    pub(crate) fn version(&self) -> &Version {
        state::version(&self.function, self.number).unwrap_or(&self.function.latest)
    }
}

impl Control {
    /// Puts a control plane together.
    pub fn new(parts: Parts) -> Self {
        Self { parts, uploads: RwLock::new(()), unpacking: layers::Turns::default() }
    }

    /// The functions.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.parts.catalog
    }

    /// Their code.
    pub fn codes(&self) -> &Arc<CodeStore> {
        &self.parts.codes
    }

    /// The tenants, and their keys.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.parts.keyring
    }

    /// The region in our ARNs.
    pub fn region(&self) -> &str {
        &self.parts.region
    }

    /// What the host names of functions' addresses end with.
    pub fn url_domain(&self) -> &str {
        &self.parts.url_domain
    }

    /// ARN of a tenant's function, version or alias.
    pub fn arn(&self, account: &str, name: &str, qualifier: Option<&str>) -> String {
        Scope { region: self.region(), account }.arn(name, qualifier)
    }

    /// Removes the packages that no function and no layer refers to. Blocks.
    ///
    /// # Errors
    ///
    /// When one cannot be removed.
    pub fn collect(&self) -> Result<(), CodesError> {
        self.codes().tenants().iter().try_for_each(|tenant| self.collect_of(tenant))
    }

    fn collect_of(&self, tenant: &str) -> Result<(), CodesError> {
        let _no_uploads = self.uploads.write().unwrap_or_else(PoisonError::into_inner);
        let functions = self.catalog().list(tenant);
        // Logged where it fails. What cannot be known to be needless stays.
        let Ok(layers) = self.layers_of(tenant) else { return Ok(()) };
        let versions = functions.iter().flat_map(|function| state::versions(function));
        let codes = versions.flat_map(|version| {
            let layers = version.configuration.layers.iter().map(|layer| &layer.code);
            layers.chain([&version.code])
        });
        let codes = codes.chain(layers.iter().map(|layer| &layer.code));
        let kept: BTreeSet<&str> = codes.map(|code| code.sha256.as_str()).collect();
        self.codes().collect(tenant, &kept)
    }

    /// Removes packages that an action has made needless; what cannot be removed is left for the next time.
    fn sweep(&self, tenant: &str) {
        if let Err(error) = self.collect_of(tenant) {
            tracing::warn!(tenant, error = &error as &dyn std::error::Error, "packages stay");
        }
    }

    pub(crate) fn scope<'a>(&'a self, caller: &'a Caller) -> Scope<'a> {
        Scope { region: self.region(), account: &caller.account }
    }

    fn tenant(&self, caller: &Caller) -> Result<Arc<Tenant>, ApiError> {
        self.keyring().tenant(&caller.tenant).ok_or_else(|| {
            let status = http::StatusCode::FORBIDDEN;
            ApiError::new(status, "AccessDeniedException", "the key's tenant does not exist")
        })
    }

    fn find(&self, caller: &Caller, name: &str) -> Result<Arc<Function>, ApiError> {
        let found = self.catalog().get(&caller.tenant, name);
        found.ok_or_else(|| self.scope(caller).not_found(name, None))
    }

    /// What a request's name and qualifier stand for; of an alias, the version that most calls go to.
    pub(crate) fn choose(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<Chosen, ApiError> {
        let scope = self.scope(caller);
        let reference = scope.parse(text, qualifier)?;
        let function = self.find(caller, reference.name)?;
        let number = match reference.qualifier {
            None => Some(None),
            Some(qualifier) => number_of(&function, qualifier),
        };
        let number = number.ok_or_else(|| scope.not_found(reference.name, reference.qualifier))?;
        Ok(Chosen { function, number, qualifier: reference.qualifier.map(str::to_owned) })
    }

    /// Changes a function, and sees to what follows from that.
    fn change<T>(
        &self,
        tenant: &str,
        name: &str,
        change: impl FnOnce(&mut Function) -> Result<T, ApiError>,
    ) -> Result<(Arc<Function>, T), ApiError> {
        let (function, (value, before)) = self.catalog().update(tenant, name, |function| {
            let before = function.clone();
            Ok((change(function)?, before))
        })?;
        self.follow(Some(&before), &function);
        let kept = state::snapshots(&function);
        self.retire(state::snapshots(&before).difference(&kept).copied());
        Ok((function, value))
    }

    /// Has built what a change needs.
    fn follow(&self, before: Option<&Function>, after: &Function) {
        for number in state::begun(before, after) {
            let tenant = after.tenant.clone();
            // Nobody receives while the host stops: what is unbuilt is found when it starts again.
            let _ =
                self.parts.builds.send(BuildJob { tenant, function: after.name.clone(), number });
        }
    }

    fn retire<'a>(&self, snapshots: impl Iterator<Item = &'a str>) {
        for snapshot in snapshots {
            let _ = self.parts.retired.send(snapshot.to_owned());
        }
    }
}

/// The version that a qualifier stands for, if there is one: `Some(None)` is `$LATEST`.
fn number_of(function: &Function, qualifier: &str) -> Option<Option<u32>> {
    if qualifier == LATEST {
        return Some(None);
    }
    if let Some(alias) = function.aliases.get(qualifier) {
        return number_of_version(function, &alias.version);
    }
    number_of_version(function, qualifier)
}

/// The version that a text stands for which is no alias.
fn number_of_version(function: &Function, text: &str) -> Option<Option<u32>> {
    if text == LATEST {
        return Some(None);
    }
    // `+1` and `01` are numbers to Rust, but not versions.
    let number = text.parse::<u32>().ok().filter(|number| number.to_string() == text)?;
    function.versions.contains_key(&number).then_some(Some(number))
}

/// A parameter that has to be there.
fn required<T>(name: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::invalid(format!("{name} is missing")))
}
