//! The demo's hands: it does with the `calve` command what a user would do.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

use super::functions::Function;
use crate::process::{command, run};

/// Deadlines in seconds, generous as an emulated machine needs them.
const CALL_LIMIT: &str = "120";
const START_LIMIT: &str = "600";

/// The `calve` command with a store of its own.
pub(super) struct Calve<'a> {
    pub(super) programs: &'a Path,
    pub(super) store: &'a Path,
}

/// One line that `calve run --json` prints.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    result: Option<Value>,
    error: Option<Value>,
    pub(super) machine: Option<String>,
    pub(super) thaw_us: Option<u64>,
    pub(super) first_output_us: Option<u64>,
    pub(super) private_kib: Option<u64>,
}

impl Call {
    /// The number of the call as the function has sent it back, and the result; or why there is none.
    pub(super) fn answer(&self) -> Result<(u32, &Value), String> {
        let error = || self.error.as_ref().map_or("no result".to_owned(), Value::to_string);
        let result = self.result.as_ref().ok_or_else(error)?;
        let number = result["n"].as_u64().and_then(|n| u32::try_from(n).ok());
        Ok((number.ok_or("the result has no number")?, result))
    }

    /// The random values in the result.
    pub(super) fn random(&self) -> Vec<String> {
        let values = self.result.as_ref().and_then(|result| result["random"].as_array());
        values.into_iter().flatten().map(Value::to_string).collect()
    }
}

impl Calve<'_> {
    /// Freezes a function, warmed by a call whose number is 0.
    pub(super) fn freeze(&self, function: &Function) -> anyhow::Result<()> {
        let mut build = self.command(&["snapshot", "build", "--runtime", function.runtime]);
        build.arg("--code").arg(&function.code).args(["--handler", "app.handler"]);
        build.args(["--memory", &function.memory_mib.to_string()]);
        build.args(["--timeout", CALL_LIMIT, "--init-timeout", START_LIMIT]);
        build.args(["--warm", &function.event(0).to_string(), function.name]);
        run(&mut build)
    }

    /// Boots a function from its images and calls it.
    pub(super) fn call_cold(&self, function: &Function, n: u32) -> anyhow::Result<Call> {
        let event = function.event(n).to_string();
        let mut calls = self.calls(function, &["--cold", "--event", &event], "")?;
        match (calls.pop(), calls.pop()) {
            (Some(call), None) => Ok(call),
            _ => bail!("`calve run --cold` did not print one line"),
        }
    }

    /// Calls as many clones, each with an event of its own.
    pub(super) fn call_clones(
        &self,
        function: &Function,
        clones: u32,
    ) -> anyhow::Result<Vec<Call>> {
        let events: String = (1..=clones).map(|n| format!("{}\n", function.event(n))).collect();
        self.calls(function, &["--events", "-"], &events)
    }

    /// A call that fails is a line too: the status of `calve run` adds nothing to what the lines say.
    fn calls(
        &self,
        function: &Function,
        options: &[&str],
        input: &str,
    ) -> anyhow::Result<Vec<Call>> {
        let mut calve = self.command(&["run", function.name, "--json", "--timeout", CALL_LIMIT]);
        calve.args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = calve.spawn().context("cannot start calve")?;
        let stdin = child.stdin.take().context("calve has no input")?;
        // A thread of its own: answers may fill the pipe before all events are read.
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // If calve ends early its output says why.
                let _ = { stdin }.write_all(input.as_bytes());
            });
            child.wait_with_output()
        });
        let output = output.context("cannot wait for calve")?;
        let text = String::from_utf8(output.stdout).context("calve printed no text")?;
        let calls = text.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>();
        let calls = calls.context("calve printed a line that is no call")?;
        if calls.is_empty() {
            bail!("`calve run {}` printed nothing: {}", function.name, output.status);
        }
        Ok(calls)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut calve = command(self.programs.join("calve"), self.store);
        calve.arg("--store").arg(self.store).args(arguments);
        calve
    }
}
