//! `calve doctor`: what this host offers, what is missing, and the remedy.
//!
//! A check that says `missing` means that machines cannot run here, `warn` that something will fail or be slow later.

use std::fmt;

use serde::Serialize;

use crate::failure::{Failure, Status};
use crate::store::Place;
use crate::table::Table;
use crate::{interrupt, stdio};

mod host;
mod local;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Machines run, but something else does not.
    Warn,
    /// Machines cannot run here.
    Missing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Missing => "missing",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) status: Verdict,
    pub(crate) found: String,
    pub(crate) remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl fmt::Display) -> Self {
        Self { name, status: Verdict::Ok, found: found.to_string(), remedy: None }
    }

    fn warn(name: &'static str, found: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        let remedy = Some(remedy.to_string());
        Self { name, status: Verdict::Warn, found: found.to_string(), remedy }
    }

    fn missing(name: &'static str, found: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { status: Verdict::Missing, ..Self::warn(name, found, remedy) }
    }
}

/// Prints every check; fails with status 3 if machines cannot run here.
pub(crate) fn run(place: &Place, json: bool) -> Result<(), Failure> {
    let _guard = interrupt::leave_at_once();
    let mut checks = host::checks();
    checks.extend(local::checks(place));
    let able = checks.iter().all(|check| check.status != Verdict::Missing);
    if json {
        stdio::print_json(&serde_json::json!({ "able": able, "checks": checks }))?;
    } else {
        stdio::print(table(&checks).as_bytes())?;
    }
    if able {
        return Ok(());
    }
    let missing = checks.iter().filter(|check| check.status == Verdict::Missing);
    let names: Vec<_> = missing.map(|check| check.name).collect();
    let text =
        format_args!("machines cannot run on this host: {}; see the remedies", names.join(", "));
    Err(Failure::new(Status::Host, text))
}

/// Remedies stand below what they are for: beside it, lines would be too long for a terminal.
fn table(checks: &[Check]) -> String {
    let mut table = Table::new(["STATUS", "CHECK", "FOUND"]);
    for check in checks {
        table.row([check.status.to_string(), check.name.into(), check.found.clone()]);
        if let Some(remedy) = &check.remedy {
            table.row([String::new(), String::new(), format!("remedy: {remedy}")]);
        }
    }
    table.render()
}
