//! The process around one machine: born as a shell, given content once, dropped with its machine.
//!
//! ```text
//!  born ── Shell{shape} ──► shell, sealed ── Boot | Thaw ──► machine ── socket's end | Discard ──► exit
//! ```
//!
//! Standard input is the control socket (`calve_fleet::control`), the arguments the process id of the fleet, how far to
//! keep apart from the host, whether to share cores, how nice to be once that is done (a number, or `as-it-is`), and the
//! folder of the cgroup to be in, if any. Which process the machine will be in comes first on standard output. There is no configuration, no file to read and no path to open: everything that a machine needs
//! comes over the socket. Standard error is a pipe whose end the fleet shows when the worker dies.

mod attach;
mod children;
mod keyboard;
mod machine;
mod memory;
mod ports;
mod refusal;
mod shell;

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use calve_fleet::control::{ControlError, Report, Socket, Stage};
use calve_jail::Jail;
use calve_vmm::Hypervisor;

use refusal::Refused;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calve-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    memory::save();
    children::can_be_waited_for()?;
    let mut args = std::env::args_os().skip(1);
    let (Some(parent), Some(isolation), Some(cores), Some(nice), cgroup, None) =
        (args.next(), args.next(), args.next(), args.next(), args.next(), args.next())
    else {
        bail!("calve-worker is started by calve, not by hand");
    };
    let text = |argument: OsString| argument.into_string().unwrap_or_default();
    let parent = text(parent).parse().context("the argument is no process id")?;
    let nice = match &*text(nice) {
        "as-it-is" => None,
        nice => Some(nice.parse().context("niceness is a number")?),
    };
    let jail = Jail::new(parent)
        .isolation(text(isolation).parse()?)
        .cores(text(cores).parse()?)
        .nice(nice)
        .cgroup(cgroup.map(Into::into));
    let (inside, hypervisor) = jail.enter(Hypervisor::open)?;
    // Only now: entering the jail closes every descriptor above 2.
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let socket = Arc::new(Socket::from_fd(socket));
    match shell::live(&socket, inside, hypervisor) {
        Ok(()) => Ok(()),
        // The fleet is gone or done with us: nobody to tell, nothing wrong.
        Err(Refused { source, .. }) if is_end(&source) => Ok(()),
        Err(refused) => {
            // The fleet may be gone by now; then the reason goes to standard error alone.
            let _ = socket.send(&Report::Refused(refused.to_report()), &[]);
            Err(refused.source)
        }
    }
}

fn is_end(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ControlError::Closed))
}

/// Names what a fallible step belongs to.
trait During<T> {
    fn during(self, stage: Stage) -> Result<T, Refused>;
}

impl<T, E: Into<anyhow::Error>> During<T> for Result<T, E> {
    fn during(self, stage: Stage) -> Result<T, Refused> {
        self.map_err(|e| Refused { stage, source: e.into() })
    }
}
