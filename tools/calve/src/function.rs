//! `calve function`: functions of a running host, over the paths and documents of AWS Lambda's API.
//!
//! | module | what it has |
//! | --- | --- |
//! | `change` | create and update |
//! | `wait` | until what is new can be called |
//! | `invoke` | a call, and what it comes to |
//! | `ls` | the list |
//! | `logs` | what the latest calls came to |

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::http::Method;

use crate::args::{Function, Functions, Qualifier};
use crate::failure::{Failure, Status};
use crate::host::{Ask, Host, segment};
use crate::{interrupt, stdio};

mod change;
mod invoke;
mod logs;
mod ls;
mod wait;

/// Path of all functions: API version 2015-03-31.
const FUNCTIONS: &str = "/2015-03-31/functions";

/// Does what the subcommand says.
pub(crate) fn run(args: Functions) -> Result<(), Failure> {
    // The host does each thing wholly or not at all: a signal has nothing to undo.
    let _guard = interrupt::leave_at_once();
    let host = || Host::new(&args.server);
    match args.command {
        Function::Create(args) => change::create(&host()?, &args),
        Function::Update(args) => change::update(&host()?, &args),
        Function::Ls { json } => ls::run(&host()?, json),
        Function::Get { name, qualifier } => get(&host()?, &name, &qualifier),
        Function::Rm { names } => remove(&host()?, &names),
        Function::Invoke(args) => invoke::run(&host()?, &args),
        Function::Logs { name, json } => logs::run(&host()?, &name, json),
    }
}

/// What of a `FunctionConfiguration` commands look at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Configuration {
    function_name: String,
    function_arn: String,
    runtime: String,
    handler: String,
    memory_size: u32,
    timeout: u32,
    last_modified: String,
    state: String,
    state_reason: String,
    state_reason_code: String,
    last_update_status: String,
    last_update_status_reason: String,
    last_update_status_reason_code: String,
}

impl Default for Configuration {
    /// What is not said counts as done: a host that knows no states can be called at once.
    fn default() -> Self {
        let done = |text: &str| text.to_owned();
        Self {
            function_name: String::new(),
            function_arn: String::new(),
            runtime: String::new(),
            handler: String::new(),
            memory_size: 0,
            timeout: 0,
            last_modified: String::new(),
            state: done("Active"),
            state_reason: String::new(),
            state_reason_code: String::new(),
            last_update_status: done("Successful"),
            last_update_status_reason: String::new(),
            last_update_status_reason_code: String::new(),
        }
    }
}

/// The path of a function.
fn path(name: &str) -> String {
    format!("{FUNCTIONS}/{}", segment(name))
}

/// Says which function a failure is about. A host that cannot be reached is about none.
fn about(name: impl fmt::Display) -> impl Fn(Failure) -> Failure {
    move |failure| match failure.status() {
        Some(Status::Host) => failure,
        _ => failure.about(&name),
    }
}

fn get(host: &Host, name: &str, qualifier: &Qualifier) -> Result<(), Failure> {
    let ask = Ask::get(path(name)).query("Qualifier", qualifier.value.as_deref());
    let document: Box<RawValue> = host.document(ask).map_err(about(name))?;
    stdio::print_line(document.get())
}

/// Removes all functions that can be removed, and fails for the first that cannot.
fn remove(host: &Host, names: &[String]) -> Result<(), Failure> {
    let removed = names
        .iter()
        .map(|name| host.ask(Ask::new(Method::DELETE, path(name))).map(drop).map_err(about(name)));
    stdio::all(removed)
}
