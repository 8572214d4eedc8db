//! Functions: made, looked up, changed, listed, removed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::layers::check_size;
use super::page::{Page, Paging, page};
use super::request::{Create, Package, Precondition, Settings, UpdateCode};
use super::{Chosen, Control, now, package, reference, required, settings, state, tags};
use crate::api::ApiError;
use crate::auth::Caller;
use crate::codes::{CodeStore, CodesError};
use crate::model::{Code, Function, LATEST, Policy, State, Tenant, Update, Version};

impl Control {
    /// `CreateFunction`.
    pub(crate) fn create(
        &self,
        caller: &Caller,
        request: Create,
        settings: Settings,
    ) -> Result<Chosen, ApiError> {
        let text = required("FunctionName", request.function_name)?;
        let name = self.scope(caller).parse_unqualified(&text)?;
        if request.package_type.is_some_and(|kind| kind != "Zip") {
            return Err(ApiError::invalid(
                "PackageType: this host runs no container images: it has to be Zip",
            ));
        }
        let layers = settings.layers.clone().unwrap_or_default();
        let mut configuration = settings::create(settings)?;
        let tags = request.tags.unwrap_or_default();
        tags::check(&tags)?;
        if self.catalog().get(&caller.tenant, name).is_some() {
            return Err(ApiError::conflict(format!("Function already exist: {name}")));
        }
        let package = package::zip_file(request.code)?;
        let tenant = self.tenant(caller)?;
        let unzipped = package::unzipped(&package);

        let inserted = self.with_code(&tenant, &package, |code| {
            configuration.layers = self.resolve_layers(caller, &layers, &[])?;
            check_size(unzipped, &configuration.layers)?;
            let latest = Version {
                number: None,
                configuration,
                code,
                state: State::Pending,
                update: Update::Successful,
                revision: state::revision(),
                lineage: state::revision(),
                modified: now(),
                snapshot: None,
            };
            let mut function = of(&tenant, name, latest, tags);
            let number = match request.publish {
                Some(true) => Some(state::publish(&mut function, None, now())?),
                _ => None,
            };
            Ok((self.catalog().insert(function, tenant.quota.functions)?, number))
        });
        let (function, number) = inserted?;
        self.follow(None, &function);
        Ok(published(function, number))
    }

    /// `UpdateFunctionCode`.
    pub(crate) fn update_code(
        &self,
        caller: &Caller,
        text: &str,
        package: Package,
        request: &UpdateCode,
    ) -> Result<Chosen, ApiError> {
        let name = self.scope(caller).parse_unqualified(text)?;
        settings::check_architectures(request.architectures.as_deref())?;
        let found = self.find(caller, name)?;
        let package = package::zip_file(Some(package))?;
        let unzipped = package::unzipped(&package);

        let change = |function: &mut Function, code: Code| {
            self.check_change(caller, function, request.revision_id.as_deref())?;
            check_size(unzipped, &function.latest.configuration.layers)?;
            function.latest.code = code;
            state::begin(&mut function.latest, now());
            let publish = request.publish == Some(true);
            publish.then(|| state::publish(function, None, now())).transpose()
        };
        // On a copy first: what cannot be done is not worth storing, and a dry run ends here.
        let mut dry = Function::clone(&found);
        let number = change(&mut dry, CodeStore::describe(&package))?;
        if request.dry_run == Some(true) {
            return Ok(published(Arc::new(dry), number));
        }

        let tenant = self.tenant(caller)?;
        let (function, number) = self.with_code(&tenant, &package, |code| {
            self.change(&caller.tenant, name, |function| change(function, code))
        })?;
        self.sweep(&caller.tenant);
        Ok(published(function, number))
    }

    /// `UpdateFunctionConfiguration`.
    pub(crate) fn update_configuration(
        &self,
        caller: &Caller,
        text: &str,
        settings: Settings,
        precondition: &Precondition,
    ) -> Result<Chosen, ApiError> {
        let name = self.scope(caller).parse_unqualified(text)?;
        let found = self.find(caller, name)?;
        let layers = settings.layers.clone();
        let unzipped = match layers.as_deref() {
            None | Some([]) => 0,
            Some(_) => {
                let package = self.codes().read(&caller.tenant, &found.latest.code);
                package::unzipped(&package.map_err(failed)?)
            }
        };
        // A layer that is deleted meanwhile is still there for this function, or was gone before.
        let given = self.uploads.read().unwrap_or_else(PoisonError::into_inner);
        let changed = self.change(&caller.tenant, name, |function| {
            self.check_change(caller, function, precondition.revision_id.as_deref())?;
            let latest = &mut function.latest;
            let before = latest.configuration.clone();
            settings::apply(settings, &mut latest.configuration)?;
            if let Some(layers) = layers {
                let had = &before.layers;
                latest.configuration.layers = self.resolve_layers(caller, &layers, had)?;
                check_size(unzipped, &latest.configuration.layers)?;
            }
            // A snapshot that could not be built is tried again whatever has changed.
            let settled = latest.update == Update::Successful;
            if settled && !settings::differ(&before, &latest.configuration) {
                state::touch(latest, now());
            } else {
                state::begin(latest, now());
            }
            Ok(before.layers)
        });
        drop(given);
        let (function, before) = changed?;
        if before != function.latest.configuration.layers {
            self.sweep(&caller.tenant);
        }
        Ok(published(function, None))
    }

