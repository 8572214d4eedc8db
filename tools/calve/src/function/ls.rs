//! `calve function ls`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Configuration, FUNCTIONS};
use crate::failure::{Failure, Status};
use crate::host::{Ask, Host};
use crate::stdio;
use crate::table::Table;

/// One page of `ListFunctions`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    functions: Vec<Box<RawValue>>,
    #[serde(default)]
    next_marker: Option<String>,
}

/// Lists the functions of the key's tenant.
pub(super) fn run(host: &Host, json: bool) -> Result<(), Failure> {
    let functions = all(host)?;
    if json {
        return functions.iter().try_for_each(|function| stdio::print_line(function.get()));
    }
    let mut table =
        Table::new(["NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "STATE", "MODIFIED"]);
    for function in &functions {
        let of: Configuration = serde_json::from_str(function.get()).map_err(|error| {
            Failure::of(Status::Machine, &error).about("a function of the list")
        })?;
        table.row([
            of.function_name,
            of.runtime,
            of.handler,
            format!("{} MiB", of.memory_size),
            format!("{} s", of.timeout),
            match &*of.last_update_status {
                "Successful" => of.state,
                update => format!("{}, update {update}", of.state),
            },
            of.last_modified,
        ]);
    }
    stdio::print(table.render().as_bytes())
}

/// Page for page.
fn all(host: &Host) -> Result<Vec<Box<RawValue>>, Failure> {
    let mut functions = Vec::new();
    let mut marker = None;
    loop {
        let page: Page = host.document(Ask::get(FUNCTIONS).query("Marker", marker.as_deref()))?;
        functions.extend(page.functions);
        match page.next_marker.filter(|next| !next.is_empty()) {
            Some(next) => marker = Some(next),
            None => return Ok(functions),
        }
    }
}
