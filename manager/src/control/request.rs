//! What clients ask for, in the words of Lambda's `service-2.json`. Fields that are not here are ignored.
//!
//! Everything is optional to the parser: what is missing or out of bounds is named by the operation, in Lambda's way.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, de};

/// A function's configuration, or what is to change of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Settings {
    pub(crate) role: Option<String>,
    pub(crate) handler: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) timeout: Option<i64>,
    pub(crate) memory_size: Option<i64>,
    pub(crate) runtime: Option<String>,
    pub(crate) environment: Option<Environment>,
    pub(crate) dead_letter_config: Option<DeadLetter>,
    pub(crate) tracing_config: Option<Tracing>,
    pub(crate) ephemeral_storage: Option<EphemeralStorage>,
    pub(crate) snap_start: Option<SnapStart>,
    pub(crate) layers: Option<Vec<String>>,
    pub(crate) vpc_config: Option<Vpc>,
    pub(crate) file_system_configs: Option<Vec<de::IgnoredAny>>,
    #[serde(rename = "KMSKeyArn")]
    pub(crate) kms_key_arn: Option<String>,
    pub(crate) architectures: Option<Vec<String>>,
}

/// Environment variables.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Environment {
    pub(crate) variables: Option<BTreeMap<String, String>>,
}

/// Where calls go that failed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DeadLetter {
    pub(crate) target_arn: Option<String>,
}

/// X-Ray.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Tracing {
    pub(crate) mode: Option<String>,
}

/// `/tmp`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EphemeralStorage {
    pub(crate) size: Option<i64>,
}

/// Snapshots, which AWS makes of published versions only.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct SnapStart {
    pub(crate) apply_on: Option<String>,
}

/// A private network. There is none here; an empty one is accepted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Vpc {
    pub(crate) subnet_ids: Vec<String>,
    pub(crate) security_group_ids: Vec<String>,
}

/// `CreateFunction`, besides its [`Settings`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Create {
    pub(crate) function_name: Option<String>,
    pub(crate) code: Option<Package>,
    pub(crate) package_type: Option<String>,
    pub(crate) publish: Option<bool>,
    pub(crate) tags: Option<BTreeMap<String, String>>,
}

/// A package: of `CreateFunction`'s `Code`, of a layer's `Content`, and of `UpdateFunctionCode` itself.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Package {
    pub(crate) zip_file: Option<Blob>,
    pub(crate) s3_bucket: Option<String>,
    pub(crate) s3_key: Option<String>,
    pub(crate) image_uri: Option<String>,
}

/// `PublishLayerVersion`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PublishLayer {
    pub(crate) description: Option<String>,
    pub(crate) content: Option<Package>,
    pub(crate) compatible_runtimes: Option<Vec<String>>,
    pub(crate) compatible_architectures: Option<Vec<String>>,
    pub(crate) license_info: Option<String>,
}

/// `UpdateFunctionCode`, besides its [`Package`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct UpdateCode {
    pub(crate) publish: Option<bool>,
    pub(crate) dry_run: Option<bool>,
    pub(crate) revision_id: Option<String>,
    pub(crate) architectures: Option<Vec<String>>,
}

/// `UpdateFunctionConfiguration`, besides its [`Settings`]; also what other actions ask of a revision.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Precondition {
    pub(crate) revision_id: Option<String>,
}

/// `PublishVersion`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Publish {
    pub(crate) code_sha256: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) revision_id: Option<String>,
}

/// `CreateAlias` and `UpdateAlias`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct AliasSettings {
    pub(crate) name: Option<String>,
    pub(crate) function_version: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) routing_config: Option<RoutingConfig>,
    pub(crate) revision_id: Option<String>,
}

/// How an alias divides its calls.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RoutingConfig {
    pub(crate) additional_version_weights: Option<BTreeMap<String, f64>>,
}

/// `PutFunctionConcurrency` and `PutProvisionedConcurrencyConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Concurrency {
    pub(crate) reserved_concurrent_executions: Option<i64>,
    pub(crate) provisioned_concurrent_executions: Option<i64>,
}

/// `PutFunctionEventInvokeConfig` and `UpdateFunctionEventInvokeConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EventInvokeSettings {
    pub(crate) maximum_retry_attempts: Option<i64>,
    pub(crate) maximum_event_age_in_seconds: Option<i64>,
    pub(crate) destination_config: Option<Destinations>,
}

/// Who is told what became of asynchronous calls.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Destinations {
    pub(crate) on_success: Option<Destination>,
    pub(crate) on_failure: Option<Destination>,
}

/// One of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Destination {
    pub(crate) destination: Option<String>,
}

/// `CreateFunctionUrlConfig` and `UpdateFunctionUrlConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct UrlSettings {
    pub(crate) auth_type: Option<String>,
    pub(crate) cors: Option<CorsSettings>,
    pub(crate) invoke_mode: Option<String>,
}

/// What pages of other origins may do.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CorsSettings {
    pub(crate) allow_credentials: Option<bool>,
    pub(crate) allow_headers: Option<Vec<String>>,
    pub(crate) allow_methods: Option<Vec<String>>,
    pub(crate) allow_origins: Option<Vec<String>>,
    pub(crate) expose_headers: Option<Vec<String>>,
    pub(crate) max_age: Option<i64>,
}

/// `TagResource`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Tags {
    pub(crate) tags: Option<BTreeMap<String, String>>,
}

/// Bytes that came as base64.
#[derive(Debug)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        // By visitor, not by `&str`: where the text has escapes, there is nothing to borrow.
        impl de::Visitor<'_> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
                let decoded = STANDARD.decode(text);
                decoded.map(Blob).map_err(|error| E::custom(format!("this is no base64: {error}")))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}
