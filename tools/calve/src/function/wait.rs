//! Until the host has built what is new.

use std::time::Duration;

use super::{Configuration, about, path};
use crate::failure::{Failure, Status};
use crate::host::{Ask, Host};
use crate::progress::Bar;

/// The first pause between two looks. Each is longer than the one before, since a build takes tenths of a second on
/// one host and minutes on another.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// Waits until nothing is being built for a function, whatever comes of it.
pub(super) fn settled(host: &Host, of: Configuration, bar: &Bar) -> Result<Configuration, Failure> {
    bar.stage(&format!("Building {}", of.function_name));
    let target = format!("{}/configuration", path(&of.function_name));
    let mut now = of;
    let mut pause = FIRST;
    while now.state == "Pending" || now.last_update_status == "InProgress" {
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST);
        now = host.document(Ask::get(target.clone())).map_err(about(&now.function_name))?;
    }
    Ok(now)
}

/// Fails unless what is new can be called.
pub(super) fn check(of: &Configuration) -> Result<(), Failure> {
    let (code, reason, remedy) = if of.state == "Failed" {
        let remedy = "put it right with `calve function update`";
        (&of.state_reason_code, &of.state_reason, remedy)
    } else if of.last_update_status == "Failed" {
        let remedy = "calls go to what was there before, if anything was";
        (&of.last_update_status_reason_code, &of.last_update_status_reason, remedy)
    } else {
        return Ok(());
    };
    let text = format!("{}: cannot be started: {code}: {reason}", of.function_name);
    Err(Failure::new(status(code), crate::failure::flat(&text)).with_remedy(Some(remedy)))
}

/// The status of a build that failed, by Lambda's reason code: the same that `calve snapshot build` would have had.
fn status(code: &str) -> Status {
    match code {
        code if code.starts_with("FunctionError") => Status::Function,
        code if code.starts_with("Invalid") => Status::Usage,
        _ => Status::Machine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(document: &str) -> Result<(), Failure> {
        check(&serde_json::from_str(document).unwrap())
    }

    #[test]
    fn a_failed_build_has_the_status_of_its_reason() {
        for (code, status) in [
            ("FunctionError.InitError", Status::Function),
            ("InvalidRuntime", Status::Usage),
            ("InternalError", Status::Machine),
        ] {
            let document = format!(
                r#"{{"FunctionName":"f","State":"Failed","StateReasonCode":"{code}","StateReason":"a\nb"}}"#
            );
            let failure = ended(&document).unwrap_err();
            assert_eq!(failure.status(), Some(status));
            let line = format!("f: cannot be started: {code}: a b; put it right");
            assert!(failure.line().starts_with(&line), "{}", failure.line());
        }
    }

    #[test]
    fn a_failed_update_is_a_failure_although_the_function_is_active() {
        let failure = ended(r#"{"State":"Active","LastUpdateStatus":"Failed"}"#).unwrap_err();
        assert!(failure.line().contains("what was there before"));
        ended(r#"{"State":"Active"}"#).unwrap();
    }
}
