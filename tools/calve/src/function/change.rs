//! `calve function create` and `update`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::{Configuration, FUNCTIONS, about, path, wait};
use crate::args::{self, Create, Update, Waiting};
use crate::failure::Failure;
use crate::host::{Ask, Host, read_package};
use crate::progress::Bar;
use crate::stdio;

/// AWS Lambda wants every function to have a role. Calve keeps it and does not interpret it: any will do.
const ROLE: &str = "arn:aws:iam::000000000000:role/calve";

/// Makes a function.
pub(super) fn create(host: &Host, args: &Create) -> Result<(), Failure> {
    let bar = Bar::new();
    bar.stage(&format!("Packing {}", args.code.display()));
    let package = STANDARD.encode(read_package(&args.code)?);
    let mut document = settings(Some(&args.runtime), args.handler.as_deref(), &args.configuration);
    document.insert("FunctionName".into(), json!(args.name));
    document.insert("Role".into(), json!(ROLE));
    document.insert("Code".into(), json!({ "ZipFile": package }));
    bar.stage(&format!("Sending {}", args.name));
    let ask = Ask::new(Method::POST, FUNCTIONS).json(&document.into());
    let created = host.document(ask).map_err(about(&args.name))?;
    finish(host, created, &args.waiting, bar)
}

/// Changes a function. What is read from disk is read first, so that nothing is half done for a wrong path.
pub(super) fn update(host: &Host, args: &Update) -> Result<(), Failure> {
    let bar = Bar::new();
    let package = args.code.as_deref().map(|code| {
        bar.stage(&format!("Packing {}", code.display()));
        read_package(code)
    });
    let package = package.transpose()?;
    let mut document =
        settings(args.runtime.as_deref(), args.handler.as_deref(), &args.configuration);
    if args.no_layers {
        document.insert("Layers".into(), json!([]));
    }
    let mut changed = None;
    if !document.is_empty() {
        bar.stage(&format!("Configuring {}", args.name));
        let target = format!("{}/configuration", path(&args.name));
        let ask = Ask::new(Method::PUT, target).json(&document.into());
        changed = Some(host.document(ask).map_err(about(&args.name))?);
    }
    if let Some(package) = package {
        if let Some(changed) = changed.take() {
            // One change at a time. How this one ends does not matter: old code may well not start as it is to be now.
            wait::settled(host, changed, &bar)?;
        }
        bar.stage(&format!("Sending {}", args.name));
        let target = format!("{}/code", path(&args.name));
        let ask =
            Ask::new(Method::PUT, target).json(&json!({ "ZipFile": STANDARD.encode(package) }));
        changed = Some(host.document(ask).map_err(about(&args.name))?);
    }
    // clap has seen to it that there is something to change.
    let Some(changed) = changed else { return Ok(()) };
    finish(host, changed, &args.waiting, bar)
}

/// Waits, if that is wanted, and prints the function's ARN.
fn finish(host: &Host, changed: Configuration, waiting: &Waiting, bar: Bar) -> Result<(), Failure> {
    let settled = if waiting.no_wait {
        changed
    } else {
        let settled = wait::settled(host, changed, &bar)?;
        wait::check(&settled)?;
        settled
    };
    drop(bar);
    stdio::print_line(settled.function_arn)
}

/// What of a configuration was given.
fn settings(
    runtime: Option<&str>,
    handler: Option<&str>,
    of: &args::Configuration,
) -> Map<String, Value> {
    let mut document = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            document.insert(name.to_owned(), value);
        }
    };
    set("Runtime", runtime.map(Value::from));
    set("Handler", handler.map(Value::from));
    set("MemorySize", of.memory.map(Value::from));
    set("Timeout", of.timeout.map(Value::from));
    let variables = of.env.iter().map(|var| (var.name.clone(), json!(var.value)));
    let variables: Map<String, Value> = variables.collect();
    set("Environment", (!variables.is_empty()).then(|| json!({ "Variables": variables })));
    set("Layers", (!of.layer.is_empty()).then(|| json!(of.layer)));
    document
}
