//! What a function may be configured as. Pure: [`apply`] changes a configuration, or says what is wrong.
//!
//! Bounds are those of Lambda's quotas page and of `service-2.json`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::request::Settings;
use crate::api::ApiError;
use crate::model::Configuration;

#[cfg(test)]
mod tests;

/// The client's names for what we run.
pub(crate) const RUNTIMES: [&str; 6] =
    ["python3.11", "nodejs20.x", "node20", "provided", "provided.al2", "provided.al2023"];

/// Bytes of all environment variables as JSON.
const ENVIRONMENT_MOST: usize = 4096;

/// Variables that the runtime sets itself (Lambda developer guide, "Defined runtime environment variables").
const RESERVED: [&str; 20] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_METADATA_API",
    "AWS_LAMBDA_METADATA_TOKEN",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
];

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

/// Changes what `settings` has.
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
    if let Some(layers) = settings.layers {
        check_layers(&layers)?;
        to.layers = layers;
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

/// What would not do what its owner expects of it is better refused than ignored.
fn refuse_unsupported(settings: &Settings) -> Result<(), ApiError> {
    check_architectures(settings.architectures.as_deref())?;
    let vpc = settings.vpc_config.as_ref();
    if vpc.is_some_and(|vpc| !vpc.subnet_ids.is_empty() || !vpc.security_group_ids.is_empty()) {
        return Err(ApiError::invalid(
            "VpcConfig: this host has no private networks: leave it out",
        ));
    }
    if settings.file_system_configs.as_ref().is_some_and(|systems| !systems.is_empty()) {
        return Err(ApiError::invalid("FileSystemConfigs: this host mounts none: leave it out"));
    }
    if settings.kms_key_arn.as_ref().is_some_and(|key| !key.is_empty()) {
        return Err(ApiError::invalid("KMSKeyArn: this host knows no such keys: leave it out"));
    }
    Ok(())
}

fn check_runtime(runtime: &str) -> Result<(), ApiError> {
    if RUNTIMES.contains(&runtime) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "Value {} at 'runtime' is not supported by this host. It has to be one of: {}",
        shortened(runtime),
        RUNTIMES.join(", ")
    )))
}

fn check_handler(handler: &str) -> Result<(), ApiError> {
    let long = handler.chars().count() > 128;
    if handler.is_empty() || long || handler.contains(char::is_whitespace) {
        return Err(ApiError::invalid(
            "Handler has to have 1 to 128 characters, none of them white space: `module.function`",
        ));
    }
    Ok(())
}

/// `arn:aws:iam::123456789012:role/name`. What it allows is not looked at: this host has no such roles.
fn check_role(role: &str) -> Result<(), ApiError> {
    let parts: Vec<&str> = role.splitn(6, ':').collect();
    let good = match parts.as_slice() {
        ["arn", partition, "iam", "", account, name] => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-/".contains(c);
            partition.starts_with("aws")
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && name.strip_prefix("role").is_some_and(|n| n.len() > 1 && n.chars().all(plain))
        }
        _ => false,
    };
    if good && role.len() <= 2048 {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "Role is `{}`: it has to be like arn:aws:iam::123456789012:role/name",
        shortened(role)
    )))
}

fn check_environment(variables: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let well_named = |name: &&String| {
        name.len() >= 2
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let reserved: Vec<&str> =
        variables.keys().map(String::as_str).filter(|name| RESERVED.contains(name)).collect();
    if !reserved.is_empty() {
        return Err(ApiError::invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided contains reserved keys that are currently not supported for modification. Reserved keys used \
             in this request: {}",
            reserved.join(", ")
        )));
    }
    if let Some(name) = variables.keys().find(|name| !well_named(name)) {
        return Err(ApiError::invalid(format!(
            "environment variable `{}`: a name starts with a letter and has two or more letters, digits and _",
            shortened(name)
        )));
    }
    if let Some((name, _)) = variables.iter().find(|(_, value)| value.contains('\0')) {
        return Err(ApiError::invalid(format!(
            "environment variable `{name}` contains a zero byte"
        )));
    }
    let measured = serde_json::to_string(variables).map_or(usize::MAX, |text| text.len());
    if measured > ENVIRONMENT_MOST {
        return Err(ApiError::invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided exceeded the 4KB limit: they have {measured} bytes"
        )));
    }
    Ok(())
}

fn check_layers(layers: &[String]) -> Result<(), ApiError> {
    if layers.len() > 5 {
        return Err(ApiError::invalid("Layers: a function has five at most"));
    }
    let good = |arn: &&String| {
        let parts: Vec<&str> = arn.split(':').collect();
        matches!(parts.as_slice(), ["arn", _, "lambda", _, _, "layer", name, version]
            if !name.is_empty() && version.parse::<u32>().is_ok())
    };
    match layers.iter().find(|arn| !good(arn)) {
        Some(arn) => Err(ApiError::invalid(format!(
            "Layers: `{}` is no ARN of a layer's version",
            shortened(arn)
        ))),
        None => Ok(()),
    }
}

fn check_dead_letter(target: &str) -> Result<(), ApiError> {
    let parts: Vec<&str> = target.splitn(4, ':').collect();
    match parts.as_slice() {
        [""] | ["arn", _, "lambda" | "sqs", _] => Ok(()),
        _ => Err(ApiError::invalid(format!(
            "DeadLetterConfig.TargetArn is `{}`: it has to be the ARN of a function or of a queue, or empty",
            shortened(target)
        ))),
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
