//! What each setting may be.

use std::collections::BTreeMap;

use super::{RUNTIMES, check_architectures, shortened};
use crate::api::ApiError;
use crate::control::request::Settings;

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

/// What would not do what its owner expects of it is better refused than ignored.
pub(super) fn refuse_unsupported(settings: &Settings) -> Result<(), ApiError> {
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

pub(super) fn check_runtime(runtime: &str) -> Result<(), ApiError> {
    if RUNTIMES.contains(&runtime) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "Value {} at 'runtime' is not supported by this host. It has to be one of: {}",
        shortened(runtime),
        RUNTIMES.join(", ")
    )))
}

pub(super) fn check_handler(handler: &str) -> Result<(), ApiError> {
    let long = handler.chars().count() > 128;
    if handler.is_empty() || long || handler.contains(char::is_whitespace) {
        return Err(ApiError::invalid(
            "Handler has to have 1 to 128 characters, none of them white space: `module.function`",
        ));
    }
    Ok(())
}

/// `arn:aws:iam::123456789012:role/name`. What it allows is not looked at: this host has no such roles.
pub(super) fn check_role(role: &str) -> Result<(), ApiError> {
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

pub(super) fn check_environment(variables: &BTreeMap<String, String>) -> Result<(), ApiError> {
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

pub(super) fn check_dead_letter(target: &str) -> Result<(), ApiError> {
    let parts: Vec<&str> = target.splitn(4, ':').collect();
    match parts.as_slice() {
        [""] | ["arn", _, "lambda" | "sqs", _] => Ok(()),
        _ => Err(ApiError::invalid(format!(
            "DeadLetterConfig.TargetArn is `{}`: it has to be the ARN of a function or of a queue, or empty",
            shortened(target)
        ))),
    }
}
