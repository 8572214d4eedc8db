//! `calve snapshot`: one file per subcommand.

use calve_snapshots::{SigningKey, Store};

use crate::args::Snapshot;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::store::{self, Place};
use crate::{interrupt, stdio};

mod base;
mod build;
mod ls;

/// Does what the subcommand says.
pub(crate) fn run(place: &Place, command: Snapshot) -> Result<(), Failure> {
    // All but a build either read only or are done in one step: a signal has nothing to undo.
    let _guard = (!matches!(command, Snapshot::Build(_))).then(interrupt::leave_at_once);
    match command {
        Snapshot::Build(args) => build::run(place, *args),
        Snapshot::Ls { json } => ls::run(&place.open()?, json),
        Snapshot::Inspect { name } => inspect(&place.open()?, &name),
        Snapshot::Verify { name } => verify(&place.open()?, &name),
        Snapshot::Sign { name, key } => sign(&place.open()?, &name, &SigningKey::read(key)?),
        Snapshot::Rm { names } => remove(&place.open()?, &names),
    }
}

fn inspect(store: &Store, name: &str) -> Result<(), Failure> {
    stdio::print_json(&store.inspect(name).map_err(store::failure)?)
}

/// Prints the id of a snapshot that is whole.
fn verify(store: &Store, name: &str) -> Result<(), Failure> {
    let bar = Bar::new();
    bar.stage(&format!("Verifying {name}"));
    let verified = store.verify(name, &mut |done, total| bar.advance(done, total));
    drop(bar);
    stdio::print_line(verified.map_err(store::failure)?.id().to_string())
}

/// Signs a snapshot that is whole, and prints its id.
fn sign(store: &Store, name: &str, key: &SigningKey) -> Result<(), Failure> {
    let bar = Bar::new();
    bar.stage(&format!("Verifying {name}"));
    let signed = store.sign(name, key, &mut |done, total| bar.advance(done, total));
    drop(bar);
    stdio::print_line(signed.map_err(store::failure)?.to_string())
}

/// Removes all names that can be removed, and fails for the first that cannot.
fn remove(store: &Store, names: &[String]) -> Result<(), Failure> {
    stdio::all(names.iter().map(|name| store.remove(name).map_err(store::failure)))
}
