//! `--cold`: the same function in a machine that boots from the snapshot's own images.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use calve_fleet::{
    Access, BootError, BootSpec, Fleet, Frozen, Function, LogSink, LogStream, Outcome,
};

use super::machine::options;
use super::report::CallError;
use crate::args::Calls;
use crate::failure::{Failure, Status};

/// How long the function's start may take. A snapshot does not record what its builder allowed; this only ends a start
/// that hangs, which the build would have refused.
const START: Duration = Duration::from_secs(300);

/// Boots a machine, starts the function, calls it once. Timings count from the decision to boot. `id` becomes the
/// machine's as soon as there is one.
pub(super) fn call(
    fleet: &Fleet,
    frozen: &Frozen,
    event: &[u8],
    calls: &Calls,
    id: &mut Option<String>,
    logs: &mut LogSink<'_>,
) -> Result<Outcome, CallError> {
    let spec = spec(frozen).map_err(|e| CallError::Machine(Failure::of(Status::Host, &e)))?;
    let booted = fleet.boot_with(spec, &function(frozen), logs);
    let mut machine = booted.map_err(|e| match e {
        BootError::Init(error) => CallError::Function(error),
        other => CallError::Machine(other.into()),
    })?;
    *id = Some(machine.machine_id().to_owned());
    let mut sink = |stream: LogStream, bytes: &[u8]| logs(stream, bytes);
    machine.call(event, options(calls, &mut sink)).map_err(|e| CallError::Machine(e.into()))
}

fn spec(frozen: &Frozen) -> io::Result<BootSpec> {
    let snapshot = frozen.snapshot();
    let cmdline = snapshot.manifest().machine.cmdline.clone();
    let mut spec = BootSpec::new(frozen.shape(), reopen(snapshot.kernel())?, cmdline);
    for disk in [snapshot.root()].into_iter().chain(snapshot.code()) {
        spec.disks.push((reopen(disk)?, Access::ReadOnly));
    }
    Ok(spec)
}

/// The same file with an offset of its own: machines that boot at the same time each read their kernel.
fn reopen(file: &File) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn function(frozen: &Frozen) -> Function {
    let snapshot = frozen.snapshot();
    let frozen = &snapshot.manifest().function;
    Function {
        env: frozen.env.clone(),
        timeout: Duration::from_millis(frozen.timeout_ms),
        init_timeout: START,
        ..Function::new(snapshot.name(), &frozen.runtime, &frozen.handler)
    }
}
