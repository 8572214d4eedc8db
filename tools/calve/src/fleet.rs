//! What every command that needs machines does first.

use calve_fleet::{Fleet, Frozen, Options, host};
use calve_snapshots::Store;

use crate::failure::Failure;
use crate::interrupt;

/// Fails where no Linux machine can run.
pub(crate) fn check_host() -> Result<(), Failure> {
    Ok(host::check()?)
}

/// A fleet without machines. Its machines die with it.
pub(crate) fn new() -> Result<Fleet, Failure> {
    Ok(Fleet::new(Options::default())?)
}

/// Opens a snapshot, which may mean to read all of it. There is nothing yet that a signal would have to undo.
pub(crate) fn open(fleet: &Fleet, store: &Store, name: &str) -> Result<Frozen, Failure> {
    let _guard = interrupt::leave_at_once();
    Ok(fleet.open(store, name)?)
}

/// Makes every wait of the fleet fail once a signal has come.
pub(crate) fn cancel_on_signal(fleet: &Fleet) -> interrupt::Guard {
    let canceller = fleet.canceller();
    interrupt::on_signal(move || canceller.cancel())
}
