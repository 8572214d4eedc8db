//! What a function may be configured as. Pure: [`apply`] changes a configuration, or says what is wrong.
//!
//! Bounds are those of Lambda's quotas page and of `service-2.json`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::layers::check_arns;
use super::request::Settings;
use crate::api::ApiError;
use crate::model::Configuration;

mod checks;
#[cfg(test)]
mod tests;

use checks::{
    check_dead_letter, check_environment, check_handler, check_role, check_runtime,
    refuse_unsupported,
};

/// The client's names for what we run.
pub(crate) const RUNTIMES: [&str; 6] =
    ["python3.11", "nodejs20.x", "node20", "provided", "provided.al2", "provided.al2023"];

/// What a function is where its owner says nothing.
fn defaults() -> Configuration {
    Configuration {
        runtime: String::new(),
        handler: String::new(),
        role: String::new(),
        description: String::new(),
        timeout_s: 3,
        memory_mib: 128,
        environment: BTreeMap::new(),
        layers: Vec::new(),
        dead_letter: String::new(),
        tracing: "PassThrough".to_owned(),
        ephemeral_mib: 512,
        snap_start: "None".to_owned(),
    }
}

/// The configuration of a new function.
pub(crate) fn create(settings: Settings) -> Result<Configuration, ApiError> {
    if settings.runtime.is_none() || settings.handler.is_none() {
        return Err(ApiError::invalid(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ));
    }
    if settings.role.is_none() {
        return Err(ApiError::invalid(
            "Role is missing: it is the ARN of a role; any of that form will do",
        ));
    }
    let mut configuration = defaults();
    apply(settings, &mut configuration)?;
    Ok(configuration)
}

/// Changes what `settings` has, but for layers, of which it looks at the form.
pub(crate) fn apply(settings: Settings, to: &mut Configuration) -> Result<(), ApiError> {
    refuse_unsupported(&settings)?;
    if let Some(runtime) = settings.runtime {
        check_runtime(&runtime)?;
        to.runtime = runtime;
    }
    if let Some(handler) = settings.handler {
        check_handler(&handler)?;
        to.handler = handler;
    }
    if let Some(role) = settings.role {
        check_role(&role)?;
        to.role = role;
    }
    if let Some(description) = settings.description {
        check_description(&description)?;
        to.description = description;
    }
    if let Some(timeout) = settings.timeout {
        to.timeout_s = within("Timeout", timeout, 1..=900)?;
    }
    if let Some(memory) = settings.memory_size {
        to.memory_mib = within("MemorySize", memory, 128..=10_240)?;
    }
    if let Some(environment) = settings.environment {
        let variables = environment.variables.unwrap_or_default();
        check_environment(&variables)?;
        to.environment = variables;
    }
    // Which they are is for whoever knows the tenant's layers.
    if let Some(layers) = settings.layers {
        check_arns(&layers)?;
    }
    if let Some(dead_letter) = settings.dead_letter_config {
        let target = dead_letter.target_arn.unwrap_or_default();
        check_dead_letter(&target)?;
        to.dead_letter = target;
    }
    if let Some(mode) = settings.tracing_config.and_then(|tracing| tracing.mode) {
        to.tracing = one_of("TracingConfig.Mode", mode, &["PassThrough", "Active"])?;
    }
    if let Some(size) = settings.ephemeral_storage.and_then(|storage| storage.size) {
        to.ephemeral_mib = within("EphemeralStorage.Size", size, 512..=10_240)?;
    }
    if let Some(apply_on) = settings.snap_start.and_then(|snap_start| snap_start.apply_on) {
        to.snap_start = one_of("SnapStart.ApplyOn", apply_on, &["None", "PublishedVersions"])?;
    }
    Ok(())
}

/// Whether a snapshot of the one will not do for the other.
pub(crate) fn differ(one: &Configuration, other: &Configuration) -> bool {
    let built_in = |of: &Configuration| (of.memory_mib, of.timeout_s);
    built_in(one) != built_in(other)
        || one.runtime != other.runtime
        || one.handler != other.handler
        || one.environment != other.environment
        || one.layers != other.layers
}

/// A whole number within its bounds.
pub(crate) fn within(name: &str, value: i64, bounds: RangeInclusive<u32>) -> Result<u32, ApiError> {
    u32::try_from(value).ok().filter(|value| bounds.contains(value)).ok_or_else(|| {
        let (least, most) = (bounds.start(), bounds.end());
        ApiError::invalid(format!("{name} is {value}: it has to be {least} to {most}"))
    })
}

/// A description of a function, a version or an alias.
pub(crate) fn check_description(text: &str) -> Result<(), ApiError> {
    if text.chars().count() > 256 {
        return Err(ApiError::invalid("Description has more than 256 characters"));
    }
    Ok(())
}

/// The processors that code may be for.
pub(crate) fn check_architectures(architectures: Option<&[String]>) -> Result<(), ApiError> {
    match architectures {
        None => Ok(()),
        Some([only]) if only == "x86_64" => Ok(()),
        Some(_) => Err(ApiError::invalid("Architectures has to be [\"x86_64\"] on this host")),
    }
}

fn one_of(name: &str, value: String, allowed: &[&str]) -> Result<String, ApiError> {
    if allowed.contains(&value.as_str()) {
        return Ok(value);
    }
    let shown = shortened(&value);
    Err(ApiError::invalid(format!("{name} is `{shown}`: it has to be {}", allowed.join(" or "))))
}

/// Of what a client sent, as much as a message bears.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}
