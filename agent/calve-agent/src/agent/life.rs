//! The runtime's start, its end, and the deadlines between.
//!
//! A runtime that has to go is condemned: killed with its verdict noted, and reported when it has been reaped. So every
//! report comes after the process is gone and its output is complete.

use std::time::{Duration, Instant};

use calve_proto::wire::{InitFailed, Ready, RuntimeExited, guest_frame::Body};
use calve_proto::{ErrorKind, Exit, FunctionError};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::freeze::agent_error;
use super::{Agent, Running, Stage};
use crate::oom::KernelLog;
use crate::place::Place;
use crate::runtime::{Function, Start, adoptable, has_shim, launch};
use crate::signals;

/// How often more is read from a runtime that has ended. Its socket holds less (`net.core.wmem_default`, 208 KiB, in reads
/// of 4 KiB or of a whole part), but a process that got away from it might write on.
const LAST_WORDS: usize = 64;

impl<P: Place> Agent<P> {
    /// Takes the function that this machine is for, and starts it: in the runtime that was preloaded, or in a new one.
    pub(super) fn take_function(&mut self, function: Function) {
        if let Err(error) = self.place.mount_code() {
            let error = agent_error(&error);
            self.send(Body::InitFailed(InitFailed { error: Some(error.into()) }));
            return;
        }
        let adopts = self.preloaded.take().is_some_and(|runtime| {
            runtime == function.configure.runtime && adoptable(&self.place, &function)
        });
        let function = self.function.insert(function);
        match &mut self.running {
            Some(running) if adopts => {
                running.started = Instant::now();
                running.stage = Stage::Starting { announce: true };
                let limit = Duration::from_millis(function.configure.init_timeout_ms.into());
                running.deadline = Some(running.started + limit);
                running.kernel_log = KernelLog::from_now();
                running.launch.become_function(&self.place, function);
            }
            _ => {
                self.discard_runtime();
                self.start(true);
            }
        }
    }

    /// Starts a runtime without a function, to be taken by one later.
    pub(super) fn start_runtime(&mut self, nobody: &Function) {
        self.preloaded = Some(nobody.configure.runtime.clone());
        if has_shim(&nobody.configure.runtime) {
            self.begin(nobody, Start::Runtime, true);
        } else {
            self.send(Body::Ready(Ready { init_us: 0 }));
        }
    }

    /// Ends a runtime that is to become nobody's.
    fn discard_runtime(&mut self) {
        self.kill_function();
        if let Some(running) = self.running.take() {
            signals::wait_for_end(running.launch.pid);
        }
    }

    /// Starts the configured runtime. `announce`: the host waits for Ready or InitFailed.
    pub(super) fn start(&mut self, announce: bool) {
        if let Some(function) = self.function.take() {
            self.begin(&function, Start::Function, announce);
            self.function = Some(function);
        }
    }

    fn begin(&mut self, function: &Function, start: Start, announce: bool) {
        let started = Instant::now();
        let kernel_log = KernelLog::from_now();
        match launch(&self.place, function, start) {
            Ok(launch) => {
                let limit = Duration::from_millis(function.configure.init_timeout_ms.into());
                self.running = Some(Running {
                    launch,
                    started,
                    stage: Stage::Starting { announce },
                    deadline: Some(started + limit),
                    verdict: None,
                    after_restore: 0,
                    stopped: false,
                    kernel_log,
                });
            }
            Err(error) => {
                let error = FunctionError::from(&error);
                if announce {
                    self.send(Body::InitFailed(InitFailed { error: Some(error.clone().into()) }));
                }
                self.fail(error);
            }
        }
    }

    /// Kills the runtime, to be reported as `verdict` once it is gone. The first verdict stands.
    pub(super) fn condemn(&mut self, verdict: FunctionError) {
        if let Some(running) = &mut self.running {
            running.verdict.get_or_insert(verdict);
            running.deadline = None;
        }
        self.kill_function();
    }

    /// Kills every process of the function.
    pub(super) fn kill_function(&self) {
        if let Some(running) = &self.running {
            self.place.signal_function(running.launch.pid, Signal::SIGKILL);
        }
    }

