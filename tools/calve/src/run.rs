//! `calve run`: calls a function, each call in a fresh machine.
//!
//! ```text
//!  events ──► in_order ──► machine (a clone, or a cold boot) ──► report ──► stdout, in order
//!                               └─ logs ──► stderr, as they come
//! ```

use std::ops::ControlFlow;

use calve_snapshots::Store;

use crate::args::Run;
use crate::failure::{Failure, Status};
use crate::progress::Bar;
use crate::store::{self, Place};
use crate::{event, fleet, interrupt, stdio};

mod cold;
mod in_order;
mod machine;
mod report;

pub(crate) use report::ErrorObject;
use report::{Call, CallError};

/// Makes all calls. Fails with the gravest status of any.
pub(crate) fn run(place: &Place, args: &Run) -> Result<(), Failure> {
    let events = Events::read(args)?;
    let store = place.open()?;
    refuse_bad_name_first(&store, &args.name)?;
    let fleet = fleet::new()?;
    let bar = Bar::new();
    bar.stage(&format!("Opening {}", args.name));
    let frozen = fleet::open(&fleet, &store, &args.name)?;
    let _signal = fleet::cancel_on_signal(&fleet);
    let count = events.count();
    bar.stage(&format!("Calling {}", args.name));
    let caller = machine::Caller { fleet: &fleet, frozen: &frozen, args, bar: &bar };
    let mut gravest = None;
    let stopped = in_order::run(
        count,
        args.parallel,
        |number| caller.call(events.get(number)),
        |number, call| {
            if count > 1 {
                bar.advance(number + 1, count);
            }
            let printed = bar.suspend(|| print(&call, number, count, args));
            let status = match (printed, interrupt::check()) {
                (Err(failure), _) | (_, Err(failure)) => {
                    // Nobody wants the calls under way any more.
                    fleet.canceller().cancel();
                    return ControlFlow::Break(failure);
                }
                (Ok(status), Ok(())) => status,
            };
            // Where one machine cannot be had, none can.
            if status == Some(Status::Host) {
                return ControlFlow::Break(Failure::Silent(Status::Host));
            }
            gravest = gravest.max(status);
            ControlFlow::Continue(())
        },
    );
    drop(bar);
    match (stopped, gravest) {
        (Some(failure), _) => Err(failure),
        (None, Some(status)) => Err(Failure::Silent(status)),
        (None, None) => Ok(()),
    }
}

/// On a host that can run nothing, a wrong name is still a wrong name.
fn refuse_bad_name_first(store: &Store, name: &str) -> Result<(), Failure> {
    let Err(host) = fleet::check_host() else { return Ok(()) };
    store.inspect(name).map_err(store::failure)?;
    Err(host)
}

/// Prints what came of a call: its line on stdout, why it failed on stderr. Returns the status that it deserves.
fn print(call: &Call, number: u64, count: u64, args: &Run) -> Result<Option<Status>, Failure> {
    let status = match &call.result {
        Ok(_) => None,
        Err(error) => {
            let failure = error.failure();
            if interrupt::came() {
                return Err(Failure::interrupted());
            }
            let place = if count > 1 { format!(" call {}:", number + 1) } else { String::new() };
            stdio::say(format_args!("{}:{place} {}", args.name, failure.line()));
            failure.status()
        }
    };
    // A host that cannot run machines has not called anything: there is no line for it.
    if !matches!((&call.result, status), (Err(CallError::Machine(_)), Some(Status::Host))) {
        let line = call.line(args.json);
        stdio::print_line(line.map_err(|e| Failure::of(Status::Machine, &e))?)?;
    }
    Ok(status)
}

/// The events of a run: one for all calls, or one for each.
enum Events {
    Same { event: Vec<u8>, count: u64 },
    Each(Vec<Vec<u8>>),
}

impl Events {
    fn read(args: &Run) -> Result<Self, Failure> {
        match (&args.events, &args.event) {
            (Some(path), _) => Ok(Self::Each(event::read_lines(path)?)),
            (None, Some(event)) => Ok(Self::Same { event: event::read(event)?, count: args.count }),
            // clap has refused this.
            (None, None) => Err(Failure::usage("no event; give one with --event")),
        }
    }

    fn count(&self) -> u64 {
        match self {
            Self::Same { count, .. } => *count,
            Self::Each(events) => events.len() as u64,
        }
    }

    fn get(&self, number: u64) -> &[u8] {
        match self {
            Self::Same { event, .. } => event,
            Self::Each(events) => {
                usize::try_from(number).ok().and_then(|n| events.get(n)).map_or(&[], Vec::as_slice)
            }
        }
    }
}
