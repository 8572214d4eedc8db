//! `calve boot`: a plain machine with its serial console on the terminal.
//!
//! ```text
//!  terminal ── keys ──► attendant thread ── pipe ──► worker ── serial port ──► guest
//!  stdout ◄───────────────────────────────────────── worker
//! ```
//!
//! The worker writes to stdout itself; the attendant takes the keys, watches whether anybody still reads, and ends the
//! machine by cancelling the fleet.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use calve_fleet::{Access, BootSpec, ConsoleTo, End, Machine, Shape, WorkerError};

use crate::args::Boot;
use crate::failure::{Failure, Status};
use crate::terminal::Raw;
use crate::{fleet, kernel};

mod attendant;
mod keyboard;

use attendant::Attendant;

/// The command line of a machine that was given none; with a root image [`ROOT`] follows.
///
/// The same devices as everywhere in Calve: no PCI to scan, and a reset that ends the machine.
const CMDLINE: &str = "console=ttyS0 reboot=t panic=-1 pci=off";
/// See [`CMDLINE`].
const ROOT: &str = "root=/dev/vda";
/// How long a machine without `--timeout` may run.
const FOREVER: Duration = Duration::MAX;

/// Boots a machine and stays with it to its end.
pub(crate) fn run(args: &Boot) -> Result<(), Failure> {
    let shape = Shape::new(args.memory, args.vcpus, u8::from(args.root.is_some()));
    let shape = shape.map_err(Failure::usage)?;
    let mut spec = BootSpec::new(shape, kernel::open(&args.kernel)?, cmdline(args));
    spec.initrd = args.initrd.as_deref().map(|p| kernel::open_image(p, "initrd")).transpose()?;
    spec.disks.extend(args.root.as_deref().map(|path| disk(path, args.writable)).transpose()?);
    let fleet = fleet::new()?;
    let _signal = fleet::cancel_on_signal(&fleet);
    let raw = Raw::enter().map_err(|e| Failure::of(Status::Host, &e).about("terminal"))?;
    let fails = |e: std::io::Error| Failure::of(Status::Host, &e).about("console");
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().map_err(fails)?;
    let attendant = Attendant::start(raw.is_some(), fleet.canceller()).map_err(fails)?;
    let input = Some(attendant.keys().map_err(fails)?);
    spec.console = ConsoleTo::Terminal { output: stdout, input };
    let ended = fleet.start(spec).and_then(|mut machine: Machine| {
        let ended = machine.wait(args.timeout.unwrap_or(FOREVER));
        drop(machine);
        ended
    });
    drop(raw);
    match (ended, attendant.verdict()) {
        (Ok(End::PowerOff | End::Reset), _) => Ok(()),
        (Ok(End::Fault(why)), _) => Err(fault(&why)),
        (Err(WorkerError::Cancelled), Some(verdict)) => verdict,
        (Err(WorkerError::TimedOut { wanted: "end", .. }), _) => {
            let seconds = args.timeout.unwrap_or_default().as_secs_f64();
            let text =
                format_args!("machine still ran after {seconds} s; give it more with --timeout");
            Err(Failure::new(Status::Machine, text))
        }
        (Err(error), _) => {
            Err(Failure::from(error).about(format_args!("kernel {}", args.kernel.display())))
        }
    }
}

/// What a vCPU that could not go on means; on a host that cannot run Linux the reason is most likely that.
fn fault(why: &str) -> Failure {
    match fleet::check_host() {
        Ok(()) => Failure::new(Status::Machine, format_args!("machine failed: {why}")),
        Err(host) => {
            Failure::new(Status::Machine, format_args!("machine failed: {why}: {}", host.line()))
        }
    }
}

fn cmdline(args: &Boot) -> String {
    match (&args.cmdline, &args.root) {
        (Some(cmdline), _) => cmdline.clone(),
        (None, None) => CMDLINE.into(),
        (None, Some(_)) => format!("{CMDLINE} {ROOT} {}", if args.writable { "rw" } else { "ro" }),
    }
}

fn disk(path: &Path, writable: bool) -> Result<(std::fs::File, Access), Failure> {
    const WHAT: &str = "root image";
    Ok(match writable {
        true => (kernel::open_writable(path, WHAT)?, Access::ReadWrite),
        false => (kernel::open_image(path, WHAT)?, Access::ReadOnly),
    })
}