    /// Takes the ended children; one of them may be the runtime.
    pub(super) fn reap(&mut self) {
        while let Some((pid, exit)) = signals::reap() {
            if self.running.as_ref().is_some_and(|running| running.launch.pid == pid) {
                self.on_exit(pid, exit);
            }
        }
    }

    fn on_exit(&mut self, pid: Pid, exit: Exit) {
        // What it left behind goes with it, and its last words come before the report.
        self.place.signal_function(pid, Signal::SIGKILL);
        self.hear_last_words();
        self.drain_logs();
        let Some(mut running) = self.running.take() else { return };
        let out_of_memory = exit == Exit::Signal(9) && running.kernel_log.has_killed(pid);
        let killed = running.verdict.is_some();
        let error = running.verdict.unwrap_or_else(|| exit_error(exit, out_of_memory));
        match running.stage {
            Stage::Starting { announce } => {
                if announce {
                    self.send(Body::InitFailed(InitFailed { error: Some(error.clone().into()) }));
                }
                self.fail(error);
            }
            Stage::Serving if self.is_running_call() => {
                match running.launch.backend.take_unserved().filter(|_| !killed) {
                    // It ended after the call before; this one has not begun.
                    Some(invocation) => self.call_again(invocation),
                    None => self.fail(error),
                }
            }
            Stage::Serving => {
                if !killed {
                    let exit = Some(exit.into());
                    self.send(Body::RuntimeExited(RuntimeExited { exit, out_of_memory }));
                }
                // A call that came between the death and the reaping gets a new runtime.
                self.advance_call();
            }
            Stage::Freezing | Stage::Frozen => self.report_freeze_failure(error),
            Stage::Thawing => self.report_thaw_failure(error),
        }
    }

    /// Handles what the runtime said right before its end: its answer and its end may become known in one wake-up.
    fn hear_last_words(&mut self) {
        for _ in 0..LAST_WORDS {
            let mut events = Vec::new();
            let alive = self.running.as_mut().filter(|running| running.verdict.is_none());
            if let Some(running) = alive {
                running.launch.backend.on_ready(crate::poll::Token::Shim, &mut events);
            }
            if events.is_empty() {
                return;
            }
            self.handle(events);
        }
    }

    /// Ends what has taken too long.
    pub(super) fn check_deadlines(&mut self, now: Instant) {
        self.check_call_deadline(now);
        let Some(running) = &self.running else { return };
        if running.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        let error = match running.stage {
            Stage::Starting { .. } => FunctionError::new(
                ErrorKind::InitTimeout,
                "Runtime.InitTimeout",
                format!(
                    "Init timed out after {:.2} seconds",
                    (now - running.started).as_secs_f64()
                ),
            ),
            _ => FunctionError::new(
                ErrorKind::Hook,
                "Runtime.HookTimeout",
                "The snapshot hooks did not end in time",
            ),
        };
        self.condemn(error);
    }
}

/// What a runtime's unexpected end means, in AWS Lambda's words.
fn exit_error(exit: Exit, out_of_memory: bool) -> FunctionError {
    let mut error = if out_of_memory {
        let text = "Runtime was killed by the kernel: the machine is out of memory";
        FunctionError::new(ErrorKind::OutOfMemory, "Runtime.OutOfMemory", text)
    } else {
        let text = match exit {
            Exit::Status(0) => "Runtime exited without providing a reason".to_owned(),
            Exit::Status(status) => format!("Runtime exited with error: exit status {status}"),
            Exit::Signal(signal) => {
                let name = Signal::try_from(i32::from(signal)).map_or("unknown", Signal::as_str);
                format!("Runtime exited with error: signal: {name}")
            }
        };
        FunctionError::new(ErrorKind::RuntimeExited, "Runtime.ExitError", text)
    };
    error.exit = Some(exit);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words_and_numbers() {
        let error = exit_error(Exit::Status(3), false);
        assert_eq!(error.kind, ErrorKind::RuntimeExited);
        assert_eq!(error.error_message, "Runtime exited with error: exit status 3");
        assert_eq!(error.exit, Some(Exit::Status(3)));
        let error = exit_error(Exit::Signal(11), false);
        assert_eq!(error.error_message, "Runtime exited with error: signal: SIGSEGV");
        assert_eq!(exit_error(Exit::Signal(9), true).kind, ErrorKind::OutOfMemory);
    }
}
