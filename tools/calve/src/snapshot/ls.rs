//! `calve snapshot ls`.

use std::time::{Duration, UNIX_EPOCH};

use calve_snapshots::{Entry, Manifest, Store};
use serde::Serialize;

use crate::failure::{Failure, line};
use crate::stdio;
use crate::table::{self, Table};

/// Bytes in a page, the unit of memory layers.
const PAGE: u64 = 4096;
/// Digits of an id that are enough for people.
const SHORT: usize = 12;

/// Lists the names of the store.
pub(super) fn run(store: &Store, json: bool) -> Result<(), Failure> {
    let entries = store.list()?;
    if json {
        return entries.iter().try_for_each(|entry| stdio::print_json(&Line::of(entry)));
    }
    let mut table =
        Table::new(["NAME", "ID", "RUNTIME", "HANDLER", "MEMORY", "VCPUS", "FROZEN", "CREATED"]);
    for entry in &entries {
        table.row(row(entry));
    }
    stdio::print(table.render().as_bytes())
}

fn row(entry: &Entry) -> [String; 8] {
    let name = entry.name.clone();
    let id = entry.id.hex().chars().take(SHORT).collect();
    let Ok(manifest) = &entry.manifest else {
        let damaged = format!("unreadable: see `calve snapshot verify {name}`");
        return [
            name,
            id,
            damaged,
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ];
    };
    let created = UNIX_EPOCH.checked_add(Duration::from_millis(manifest.created_ms));
    [
        name,
        id,
        manifest.function.runtime.clone(),
        manifest.function.handler.clone(),
        format!("{} MiB", manifest.machine.memory_mib),
        manifest.machine.vcpus.to_string(),
        table::bytes(frozen_bytes(manifest)),
        created.map(table::age).unwrap_or_default(),
    ]
}

/// Bytes of memory that are the snapshot's own: the pages of its uppermost layer that are not all zero. What is
/// below belongs to the runtime that it stands on.
fn frozen_bytes(manifest: &Manifest) -> u64 {
    manifest.layers.last().map_or(0, |layer| layer.pages.saturating_mul(PAGE))
}

/// A name in the form for programs.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    id: String,
    runtime: Option<&'a str>,
    handler: Option<&'a str>,
    memory_mib: Option<u32>,
    vcpus: Option<u8>,
    frozen_bytes: Option<u64>,
    created_ms: Option<u64>,
    error: Option<String>,
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Self {
        let manifest = entry.manifest.as_ref().ok();
        Self {
            name: &entry.name,
            id: entry.id.to_string(),
            runtime: manifest.map(|m| m.function.runtime.as_str()),
            handler: manifest.map(|m| m.function.handler.as_str()),
            memory_mib: manifest.map(|m| m.machine.memory_mib),
            vcpus: manifest.map(|m| m.machine.vcpus),
            frozen_bytes: manifest.map(frozen_bytes),
            created_ms: manifest.map(|m| m.created_ms),
            error: entry.manifest.as_ref().err().map(|e| line(e)),
        }
    }
}
