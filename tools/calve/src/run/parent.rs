//! The parent of a fork: thawed, called, kept as it is.

use calve_fleet::{CallOptions, Fleet, Frozen, LogStream, Moment, ThawOptions};

use super::report::ErrorObject;
use crate::args::Fork;
use crate::failure::{Failure, in_fork};
use crate::logs::Logs;
use crate::progress::Bar;
use crate::stdio;

/// Thaws a clone, calls it with each of `before`, and returns it as it is then. The parent itself is no longer
/// needed and discarded.
pub(super) fn fork(
    fleet: &Fleet,
    frozen: &Frozen,
    before: &[Vec<u8>],
    args: &Fork,
    bar: &Bar,
) -> Result<Moment, Failure> {
    bar.stage(&format!("Calling the parent of {}", args.name));
    let mut parent = fleet.thaw(frozen)?;
    for (number, event) in (1_u64..).zip(before) {
        bar.advance(number - 1, before.len() as u64);
        let mut logs = Logs::new(false);
        let mut sink = |_: LogStream, bytes: &[u8]| bar.suspend(|| logs.write(bytes));
        let timeout = args.calls.timeout;
        let logs_to = Some(&mut sink as _);
        let options =
            CallOptions { timeout, logs: logs_to, unmeasured: true, ..CallOptions::default() };
        let outcome = parent.call(event, options);
        bar.suspend(|| logs.finish());
        if let Err(error) = outcome?.result {
            bar.suspend(|| stdio::print_json(&ErrorObject::from(&error)))?;
            let object = format!("{}: --before event {number} failed", args.name);
            return Err(Failure::from(&error).about(object));
        }
    }
    bar.stage(&format!("Forking {}", args.name));
    match parent.branch(ThawOptions::default()) {
        Ok((_, moment)) => Ok(moment),
        Err(error) => {
            if let Some(error) = in_fork(&error) {
                bar.suspend(|| stdio::print_json(&ErrorObject::from(error)))?;
            }
            Err(error.into())
        }
    }
}
