//! Addresses of functions: what AWS Lambda calls function URLs.

use serde::{Deserialize, Serialize};

use super::Millis;

/// An address of a function or of an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionUrl {
    /// The first part of its host name: 32 letters and digits that nobody can guess.
    pub id: String,
    /// Who may call it.
    pub auth: UrlAuth,
    /// What pages of other origins may do; none: the function's own answer counts.
    pub cors: Option<Cors>,
    /// How its answers come.
    pub mode: UrlMode,
    /// When it was made.
    pub created: Millis,
    /// When it was last changed.
    pub modified: Millis,
}

/// Who may call an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UrlAuth {
    /// Anybody.
    None,
    /// Whoever has a key of its tenant.
    AwsIam,
}

/// How the answers of an address come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UrlMode {
    /// Whole.
    #[default]
    Buffered,
    /// As the function says them.
    ResponseStream,
}

/// What pages of other origins may do (Fetch standard, "CORS protocol"). Field names are those of AWS Lambda.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Cors {
    /// Whether they may send cookies and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// Headers that they may send.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_headers: Vec<String>,
    /// Methods that they may use, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// Origins, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<String>,
    /// Headers of answers that they may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// Seconds for which a browser may remember this: 86,400 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u32>,
}
