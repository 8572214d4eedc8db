//! `calve event`: event sources of a running host.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use ureq::http::Method;

use crate::args::{CreateEvent, Event, Events};
use crate::failure::Failure;
use crate::host::{Ask, Host, segment};
use crate::table::Table;
use crate::{interrupt, stdio};

/// Path of all event sources.
const SOURCES: &str = "/calve/v1/sources";

/// An event source as the host tells of it.
#[derive(Debug, Deserialize, Serialize)]
struct Source {
    id: String,
    function: String,
    #[serde(default)]
    qualifier: Option<String>,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// The host's list.
#[derive(Debug, Deserialize)]
struct List {
    sources: Vec<Source>,
}

/// Does what the subcommand says.
pub(crate) fn run(args: Events) -> Result<(), Failure> {
    // The host does each thing wholly or not at all.
    let _guard = interrupt::leave_at_once();
    let host = Host::new(&args.server)?;
    match args.command {
        Event::Ls { json } => list(&host, json),
        Event::Create(args) => create(&host, args),
        Event::Rm { ids } => remove(&host, &ids),
    }
}

fn list(host: &Host, json: bool) -> Result<(), Failure> {
    let List { sources } = host.document(Ask::get(SOURCES))?;
    if json {
        return sources.iter().try_for_each(stdio::print_json);
    }
    let mut table = Table::new(["ID", "KIND", "FUNCTION", "SETTINGS"]);
    for source in sources {
        table.row(row(source));
    }
    stdio::print(table.render().as_bytes())
}

fn row(mut source: Source) -> [String; 4] {
    let kind = source.settings.remove("kind").map(text).unwrap_or_default();
    let function = match source.qualifier.filter(|qualifier| qualifier != "$LATEST") {
        Some(qualifier) => format!("{}:{qualifier}", source.function),
        None => source.function,
    };
    let settings: Vec<String> = source
        .settings
        .into_iter()
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    [source.id, kind, function, settings.join(" ")]
}

/// A value as it was given on a command line.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn create(host: &Host, args: CreateEvent) -> Result<(), Failure> {
    let mut settings: Map<String, Value> =
        args.set.into_iter().map(|setting| (setting.name, setting.value)).collect();
    settings.insert("kind".to_owned(), args.kind.into());
    // The host takes a function by name, with a version or alias behind a colon.
    let function = match args.qualifier.value {
        Some(qualifier) => format!("{}:{qualifier}", args.function),
        None => args.function,
    };
    let document = json!({ "function": function, "settings": settings });
    let source: Source = host.document(Ask::new(Method::POST, SOURCES).json(&document))?;
    stdio::print_line(source.id)
}

/// Removes all sources that can be removed, and fails for the first that cannot.
fn remove(host: &Host, ids: &[String]) -> Result<(), Failure> {
    let removed = ids.iter().map(|id| {
        let ask = Ask::new(Method::DELETE, format!("{SOURCES}/{}", segment(id)));
        host.ask(ask).map(drop).map_err(|failure| failure.about(id))
    });
    stdio::all(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_settings_as_they_are_given() {
        let source = r#"{"id":"s-1","function":"f","qualifier":"live","enabled":true,
                         "settings":{"kind":"schedule","expression":"0 6 * * *","timezone":"UTC"}}"#;
        let source: Source = serde_json::from_str(source).unwrap();
        assert_eq!(row(source), ["s-1", "schedule", "f:live", "expression=0 6 * * * timezone=UTC"]);
    }
}
