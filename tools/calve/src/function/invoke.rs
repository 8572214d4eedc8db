//! `calve function invoke`: what `calve run` does, on a host.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Method;

use super::{about, path};
use crate::args::Invoke;
use crate::failure::{Failure, Status, flat};
use crate::host::{Answer, Ask, CALL, Host};
use crate::logs::Logs;
use crate::progress::Bar;
use crate::{event, run, stdio};

/// Calls a function, and prints what comes of it.
pub(super) fn run(host: &Host, args: &Invoke) -> Result<(), Failure> {
    let event = event::read(&args.event)?;
    let bar = Bar::new();
    bar.stage(&format!("Calling {}", args.name));
    let answer = host.ask(ask(args, event)).map_err(about(&args.name));
    drop(bar);
    let answer = answer?;
    if args.in_background {
        let request = answer.header("x-amzn-requestid").map(stdio::print_line);
        return request.unwrap_or(Ok(()));
    }
    show_logs(&answer);
    let failed = answer.header("x-amz-function-error").is_some();
    let result = run::one_line(answer.into_body()).ok_or_else(|| {
        let text = "the answer is not JSON";
        Failure::new(Status::Machine, text).about(&args.name)
    })?;
    stdio::print_line(result.get())?;
    if failed { Err(failure(&args.name, result.get())) } else { Ok(()) }
}

fn ask(args: &Invoke, event: Vec<u8>) -> Ask {
    let kind = if args.in_background { "Event" } else { "RequestResponse" };
    let mut ask = Ask::new(Method::POST, format!("{}/invocations", path(&args.name)))
        .query("Qualifier", args.qualifier.value.as_deref())
        .header("x-amz-invocation-type", kind)
        .patience(CALL)
        .body(event);
    if !args.in_background {
        ask = ask.header("x-amz-log-type", "Tail");
    }
    if let Some(value) = &args.route {
        ask = ask.header("x-calve-route", value);
    }
    if let Some(key) = &args.idempotency_key {
        ask = ask.header("x-calve-idempotency-key", key);
    }
    ask
}

/// Puts the end of what the function has printed on stderr.
fn show_logs(answer: &Answer) {
    let encoded = answer.header("x-amz-log-result").unwrap_or_default();
    // Logs that cannot be read are no reason to keep a result back.
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let mut logs = Logs::new(false);
    logs.write(&bytes);
    if bytes.last().is_some_and(|last| *last != b'\n') {
        logs.write(b"\n");
    }
}

/// A failed call, as AWS Lambda writes it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ErrorObject {
    error_type: String,
    error_message: String,
}

/// What a function's error is to a command: the same as if `calve run` had met it.
fn failure(name: &str, document: &str) -> Failure {
    // A function may answer with anything, also where it fails.
    let error: ErrorObject = serde_json::from_str(document).unwrap_or_default();
    let (status, remedy) = match &*error.error_type {
        "Sandbox.Timedout" => {
            (Status::Machine, Some("give it more time with `calve function update --timeout`"))
        }
        kind if kind.starts_with("Calve.") => (Status::Machine, None),
        _ => (Status::Function, None),
    };
    let parts = [&*error.error_type, &*error.error_message];
    let said: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let said = if said.is_empty() { "the function failed".to_owned() } else { said.join(": ") };
    Failure::new(status, format!("{name}: {}", flat(&said))).with_remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_has_the_status_of_its_error() {
        for (document, status, line) in [
            (
                r#"{"errorType":"KeyError","errorMessage":"'n'"}"#,
                Status::Function,
                "f: KeyError: 'n'",
            ),
            (r#"{"errorMessage":"two\nlines"}"#, Status::Function, "f: two lines"),
            ("null", Status::Function, "f: the function failed"),
            (r#"{"errorType":"Calve.MachineFailed"}"#, Status::Machine, "f: Calve.MachineFailed"),
        ] {
            let failure = failure("f", document);
            assert_eq!((failure.status(), failure.line()), (Some(status), line));
        }
        let late = failure("f", r#"{"errorType":"Sandbox.Timedout","errorMessage":"3 s"}"#);
        assert_eq!(late.status(), Some(Status::Machine));
        assert!(late.line().ends_with("`calve function update --timeout`"));
    }
}
