//! `calve function logs`: the calls that the host remembers.

use chrono::DateTime;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::about;
use crate::failure::{Failure, Status, flat};
use crate::host::{Ask, Host, segment};
use crate::stdio;

/// A call that was made.
#[derive(Debug, Deserialize)]
struct Invocation {
    request: String,
    version: String,
    started_ms: i64,
    took_ms: f64,
    outcome: String,
    #[serde(default)]
    logs: String,
}

/// Prints a function's latest calls.
pub(super) fn run(host: &Host, name: &str, json: bool) -> Result<(), Failure> {
    let target = format!("/calve/v1/functions/{}/invocations", segment(name));
    let calls: Vec<Box<RawValue>> = host.document(Ask::get(target)).map_err(about(name))?;
    // The host begins with the newest; on a terminal that is to stand at the end.
    for call in calls.iter().rev() {
        if json {
            stdio::print_line(call.get())?;
            continue;
        }
        let call: Invocation = serde_json::from_str(call.get())
            .map_err(|error| Failure::of(Status::Machine, &error).about("a call of the list"))?;
        stdio::print(text(&call).as_bytes())?;
    }
    Ok(())
}

/// A line about the call, and below it what the function has printed.
fn text(call: &Invocation) -> String {
    let time = DateTime::from_timestamp_millis(call.started_ms).unwrap_or_default();
    let time = time.format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let (request, version, outcome) = (&call.request, &call.version, flat(&call.outcome));
    let mut text = format!("{time}  {request}  {version}  {outcome}  {:.1} ms\n", call.took_ms);
    for line in call.logs.lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_line_and_its_logs_stand_below() {
        let call = r#"{"request":"r-1","version":"$LATEST","started_ms":1795881600042,"took_ms":12,
                       "outcome":"ok","logs":"one\ntwo"}"#;
        assert_eq!(
            text(&serde_json::from_str(call).unwrap()),
            "2026-11-28T16:00:00.042Z  r-1  $LATEST  ok  12.0 ms\n    one\n    two\n"
        );
    }
}