    /// `ListFunctions`: `$LATEST` of each, or every version.
    pub(crate) fn list(
        &self,
        caller: &Caller,
        all_versions: bool,
        paging: Paging<'_>,
    ) -> Result<Page<Chosen>, ApiError> {
        let functions = self.catalog().list(&caller.tenant);
        let items = functions.into_iter().flat_map(|function| {
            let published = function.versions.keys().filter(|_| all_versions).map(|n| Some(*n));
            let numbers: Vec<_> = std::iter::once(None).chain(published).collect();
            numbers.into_iter().map(move |number| {
                let key = (function.name.clone(), number.unwrap_or(0));
                let qualifier = all_versions
                    .then(|| number.map_or_else(|| LATEST.to_owned(), |number| number.to_string()));
                (key, Chosen { function: Arc::clone(&function), number, qualifier })
            })
        });
        let read = |marker: &str| {
            let (name, number) = marker.split_once(':')?;
            Some((name.to_owned(), number.parse::<u32>().ok()?))
        };
        page(items, paging, read, |(name, number)| format!("{name}:{number}"))
    }

    /// `DeleteFunction`: all of it, or one version.
    pub(crate) fn delete(
        &self,
        caller: &Caller,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<(), ApiError> {
        let scope = self.scope(caller);
        let reference::Reference { name, qualifier } = scope.parse(text, qualifier)?;
        match qualifier {
            Some(qualifier) => self.delete_version(caller, name, qualifier)?,
            None => {
                let removed = self.catalog().remove(&caller.tenant, name)?;
                let removed = removed.ok_or_else(|| scope.not_found(name, None))?;
                self.retire(state::snapshots(&removed).into_iter());
            }
        }
        self.sweep(&caller.tenant);
        Ok(())
    }

    /// The package of a version. Blocks.
    pub(crate) fn package(&self, caller: &Caller, chosen: &Chosen) -> Result<Vec<u8>, ApiError> {
        self.codes().read(&caller.tenant, &chosen.version().code).map_err(failed)
    }

    fn check_change(
        &self,
        caller: &Caller,
        function: &Function,
        revision: Option<&str>,
    ) -> Result<(), ApiError> {
        state::check_revision(revision, &function.latest.revision)?;
        state::check_settled(&function.latest, &self.scope(caller).arn(&function.name, None))
    }

    /// Stores a package and has a function or a layer refer to it; none is collected in between.
    pub(super) fn with_code<T>(
        &self,
        tenant: &Tenant,
        package: &[u8],
        refer: impl FnOnce(Code) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let upload = self.uploads.read().unwrap_or_else(PoisonError::into_inner);
        let stored = self.codes().put(&tenant.name, package, tenant.quota.storage);
        let referred = stored.map_err(failed).and_then(refer);
        drop(upload);
        if referred.is_err() {
            self.sweep(&tenant.name);
        }
        referred
    }
}

/// What an action that may publish is about.
fn published(function: Arc<Function>, number: Option<u32>) -> Chosen {
    Chosen { function, number, qualifier: number.map(|number| number.to_string()) }
}

fn of(tenant: &Tenant, name: &str, latest: Version, tags: BTreeMap<String, String>) -> Function {
    Function {
        tenant: tenant.name.clone(),
        name: name.to_owned(),
        latest,
        versions: BTreeMap::new(),
        last_number: 0,
        aliases: BTreeMap::new(),
        reserved: None,
        provisioned: BTreeMap::new(),
        event_invoke: BTreeMap::new(),
        urls: BTreeMap::new(),
        tags,
        policy: Policy::default(),
    }
}

pub(super) fn failed(error: CodesError) -> ApiError {
    match error {
        CodesError::Full { used, most } => ApiError::storage(format!(
            "the tenant's code packages have {used} of the {most} bytes that its quota allows, which leaves too little \
             for this one: delete functions, layers, or versions of them"
        )),
        error => {
            tracing::error!(error = &error as &dyn std::error::Error, "the code store fails");
            ApiError::of(&error)
        }
    }
}
