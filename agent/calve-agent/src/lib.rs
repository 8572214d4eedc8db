//! `calve-agent`: PID 1 of a Calve guest.
//!
//! As PID 1 it sets the guest up ([`guest`]) and serves the host over vsock until the machine is destroyed. As any other
//! process (`calve-agent --listen SOCKET --task-root DIR --run-dir DIR [--layers-root DIR]`) it does the same over a Unix
//! socket and leaves the machine alone, for tests.
//!
//! Start reading at [`agent`]: one thread, one epoll loop, one function.

mod agent;
mod control;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod guest;
mod lambda_api;
mod logs;
mod oom;
mod options;
mod outbox;
mod place;
mod poll;
mod process;
mod runtime;
mod signals;

use std::convert::Infallible;
use std::process::ExitCode;

use nix::sys::reboot::{RebootMode, reboot};

use agent::Agent;
use guest::{Guest, complain};
use options::Options;
use process::Process;

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    if std::process::id() == 1 {
        let Err(()) = run_guest();
        return ExitCode::FAILURE;
    }
    match run_process() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("stopped", error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Serves as PID 1. PID 1 must not return: the kernel would panic. So the machine is reset instead, which a VMM takes as
/// its end.
fn run_guest() -> Result<Infallible, ()> {
    match Guest::boot() {
        Ok(guest) => {
            if let Err(error) = Agent::new(guest).and_then(Agent::run) {
                complain("stopped", &error);
            }
        }
        Err(error) => complain("guest does not come up", &error),
    }
    nix::unistd::sync();
    reboot(RebootMode::RB_AUTOBOOT).map_err(|error| complain("machine does not reset", &error))
}

/// Serves as an ordinary process, as the command line says.
fn run_process() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse(lexopt::Parser::from_env())?;
    let agent = Agent::new(Process::new(&options)?)?;
    // Whoever started us reads this line instead of trying to connect again and again.
    println!("listening on {}", options.listen.display());
    Ok(agent.run()?)
}
