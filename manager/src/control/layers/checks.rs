//! What a layer version may be published as, and which ones a function may have together.

use std::collections::BTreeMap;

use crate::api::ApiError;
use crate::control::package::UNZIPPED_MOST;
use crate::control::request::PublishLayer;
use crate::control::settings::{check_description, shortened};
use crate::model::{Code, Layer, LayerVersion};

/// Layers of a function (Lambda quotas, "Function layers").
const LAYERS_MOST: usize = 5;
/// `CompatibleRuntimes` and `LicenseInfo`, as `service-2.json` has them.
const RUNTIMES_MOST: usize = 15;
const LICENSE_MOST: usize = 512;
/// Characters of a runtime's name; all of AWS's are far shorter.
const RUNTIME_LONGEST: usize = 64;
const ARCHITECTURES: [&str; 2] = ["x86_64", "arm64"];

/// A layer version with what its publisher says of it; the rest is to be filled in.
pub(super) fn described(request: &PublishLayer) -> Result<LayerVersion, ApiError> {
    let description = request.description.clone().unwrap_or_default();
    check_description(&description)?;
    let license = request.license_info.clone().unwrap_or_default();
    if license.chars().count() > LICENSE_MOST {
        return Err(ApiError::invalid(format!(
            "LicenseInfo has more than {LICENSE_MOST} characters"
        )));
    }
    let runtimes = request.compatible_runtimes.clone().unwrap_or_default();
    let named = |name: &String| {
        (1..=RUNTIME_LONGEST).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
    };
    if runtimes.len() > RUNTIMES_MOST || !runtimes.iter().all(named) {
        return Err(ApiError::invalid(format!(
            "CompatibleRuntimes has to be up to {RUNTIMES_MOST} names of runtimes"
        )));
    }
    let architectures = request.compatible_architectures.clone().unwrap_or_default();
    let known = |name: &String| ARCHITECTURES.contains(&name.as_str());
    if architectures.len() > ARCHITECTURES.len() || !architectures.iter().all(known) {
        return Err(ApiError::invalid(format!(
            "CompatibleArchitectures has to be of {}",
            ARCHITECTURES.join(", ")
        )));
    }
    Ok(LayerVersion {
        tenant: String::new(),
        name: String::new(),
        number: 0,
        code: Code { sha256: String::new(), size: 0 },
        unzipped: 0,
        description,
        license,
        runtimes,
        architectures,
        created: 0,
    })
}

/// Whether these may be a function's layers, as far as can be seen by their ARNs.
pub(in crate::control) fn check_arns(arns: &[String]) -> Result<(), ApiError> {
    if arns.len() > LAYERS_MOST {
        return Err(ApiError::invalid(format!("Cannot reference more than {LAYERS_MOST} layers.")));
    }
    let mut seen = BTreeMap::new();
    for arn in arns {
        let parts: Vec<&str> = arn.split(':').collect();
        let ["arn", _, "lambda", _, _, "layer", name, version] = parts.as_slice() else {
            return Err(no_arn(arn));
        };
        if name.is_empty() || version.parse::<u32>().is_err() {
            return Err(no_arn(arn));
        }
        let layer = arn.rsplit_once(':').map_or(arn.as_str(), |(layer, _)| layer);
        if let Some(other) = seen.insert(layer, arn) {
            return Err(ApiError::invalid(format!(
                "Two different versions of the same layer are not allowed to be referenced in the same function. \
                 {other} and {arn}."
            )));
        }
    }
    Ok(())
}

fn no_arn(text: &str) -> ApiError {
    ApiError::invalid(format!("Layers: `{}` is no ARN of a layer's version", shortened(text)))
}

/// Whether code of so many bytes, unzipped, may have these layers.
pub(in crate::control) fn check_size(unzipped: u64, layers: &[Layer]) -> Result<(), ApiError> {
    let all = layers.iter().fold(unzipped, |sum, layer| sum.saturating_add(layer.unzipped));
    // Code alone has its own bound, and its own words for it.
    if all > UNZIPPED_MOST && !layers.is_empty() {
        return Err(ApiError::invalid(format!(
            "Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_MOST} bytes. The actual \
             size is {all} bytes."
        )));
    }
    Ok(())
}
