//! Values of options, checked while they are parsed, so that the message names the option.

use std::str::FromStr;
use std::time::Duration;

use calve_fleet::Shape;
use clap::builder::{RangedU64ValueParser, TypedValueParser};

/// Longest deadline that is accepted: a day.
const MAX_SECONDS: f64 = 86_400.0;

/// A variable of the function's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvVar {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for EnvVar {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.into(), value: value.into() })
            }
            _ => Err("write it as NAME=VALUE"),
        }
    }
}

/// Seconds, with decimals; at least a millisecond, the unit of the protocol.
pub(super) fn seconds(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "give seconds, from 0.001 to 86400";
    let seconds: f64 = text.parse().map_err(|_| EXPECTED)?;
    // Also false for NaN.
    if (0.001..=MAX_SECONDS).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(EXPECTED)
    }
}

/// MiB of a machine's memory.
pub(super) fn memory(text: &str) -> Result<u32, String> {
    let (min, max) = (Shape::MIN_MEMORY_MIB, Shape::MAX_MEMORY_MIB);
    let mib = text.parse().ok().filter(|mib| (min..=max).contains(mib));
    mib.ok_or_else(|| format!("give {min} to {max} MiB"))
}

/// A machine's processors.
pub(super) fn vcpus(text: &str) -> Result<u8, String> {
    let max = Shape::MAX_VCPUS;
    let vcpus = text.parse().ok().filter(|vcpus| (1..=max).contains(vcpus));
    vcpus.ok_or_else(|| format!("give 1 to {max}"))
}

/// Calls of one run.
pub(super) fn calls() -> impl TypedValueParser<Value = u64> {
    RangedU64ValueParser::new().range(1..=1_000_000)
}

/// Machines at a time: each is a process with threads and a dozen files.
pub(super) fn machines() -> impl TypedValueParser<Value = u64> {
    RangedU64ValueParser::new().range(1..=1024)
}

/// MiB of a function's machines: AWS Lambda's bounds.
pub(super) fn lambda_memory() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(128..=10_240)
}

/// Seconds of a function's calls: AWS Lambda's bounds.
pub(super) fn lambda_seconds() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..=900)
}

/// A setting of an event source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: serde_json::Value,
}

impl FromStr for Setting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let EnvVar { name, value } = text.parse()?;
        // The kind has an option of its own, which is checked.
        if name == "kind" {
            return Err("give the kind with --kind");
        }
        let value = serde_json::from_str(&value).unwrap_or(serde_json::Value::String(value));
        Ok(Self { name, value })
    }
}
