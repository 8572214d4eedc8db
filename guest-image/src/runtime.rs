//! The language runtimes a root image can carry.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A language runtime; its name is also the name of its root image and the one the agent knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Runtime {
    /// CPython 3.11 of Debian 12, with its whole standard library.
    #[serde(rename = "python3.11")]
    Python311,
    /// Node.js 20 of Debian 13.
    #[serde(rename = "node20")]
    Node20,
    /// glibc, a shell and the usual small tools: for an executable named `bootstrap`.
    #[serde(rename = "provided")]
    Provided,
}

impl Runtime {
    /// Every runtime, in the order in which they are listed to users.
    pub const ALL: [Self; 3] = [Self::Python311, Self::Node20, Self::Provided];

    /// The runtime's name on the command line, in file names and in the protocol.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Python311 => "python3.11",
            Self::Node20 => "node20",
            Self::Provided => "provided",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A runtime name that is not one of [`Runtime::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown runtime `{0}`: use python3.11, node20 or provided")]
pub struct UnknownRuntime(String);

impl FromStr for Runtime {
    type Err = UnknownRuntime;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|runtime| runtime.as_str() == name)
            .ok_or_else(|| UnknownRuntime(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_to_its_runtime() {
        for runtime in Runtime::ALL {
            assert_eq!(runtime.to_string().parse(), Ok(runtime));
        }
    }

    #[test]
    fn an_unknown_name_is_told_all_known_ones() {
        let error = "python3.9".parse::<Runtime>().unwrap_err().to_string();
        assert!(error.contains("`python3.9`"), "{error}");
        for runtime in Runtime::ALL {
            assert!(error.contains(runtime.as_str()), "{error} does not name {runtime}");
        }
    }

    #[test]
    fn the_serialized_name_is_the_displayed_one() {
        for runtime in Runtime::ALL {
            let json = serde_json::to_string(&runtime).unwrap();
            assert_eq!(json, format!("\"{runtime}\""));
        }
    }
}
