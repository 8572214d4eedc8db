//! `calve image`, and the images that other commands need.

use std::path::PathBuf;

use calve_image::{Cache, EntryKind, Runtime, kernel, root};

use crate::args::Image;
use crate::failure::Failure;
use crate::programs::{self, Program};
use crate::progress::Bar;
use crate::stdio;
use crate::table::{self, Table};

/// Does what the subcommand says.
pub(crate) fn run(command: Image) -> Result<(), Failure> {
    match command {
        Image::Build { runtimes } if runtimes.is_empty() => build(&Runtime::ALL),
        Image::Build { runtimes } => build(&runtimes),
        Image::Ls { json } => list(json),
    }
}

fn build(runtimes: &[Runtime]) -> Result<(), Failure> {
    stdio::print_line(format!("kernel\t{}", ensure_kernel()?.display()))?;
    for &runtime in runtimes {
        stdio::print_line(format!("{runtime}\t{}", ensure_root(runtime)?.display()))?;
    }
    Ok(())
}

/// Calve's kernel; built if it has to be, which takes minutes.
pub(crate) fn ensure_kernel() -> Result<PathBuf, Failure> {
    let cache = Cache::from_env()?;
    Ok(kernel::ensure(&cache, &mut Bar::new())?.vmlinux)
}

/// The root image of a runtime; built if it has to be.
pub(crate) fn ensure_root(runtime: Runtime) -> Result<PathBuf, Failure> {
    let cache = Cache::from_env()?;
    let agent = programs::find(Program::Agent)?;
    Ok(root::ensure(&cache, runtime, &agent, &mut Bar::new())?.path)
}

fn list(json: bool) -> Result<(), Failure> {
    let entries = calve_image::ls(&Cache::from_env()?)?;
    if json {
        return entries.iter().try_for_each(stdio::print_json);
    }
    let mut table = Table::new(["KIND", "NAME", "KEY", "SIZE", "PATH"]);
    for entry in entries {
        let kind = match entry.kind {
            EntryKind::Kernel => "kernel",
            EntryKind::Root => "root",
        };
        let path = entry.path.display().to_string();
        table.row([kind.into(), entry.name, entry.key, table::bytes(entry.bytes), path]);
    }
    stdio::print(table.render().as_bytes())
}
