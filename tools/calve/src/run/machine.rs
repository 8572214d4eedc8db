//! One call in one machine of its own.

use calve_fleet::{
    CallOptions, Clone, Fleet, Frozen, LogSink, LogStream, Moment, Outcome, ThawOptions,
    WorkerError,
};
use calve_proto::{ErrorKind, FunctionError};

use super::cold;
use super::report::{Call, CallError, one_line};
use crate::args::Calls;
use crate::failure::Failure;
use crate::logs::Logs;
use crate::progress::Bar;
use crate::stdio;

/// What machines are made of.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// Clones of a snapshot.
    Snapshot(&'a Frozen),
    /// Children of a machine that was forked.
    Moment(&'a Moment),
    /// Cold boots from the images of a snapshot.
    Images(&'a Frozen),
}

/// What all calls of a run share.
pub(super) struct Caller<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) name: &'a str,
    pub(super) source: Source<'a>,
    pub(super) calls: &'a Calls,
    pub(super) bar: &'a Bar,
}

impl Caller<'_> {
    /// Makes a machine, calls it, discards it.
    pub(super) fn call(&self, event: &[u8]) -> Call {
        let mut logs = Logs::new(self.calls.parallel > 1);
        let mut sink = |_: LogStream, bytes: &[u8]| self.bar.suspend(|| logs.write(bytes));
        let (fleet, calls) = (self.fleet, self.calls);
        let mut machine = None;
        let mut in_clone = |shape, thaw: &dyn Fn() -> Result<Clone, WorkerError>| {
            // What a pool does for a host: births are not on a call's path, but for calls at the same
            // time that take each other's shells. One that cannot be had is the thaw's to tell.
            let _ = fleet.prepare(shape, 1);
            let mut clone = thaw().map_err(|e| CallError::Machine(e.into()))?;
            machine = Some(clone.machine_id().to_owned());
            let options = options(calls, &mut sink);
            clone.call(event, options).map_err(|e| CallError::Machine(e.into()))
        };
        let thaw_options = || ThawOptions { huge_pages: calls.huge_pages, ..Default::default() };
        let ended = match self.source {
            Source::Snapshot(frozen) => {
                in_clone(frozen.shape(), &|| fleet.thaw_with(frozen, thaw_options()))
            }
            Source::Moment(moment) => {
                in_clone(moment.shape(), &|| fleet.thaw_moment(moment, thaw_options()))
            }
            Source::Images(frozen) => {
                cold::call(fleet, frozen, event, calls, &mut machine, &mut sink)
            }
        };
        self.bar.suspend(|| logs.finish());
        match ended {
            Ok(outcome) => self.report(outcome),
            Err(error) => Call::unanswered(error, machine),
        }
    }

    fn report(&self, outcome: Outcome) -> Call {
        if outcome.dropped_log_bytes > 0 {
            let (name, bytes) = (self.name, outcome.dropped_log_bytes);
            let text = format_args!("{name}: {bytes} bytes of logs were dropped; print less");
            self.bar.suspend(|| stdio::say(text));
        }
        let result = outcome.result.map_err(CallError::Function).and_then(|bytes| {
            // The agent has looked at it, but the agent is in the guest.
            one_line(bytes).ok_or_else(|| {
                let text = "the function's result is not JSON";
                let error =
                    FunctionError::new(ErrorKind::InvalidResult, "Runtime.InvalidResult", text);
                CallError::Function(error)
            })
        });
        Call {
            result,
            machine: Some(outcome.machine),
            thaw_us: outcome.timings.thaw_us,
            first_output_us: Some(outcome.timings.first_output_us),
            private_kib: outcome.private_kib,
        }
    }
}

/// How a call is made. Only `--json` has a use for measurements, which cost a little.
pub(super) fn options<'a>(calls: &Calls, logs: &'a mut LogSink<'a>) -> CallOptions<'a> {
    let (timeout, unmeasured) = (calls.timeout, !calls.json);
    CallOptions { timeout, unmeasured, logs: Some(logs), ..CallOptions::default() }
}

impl CallError {
    /// The line on stderr and the status.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Function(error) => Failure::from(error).about("the function failed"),
            Self::Machine(failure) => failure.clone(),
        }
    }
}
