//! The other end of a call: a machine with its conversation, its identity and its age.

use std::time::{Duration, Instant};

use calve_proto::{Answer, Call, Event, FunctionError, Opening, Session, SessionError, wire};
use nix::time::{ClockId, clock_gettime};

use crate::call::{CallError, CallOptions, Outcome, Timings};
use crate::error::WorkerError;
use crate::identity;
use crate::line::{Broken, Conversation, Line};
use crate::worker::Worker;

/// What a machine needs to answer calls, whichever way it came to be.
#[derive(Debug)]
pub(crate) struct Callee {
    pub(crate) conversation: Conversation,
    pub(crate) machine: String,
    /// The snapshot's or the function's own deadline.
    pub(crate) timeout: Duration,
    pub(crate) decision: Decision,
    pub(crate) prepared: bool,
    /// What the first call has to say before it.
    pub(crate) opening: Option<wire::ThawFacts>,
    pub(crate) opened: bool,
    pub(crate) called: bool,
    pub(crate) spent: bool,
}

/// The moment in which a machine was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decision {
    at: Instant,
    /// The same moment in the clock that workers report in.
    ns: u64,
}

impl Decision {
    pub(crate) fn now() -> Self {
        // Instant is CLOCK_MONOTONIC on Linux, but does not show its value.
        let ns = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
            let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
            seconds.saturating_mul(1_000_000_000) + u64::try_from(t.tv_nsec()).unwrap_or(0)
        });
        Self { at: Instant::now(), ns }
    }
}

/// Who a machine is, and how long its function may take.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) machine: String,
    /// The snapshot's or the function's own deadline.
    pub(crate) timeout: Duration,
}

impl Identity {
    /// Somebody new.
    pub(crate) fn fresh(timeout: Duration) -> Result<Self, WorkerError> {
        let machine = identity::fresh("m").map_err(WorkerError::Random)?;
        Ok(Self { machine, timeout })
    }
}

impl Callee {
    /// The other end of calls to a machine whose agent waits to be told who it is.
    pub(crate) fn thawed(
        line: Line,
        identity: Identity,
        decision: Decision,
        prepared: bool,
    ) -> Result<Self, WorkerError> {
        let Identity { machine, timeout } = identity;
        let facts = identity::thaw_facts(&machine).map_err(WorkerError::Random)?;
        Ok(Self {
            conversation: Session::new(line),
            machine,
            timeout,
            decision,
            prepared,
            opening: Some(facts),
            opened: false,
            called: false,
            spent: false,
        })
    }

    /// Its worker, for the next life of its machine, and who it was.
    pub(crate) fn part(self) -> (Worker, Identity) {
        let Self { conversation, machine, timeout, .. } = self;
        (conversation.into_stream().part(), Identity { machine, timeout })
    }

    /// Calls the function.
    pub(crate) fn call(
        &mut self,
        event: &[u8],
        options: CallOptions<'_>,
    ) -> Result<Outcome, CallError> {
        if self.spent {
            return Err(CallError::Spent);
        }
        let started = Instant::now();
        let random;
        let request_id = match options.request_id {
            Some(id) => id,
            None => {
                random = identity::fresh("r").map_err(WorkerError::Random)?;
                &random
            }
        };
        let grace = options.grace.unwrap_or(CallOptions::GRACE);
        let within = options.timeout.unwrap_or(self.timeout).saturating_add(grace);
        self.conversation.stream().want("answer", within);
        self.conversation.set_deadline(started.checked_add(within));
        let CallOptions { timeout, trace_id, logs, results, unmeasured, .. } = options;
        let call = Call { request_id, event, timeout, trace_id, stream: results.is_some() };
        let mut nowhere = |_: calve_proto::LogStream, _: &[u8]| {};
        let answer = self.converse(|callee| {
            if callee.opened {
                callee.conversation.invoke(call)?;
            } else {
                callee.open(Some(call), false)?;
            }
            let logs = match logs {
                Some(logs) => logs,
                None => &mut nowhere,
            };
            match results {
                Some(results) => callee.conversation.wait_streamed(logs, results),
                None => callee.conversation.wait_answer(logs),
            }
        });
        match answer {
            Ok(answer) => Ok(self.outcome(answer, started, !unmeasured)),
            Err(broken) => Err(self.failed(broken, within, grace)),
        }
    }

