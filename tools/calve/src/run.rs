//! `calve run` and `calve fork`: call a function, each call in a fresh machine.
//!
//! ```text
//!  events ──► in_order ──► machine (a clone, a child, or a cold boot) ──► report ──► stdout, in order
//!                               └─ logs ──► stderr, as they come
//! ```

use std::ops::ControlFlow;

use calve_fleet::{Fleet, Frozen};
use calve_snapshots::Store;

use crate::args::{Calls, Fork, Run};
use crate::failure::{Failure, Status};
use crate::progress::Bar;
use crate::store::{self, Place};
use crate::{event, fleet, interrupt, stdio};

mod cold;
mod in_order;
mod machine;
mod parent;
mod report;

use machine::{Caller, Source};
use report::{Call, CallError};
pub(crate) use report::{ErrorObject, one_line};

/// Makes all calls, each in a clone of the snapshot. Fails with the gravest status of any.
pub(crate) fn run(place: &Place, args: &Run) -> Result<(), Failure> {
    let events = Events::read(&args.calls)?;
    let (fleet, frozen, bar) = open(place, &args.name)?;
    let _signal = fleet::cancel_on_signal(&fleet);
    let source = if args.cold { Source::Images(&frozen) } else { Source::Snapshot(&frozen) };
    call_all(&fleet, &args.name, source, &events, &args.calls, bar)
}

/// Calls a clone, forks it, and makes all calls, each in a child of its own.
pub(crate) fn fork(place: &Place, args: &Fork) -> Result<(), Failure> {
    let before =
        args.before.iter().map(|event| event::read(event)).collect::<Result<Vec<_>, _>>()?;
    let events = Events::read(&args.calls)?;
    let (fleet, frozen, bar) = open(place, &args.name)?;
    let _signal = fleet::cancel_on_signal(&fleet);
    let moment = parent::fork(&fleet, &frozen, &before, args, &bar)?;
    call_all(&fleet, &args.name, Source::Moment(&moment), &events, &args.calls, bar)
}

/// Opens the snapshot that is called, with a fleet for its machines.
fn open(place: &Place, name: &str) -> Result<(Fleet, Frozen, Bar), Failure> {
    let store = place.open()?;
    refuse_bad_name_first(&store, name)?;
    let fleet = fleet::new()?;
    let bar = Bar::new();
    bar.stage(&format!("Opening {name}"));
    let frozen = fleet::open(&fleet, &store, name)?;
    Ok((fleet, frozen, bar))
}

/// Makes all calls and prints them in order.
fn call_all(
    fleet: &Fleet,
    name: &str,
    source: Source<'_>,
    events: &Events,
    calls: &Calls,
    bar: Bar,
) -> Result<(), Failure> {
    let count = events.count();
    bar.stage(&format!("Calling {name}"));
    let caller = Caller { fleet, name, source, calls, bar: &bar };
    let mut gravest = None;
    let stopped = in_order::run(
        count,
        calls.parallel,
        |number| caller.call(events.get(number)),
        |number, call| {
            if count > 1 {
                bar.advance(number + 1, count);
            }
            let printed = bar.suspend(|| print(name, &call, number, count, calls));
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
fn print(
    name: &str,
    call: &Call,
    number: u64,
    count: u64,
    calls: &Calls,
) -> Result<Option<Status>, Failure> {
    let status = match &call.result {
        Ok(_) => None,
        Err(error) => {
            let failure = error.failure();
            if interrupt::came() {
                return Err(Failure::interrupted());
            }
            let place = if count > 1 { format!(" call {}:", number + 1) } else { String::new() };
            stdio::say(format_args!("{name}:{place} {}", failure.line()));
            failure.status()
        }
    };
    // A host that cannot run machines has not called anything: there is no line for it.
    if !matches!((&call.result, status), (Err(CallError::Machine(_)), Some(Status::Host))) {
        let line = call.line(calls.json);
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
    fn read(args: &Calls) -> Result<Self, Failure> {
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
