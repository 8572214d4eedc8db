//! The snapshot's two sides: what happens before a freeze, and after a thaw.
//!
//! Freeze, in this order:
//!
//! 1. The runtime runs its before_snapshot hooks and collects its garbage.
//! 2. The wall clock is set far back and the runtime draws a random byte from every library generator it knows. This
//!    binds them to the past: OpenSSL keeps its random generators in user space and reseeds them from the kernel once
//!    they are older than an hour by the wall clock (`PRIMARY_RESEED_TIME_INTERVAL` in OpenSSL 3's
//!    `crypto/rand/rand_lib.c`). With the right time back in a clone, each is overdue, so its first use there reseeds
//!    it: in Node, which offers no way to ask for that, as in Python, and at no cost to a thaw.
//! 3. Every process of the function is stopped (SIGSTOP), so that no user code runs in a clone before it is itself, and
//!    an idle clone writes to no page.
//! 4. Caches are dropped and free memory is zeroed, but for a fork, whose parent goes on and still wants them. Then
//!    FreezeReady.
//!
//! Thaw: kernel randomness, wall clock and names first, then the runtime is told that it is a clone and its processes go
//! on (SIGCONT): where no hooks wait, as soon as there is an invocation and not before, so that a clone that waits takes
//! no memory; but where the facts say otherwise, and for a fork, whose parent and children go on as they were. Only where after_restore hooks wait does the first invocation wait for them; else it goes out in the same
//! write as the news.

use std::time::{Duration, Instant};

use calve_proto::limits::DEFAULT_FREEZE_TIMEOUT_MS;
use calve_proto::wire::{
    FreezeFailed, FreezeReady, ThawFacts, ThawFailed, Thawed, guest_frame::Body,
};
use calve_proto::{ErrorKind, FunctionError};
use nix::sys::signal::Signal;

use super::{Agent, Stage};
use crate::place::{Place, PlaceError};
use crate::signals;

/// How long the after_restore hooks may take: AWS Lambda's bound.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);

impl<P: Place> Agent<P> {
    /// Begins to make the machine ready for its snapshot.
    pub(super) fn prepare_freeze(&mut self, timeout_ms: u32, keep_memory: bool) {
        self.keeps_memory = keep_memory;
        let timeout_ms = if timeout_ms == 0 { DEFAULT_FREEZE_TIMEOUT_MS } else { timeout_ms };
        if self.call.is_some() {
            let text = "an invocation is in flight";
            self.report_freeze_failure(FunctionError::new(ErrorKind::Busy, "Calve.Busy", text));
            return;
        }
        match &mut self.running {
            // Every clone would start it anew: no snapshot of a function is that.
            None if self.function.is_some() => {
                let text = "the runtime has ended by itself before the snapshot";
                let error = FunctionError::new(ErrorKind::RuntimeExited, "Runtime.ExitError", text);
                self.report_freeze_failure(error);
            }
            // Nothing to stop: a machine without a function.
            None => self.reclaim(),
            Some(running) if matches!(running.stage, Stage::Serving) => {
                running.stage = Stage::Freezing;
                running.deadline = Some(Instant::now() + Duration::from_millis(timeout_ms.into()));
                let mut events = Vec::new();
                running.launch.backend.run_before_snapshot(&mut events);
                self.handle(events);
            }
            Some(_) => {
                let text = "the runtime is not ready to be frozen";
                self.report_freeze_failure(FunctionError::new(ErrorKind::Busy, "Calve.Busy", text));
            }
        }
    }

    /// The hooks have run: on to the library generators.
    pub(super) fn settle(&mut self, after_restore: u64) {
        if let Err(error) = self.place.backdate_clock() {
            self.condemn(agent_error(&error));
            return;
        }
        let Some(running) = &mut self.running else { return };
        running.after_restore = after_restore;
        let mut events = Vec::new();
        running.launch.backend.settle(&mut events);
        self.handle(events);
    }

    /// Stops every process of the function.
    pub(super) fn stop(&mut self) {
        let Some(running) = &mut self.running else { return };
        running.stage = Stage::Frozen;
        running.stopped = true;
        running.deadline = None;
        let pid = running.launch.pid;
        self.place.signal_function(pid, Signal::SIGSTOP);
        match signals::wait_for_stop(pid) {
            Ok(true) => self.reclaim(),
            // It was faster and has ended: told when it is reaped.
            Ok(false) => {}
            Err(source) => {
                self.condemn(agent_error(&PlaceError { what: "stop the runtime", source }));
            }
        }
    }

    fn reclaim(&mut self) {
        // Else every clone would repeat it.
        self.drain_logs();
        let leader = self.running.as_ref().map(|running| running.launch.pid);
        let zeroed = if self.keeps_memory { Ok(0) } else { self.place.reclaim(leader) };
        match zeroed {
            Ok(zeroed_bytes) => self.send(Body::FreezeReady(FreezeReady { zeroed_bytes })),
            Err(error) if self.running.is_some() => self.condemn(agent_error(&error)),
            Err(error) => self.report_freeze_failure(agent_error(&error)),
        }
    }

    /// Makes this clone itself. `lazy`: the news may travel with the answer of the invocation that follows.
    pub(super) fn thaw(&mut self, facts: &ThawFacts, lazy: bool) {
        self.awake = facts.wake || self.keeps_memory;
        if let Err(error) = self.place.apply(facts) {
            let error = agent_error(&error);
            match self.running {
                Some(_) => {
                    self.enter_thawing();
                    self.condemn(error);
                }
                None => self.report_thaw_failure(error),
            }
            return;
        }
        let Some(running) = &mut self.running else {
            self.report_thawed(lazy);
            return;
        };
        if !matches!(running.stage, Stage::Frozen) {
            // A machine that was not frozen takes the facts, too; its hooks have no snapshot to follow.
            self.report_thawed(lazy);
            return;
        }
        running.launch.backend.thaw();
        if running.after_restore == 0 {
            running.stage = Stage::Serving;
            self.report_thawed(lazy);
        } else {
            self.enter_thawing();
        }
    }

    fn enter_thawing(&mut self) {
        if let Some(running) = &mut self.running {
            running.stage = Stage::Thawing;
            running.deadline = Some(Instant::now() + RESTORE_TIMEOUT);
        }
    }

    /// The after_restore hooks have run.
    pub(super) fn finish_thaw(&mut self) {
        if let Some(running) = &mut self.running {
            running.stage = Stage::Serving;
            running.deadline = None;
        }
        self.drain_logs();
        self.report_thawed(self.call.is_some());
        self.advance_call();
    }

    fn report_thawed(&mut self, lazy: bool) {
        let Some(control) = &mut self.control else { return };
        let thawed = Body::Thawed(Thawed {});
        let queued =
            if lazy { control.outbox.push_lazy(thawed) } else { control.outbox.push(thawed) };
        if queued.is_err() {
            control.closing = true;
        }
    }

    pub(super) fn report_freeze_failure(&mut self, error: FunctionError) {
        self.send(Body::FreezeFailed(FreezeFailed { error: Some(error.into()) }));
    }

    /// Tells of a failed thaw, and answers the call that came with it.
    pub(super) fn report_thaw_failure(&mut self, error: FunctionError) {
        self.send(Body::ThawFailed(ThawFailed { error: Some(error.clone().into()) }));
        self.fail(error);
    }
}

pub(super) fn agent_error(error: &PlaceError) -> FunctionError {
    let text = format!("agent {error}: {}", error.source);
    FunctionError::new(ErrorKind::Agent, "Calve.AgentError", text)
}