    /// Asks the agent for a sign of life.
    pub(crate) fn ping(&mut self) -> Result<(), CallError> {
        if self.spent {
            return Err(CallError::Spent);
        }
        let grace = CallOptions::GRACE;
        self.conversation.stream().want("answer a ping", grace);
        self.conversation.set_deadline(Instant::now().checked_add(grace));
        let answered = self.converse(|callee| {
            callee.conversation.ping(0)?;
            // What it said before may come first.
            while !matches!(callee.conversation.next_event()?, Event::Pong { .. }) {}
            Ok(())
        });
        answered.map_err(|broken| self.failed(broken, grace, grace))
    }

    /// Sends what the first call would say before it, alone.
    pub(crate) fn introduce(&mut self) -> Result<Result<(), FunctionError>, CallError> {
        if self.spent {
            return Err(CallError::Spent);
        }
        if self.opened {
            return Ok(Ok(()));
        }
        let grace = CallOptions::GRACE;
        self.conversation.stream().want("become itself", grace);
        self.conversation.set_deadline(Instant::now().checked_add(grace));
        let thawed = self.converse(|callee| {
            callee.open(None, true)?;
            callee.conversation.wait_thawed(&mut |_, _| {})
        });
        thawed.map_err(|broken| self.failed(broken, grace, grace))
    }

    /// `wake`: its function goes on without a call.
    fn open(&mut self, call: Option<Call<'_>>, wake: bool) -> Result<(), SessionError> {
        let mut thaw = self.opening.clone();
        if let Some(facts) = &mut thaw {
            facts.wall_clock_ns = identity::wall_clock_ns();
            facts.wake = wake;
        }
        self.conversation.open(Opening { thaw, call, ..Opening::default() })?;
        self.opened = true;
        Ok(())
    }

    fn converse<T>(
        &mut self,
        exchange: impl FnOnce(&mut Self) -> Result<T, SessionError>,
    ) -> Result<T, Broken> {
        // The facts carry the time of day, which must be right when user code runs: so they are
        // sent when the machine runs, and not while its worker is being born. It takes no longer,
        // since the guest has yet to accept the stream.
        let running = self.conversation.stream().worker().wait_running();
        running.map_err(Broken::Worker)?;
        exchange(self).map_err(|error| self.conversation.stream().explain(error))
    }

    fn failed(&mut self, broken: Broken, within: Duration, grace: Duration) -> CallError {
        if let Broken::Request(error) = broken {
            return CallError::Request(error);
        }
        self.spent = true;
        self.conversation.stream().worker().kill();
        match broken {
            Broken::Worker(failure) => failure.into(),
            Broken::TimedOut => CallError::TimedOut { within, grace },
            Broken::Request(error) | Broken::Session(error) => CallError::Guest(error),
        }
    }

    fn outcome(&mut self, answer: Answer, started: Instant, measured: bool) -> Outcome {
        let ended = Instant::now();
        let first = !std::mem::replace(&mut self.called, true);
        let mut worker = self.conversation.stream().worker();
        // First of all: what else happens here is not the clone's doing.
        let private_kib = measured.then(|| worker.private_kib()).flatten();
        // A machine that ended between its answer and here has still answered.
        let stats = measured.then(|| worker.stats().ok()).flatten();
        let file_kib = stats.map_or(0, |stats| stats.file_kib);
        let private_kib = private_kib.and_then(|kib| kib.checked_add(file_kib));
        let entered = stats.and_then(|stats| stats.entered_ns).filter(|_| first);
        let since = |from: u64| entered.map(|at| at.saturating_sub(from) / 1_000);
        let decision = if first { self.decision.at } else { started };
        Outcome {
            result: answer.outcome,
            machine: self.machine.clone(),
            timings: Timings {
                thaw_us: since(self.decision.ns),
                load_us: stats.and_then(|stats| stats.content_ns).and_then(since),
                first_output_us: micros(answer.first_byte.saturating_duration_since(decision)),
                call_us: micros(ended - started),
                prepared: self.prepared,
            },
            private_kib,
            dropped_log_bytes: answer.dropped_log_bytes,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
