//! Layers: what functions share, published once and merged into `/opt` of their machines.
//!
//! A function keeps of a layer version what its build needs, not the version itself: one that is deleted can be given to
//! no function any more, and those that have it keep it, as with AWS Lambda.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use http::StatusCode;

use super::functions::failed as codes_failed;
use super::page::{Page, Paging, name_marker, page};
use super::request::PublishLayer;
use super::{Control, now, package, required};
use crate::api::ApiError;
use crate::auth::Caller;
use crate::ledger::LedgerError;
use crate::model::{Layer, LayerVersion};
use crate::package::{Limits, unpack};

mod checks;
mod names;
#[cfg(test)]
mod tests;
mod turns;

pub(super) use checks::{check_arns, check_size};
pub(super) use turns::Turns;

/// Layer versions of a tenant. Lambda bounds them by the bytes of their packages, of which equal ones here count once.
const VERSIONS_MOST: usize = 10_000;

/// Which layer versions are wanted of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// For this runtime.
    pub(crate) runtime: Option<&'a str>,
    /// For this processor.
    pub(crate) architecture: Option<&'a str>,
}

impl Wanted<'_> {
    fn has(&self, layer: &LayerVersion) -> bool {
        let in_list = |list: &[String], one: Option<&str>| {
            one.is_none_or(|wanted| list.iter().any(|has| has == wanted))
        };
        in_list(&layer.runtimes, self.runtime) && in_list(&layer.architectures, self.architecture)
    }
}

impl Control {
    /// `PublishLayerVersion`. The package is unpacked to see that it can be: a function's build is too late to learn that.
    pub(crate) fn publish_layer(
        &self,
        caller: &Caller,
        text: &str,
        request: PublishLayer,
    ) -> Result<LayerVersion, ApiError> {
        let name = self.scope(caller).parse_layer(text)?;
        let mut layer = checks::described(&request)?;
        let zip = package::zip_file(Some(required("Content", request.content)?))?;
        let tenant = self.tenant(caller)?;
        let _turn = self.unpacking.take(&tenant.name)?;
        if self.layers_of(&tenant.name)?.len() >= VERSIONS_MOST {
            return Err(ApiError::storage(format!(
                "the tenant has {VERSIONS_MOST} layer versions: delete some"
            )));
        }
        layer.unzipped = unzipped(&zip)?;
        (layer.tenant, layer.name) = (tenant.name.clone(), name.to_owned());
        layer.created = now();
        self.with_code(&tenant, &zip, |code| {
            layer.code = code;
            layer.number = self.parts.ledger.add_layer(&layer).map_err(failed)?;
            Ok(layer)
        })
    }

    /// `GetLayerVersion`.
    pub(crate) fn layer(
        &self,
        caller: &Caller,
        text: &str,
        number: &str,
    ) -> Result<LayerVersion, ApiError> {
        let name = self.scope(caller).parse_layer(text)?;
        let number = names::number(number)?;
        let found = self.parts.ledger.layer(&caller.tenant, name, number).map_err(failed)?;
        found.ok_or_else(|| self.scope(caller).no_layer(name, number))
    }

    /// `GetLayerVersionByArn`.
    pub(crate) fn layer_by_arn(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<LayerVersion, ApiError> {
        let malformed = || ApiError::invalid(format!("Arn: {}", names::malformed(arn)));
        let (layer, number) = arn.rsplit_once(':').ok_or_else(malformed)?;
        if !arn.starts_with("arn:") {
            return Err(malformed());
        }
        self.layer(caller, layer, number)
    }

    /// `ListLayers`: of each layer, the latest version that is wanted.
    pub(crate) fn list_layers(
        &self,
        caller: &Caller,
        wanted: Wanted<'_>,
        paging: Paging<'_>,
    ) -> Result<Page<LayerVersion>, ApiError> {
        let all = self.layers_of(&caller.tenant)?.into_iter().filter(|layer| wanted.has(layer));
        // In the order of their numbers: the last one stays.
        let latest: BTreeMap<String, LayerVersion> =
            all.map(|layer| (layer.name.clone(), layer)).collect();
        page(latest.into_iter(), paging, name_marker, String::clone)
    }

    /// `ListLayerVersions`: the newest first. A layer without versions has none, whether it ever had any.
    pub(crate) fn list_layer_versions(
        &self,
        caller: &Caller,
        text: &str,
        wanted: Wanted<'_>,
        paging: Paging<'_>,
    ) -> Result<Page<LayerVersion>, ApiError> {
        let name = self.scope(caller).parse_layer(text)?;
        let all = self.layers_of(&caller.tenant)?.into_iter().rev();
        let versions = all
            .filter(|layer| layer.name == name && wanted.has(layer))
            .map(|layer| (Reverse(layer.number), layer));
        let read = |marker: &str| marker.parse().ok().map(Reverse);
        page(versions, paging, read, |number| number.0.to_string())
    }

    /// `DeleteLayerVersion`. One that is not there is no error.
    pub(crate) fn delete_layer(
        &self,
        caller: &Caller,
        text: &str,
        number: &str,
    ) -> Result<(), ApiError> {
        let name = self.scope(caller).parse_layer(text)?;
        let number = names::number(number)?;
        if self.parts.ledger.remove_layer(&caller.tenant, name, number).map_err(failed)? {
            self.sweep(&caller.tenant);
        }
        Ok(())
    }

    /// The package of a layer version. Blocks.
    pub(crate) fn layer_package(&self, layer: &LayerVersion) -> Result<Vec<u8>, ApiError> {
        self.codes().read(&layer.tenant, &layer.code).map_err(codes_failed)
    }

    /// What a function is to know of its layers, of which it has `had` some. To be called, and its result put into the
    /// catalog, while no package can be collected.
    pub(super) fn resolve_layers(
        &self,
        caller: &Caller,
        arns: &[String],
        had: &[Layer],
    ) -> Result<Vec<Layer>, ApiError> {
        let resolve = |arn: &String| {
            if let Some(known) = had.iter().find(|layer| layer.arn == *arn) {
                return Ok(known.clone());
            }
            let found = match self.layer_by_arn(caller, arn) {
                Err(error) if error.status == StatusCode::NOT_FOUND => {
                    return Err(ApiError::invalid(format!("Layer version {arn} does not exist.")));
                }
                found => found?,
            };
            let LayerVersion { code, unzipped, .. } = found;
            Ok(Layer { arn: arn.clone(), code, unzipped })
        };
        arns.iter().map(resolve).collect()
    }

    /// The layer versions of a tenant, by name and number.
    pub(super) fn layers_of(&self, tenant: &str) -> Result<Vec<LayerVersion>, ApiError> {
        self.parts.ledger.layers(tenant).map_err(failed)
    }
}

/// Bytes of a package's files, all of which can be unpacked.
fn unzipped(zip: &[u8]) -> Result<u64, ApiError> {
    let internal = |error: &(dyn std::error::Error + 'static)| {
        tracing::error!(error, "a layer cannot be unpacked here");
        ApiError::of(error)
    };
    let folder = tempfile::tempdir().map_err(|error| internal(&error))?;
    match unpack(zip, &folder.path().join("layer"), &Limits::default()) {
        Ok(unpacked) => Ok(unpacked.bytes),
        Err(error) if error.is_of_package() => Err(ApiError::invalid(error.to_string())),
        Err(error) => Err(internal(&error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: LedgerError) -> ApiError {
    tracing::error!(error = &error as &dyn std::error::Error, "the ledger fails");
    ApiError::of(&error)
}
