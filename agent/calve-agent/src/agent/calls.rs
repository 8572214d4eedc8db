//! The life of an invocation.
//!
//! ```text
//!   Invoke ──► Receiving ── last byte of the event ──► Waiting ── runtime serves ──► Running ── answer ──► Answering ──► over
//!                                                        (start, thaw)               deadline          chunks leave
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use calve_proto::limits::{MAX_BODY, MAX_LABEL, is_id};
use calve_proto::wire::{
    Invoke, InvokeChunk, InvokeDone, Success, guest_frame::Body, invoke_done::Outcome,
};
use calve_proto::{ErrorKind, FunctionError};

use super::{Agent, Stage};
use crate::place::Place;
use crate::runtime::Invocation;

/// Requests remembered, so that a repeated id is refused: more than a machine that is reset serves between resets.
const REMEMBERED: usize = 256;

/// The ids of the latest requests.
#[derive(Debug, Default)]
pub(super) struct Seen(VecDeque<String>);

impl Seen {
    /// Notes `id`; returns false if it was there.
    fn insert(&mut self, id: &str) -> bool {
        if self.0.iter().any(|seen| seen == id) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(id.to_owned());
        true
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Receiving,
    Waiting,
    Running,
    Answering,
}

/// The invocation in flight.
#[derive(Debug)]
pub(super) struct Call {
    request_id: String,
    trace_id: String,
    event: Vec<u8>,
    size: usize,
    timeout: Duration,
    /// The host takes the result as it comes.
    stream: bool,
    /// Bytes of the result that have been passed on already.
    passed: u64,
    phase: Phase,
    /// Set while it runs.
    pub(super) deadline: Option<Instant>,
}

impl<P: Place> Agent<P> {
    /// Takes a request, or refuses it with a typed error. `Err`: it breaks a bound of the protocol.
    pub(super) fn invoke(&mut self, invoke: Invoke) -> Result<(), &'static str> {
        if !is_id(&invoke.request_id) {
            return Err("request id: 1 to 64 letters, digits, `-`, `_` or `.`");
        }
        let size = usize::try_from(invoke.body_size).ok().filter(|&size| size <= MAX_BODY);
        let size = size.ok_or("event: at most 6 MiB")?;
        if invoke.body.len() > size {
            return Err("event: more bytes than announced");
        }
        if invoke.trace_id.len() > MAX_LABEL || invoke.trace_id.contains(['\r', '\n', '\0']) {
            return Err("trace id: one line of at most 512 bytes");
        }
        let Some(function) = &self.function else {
            let text = "nothing is configured; send Configure first";
            self.refuse(invoke.request_id, ErrorKind::NotConfigured, text);
            return Ok(());
        };
        let timeout_ms = match invoke.timeout_ms {
            0 => function.configure.timeout_ms,
            own => own,
        };
        if let Some((kind, text)) = self.objection(&invoke.request_id) {
            self.refuse(invoke.request_id, kind, text);
            return Ok(());
        }
        self.call = Some(Call {
            request_id: invoke.request_id,
            trace_id: invoke.trace_id,
            event: invoke.body,
            size,
            timeout: Duration::from_millis(timeout_ms.into()),
            stream: invoke.stream,
            passed: 0,
            phase: Phase::Receiving,
            deadline: None,
        });
        self.advance_call();
        Ok(())
    }

    /// Why a request cannot be taken now.
    fn objection(&mut self, request_id: &str) -> Option<(ErrorKind, &'static str)> {
        let stage = self.running.as_ref().map(|running| &running.stage);
        if self.call.as_ref().is_some_and(|call| call.request_id != request_id) {
            return Some((ErrorKind::Busy, "another invocation is in flight"));
        }
        if matches!(stage, Some(Stage::Freezing | Stage::Frozen)) {
            return Some((ErrorKind::Busy, "the machine is frozen; send ThawFacts first"));
        }
        if !self.seen.insert(request_id) {
            return Some((ErrorKind::DuplicateRequest, "this request id was used before"));
        }
        None
    }

    /// Takes more of the event. Chunks of a request that was refused or has ended may still be on their way.
    pub(super) fn invoke_chunk(&mut self, chunk: &InvokeChunk) -> Result<(), &'static str> {
        let call = self
            .call
            .as_mut()
            .filter(|call| call.request_id == chunk.request_id && call.phase == Phase::Receiving);
        let Some(call) = call else { return Ok(()) };
        if call.event.len() + chunk.data.len() > call.size {
            return Err("event: more bytes than announced");
        }
        call.event.extend_from_slice(&chunk.data);
        self.advance_call();
        Ok(())
    }

    /// Moves the call on as far as it goes: to the runtime, if that serves; else a runtime is started for it.
    pub(super) fn advance_call(&mut self) {
        let Some(call) = &mut self.call else { return };
        if call.phase == Phase::Receiving && call.event.len() == call.size {
            call.phase = Phase::Waiting;
        }
        if call.phase != Phase::Waiting {
            return;
        }
        match &mut self.running {
            None => self.start(false),
            Some(running) if running.verdict.is_some() => {}
            Some(running) if matches!(running.stage, Stage::Serving) => {
                call.phase = Phase::Running;
                call.deadline = Some(Instant::now() + call.timeout);
                running.launch.logs.begin();
                let arn = self.function.as_ref().map(|f| f.configure.function_arn.clone());
                running.launch.backend.invoke(Invocation {
                    request_id: call.request_id.clone(),
                    event: std::mem::take(&mut call.event),
                    deadline_epoch_ms: epoch_ms(call.timeout),
                    function_arn: arn.unwrap_or_default(),
                    trace_id: std::mem::take(&mut call.trace_id),
                    stream: call.stream,
                });
            }
            Some(_) => {}
        }
    }

    /// Gives an event that its runtime never asked for to another runtime.
    pub(super) fn call_again(&mut self, invocation: Invocation) {
        if let Some(call) = &mut self.call {
            call.event = invocation.event;
            call.trace_id = invocation.trace_id;
            call.phase = Phase::Waiting;
            call.deadline = None;
        }
        self.advance_call();
    }

    /// Whether the handler works on an invocation.
    pub(super) fn is_running_call(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.phase == Phase::Running)
    }

    /// The handler's result.
    pub(super) fn succeed(&mut self, result: Vec<u8>) {
        self.drain_logs();
        let Some(call) = &mut self.call else { return };
        call.phase = Phase::Answering;
        call.deadline = None;
        let request_id = call.request_id.clone();
        if let Some(control) = &mut self.control
            && control.outbox.push_result(request_id, result).is_err()
        {
            control.closing = true;
        }
    }

    /// A part of a result that is streamed. Its deadline goes on: the function is at work.
    pub(super) fn pass_on(&mut self, data: &[u8], content_type: String) {
        let (Some(call), Some(control)) = (&mut self.call, &mut self.control) else { return };
        call.passed += data.len() as u64;
        if control.outbox.push_part(&call.request_id, data, content_type).is_err() {
            control.closing = true;
        }
    }

    /// The end of a result that was streamed.
    pub(super) fn finish_stream(&mut self) {
        self.drain_logs();
        let Some(call) = self.call.take() else { return };
        let success = Success { tail: Vec::new(), size: call.passed };
        let outcome = Some(Outcome::Success(success));
        self.send(Body::InvokeDone(InvokeDone { request_id: call.request_id, outcome }));
    }

    /// The end of the call without a result.
    pub(super) fn fail(&mut self, error: FunctionError) {
        self.drain_logs();
        if let Some(call) = self.call.take_if(|call| call.phase != Phase::Answering) {
            self.send_failure(call.request_id, error);
        }
    }

    /// The answer is a result that has left completely: the next call may come.
    pub(super) fn finish_answer(&mut self) {
        let sending = self.control.as_ref().is_some_and(|c| c.outbox.is_sending_result());
        if !sending {
            self.call.take_if(|call| call.phase == Phase::Answering);
        }
    }

    /// The host gives the call up.
    pub(super) fn cancel(&mut self, request_id: &str) {
        let Some(call) = self.call.as_ref().filter(|call| call.request_id == request_id) else {
            return;
        };
        let text = "the host gave the invocation up";
        let error = FunctionError::new(ErrorKind::Cancelled, "Calve.Cancelled", text);
        match call.phase {
            Phase::Receiving | Phase::Waiting => self.fail(error),
            Phase::Running => self.condemn(error),
            Phase::Answering => {}
        }
    }

    /// The host is gone: the runtime's work is for nobody.
    pub(super) fn abandon_call(&mut self) {
        if let Some(call) = self.call.take()
            && call.phase == Phase::Running
        {
            let text = "the host closed the control stream";
            self.condemn(FunctionError::new(ErrorKind::Cancelled, "Calve.Cancelled", text));
        }
    }

    /// Ends a call whose time is over.
    pub(super) fn check_call_deadline(&mut self, now: Instant) {
        let Some(call) = &mut self.call else { return };
        if call.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        call.deadline = None;
        // AWS Lambda's words.
        let text = format!("Task timed out after {:.2} seconds", call.timeout.as_secs_f64());
        self.condemn(FunctionError::new(ErrorKind::Timeout, "Sandbox.Timedout", text));
    }

    fn refuse(&mut self, request_id: String, kind: ErrorKind, text: &str) {
        let name = match kind {
            ErrorKind::Busy => "Calve.Busy",
            ErrorKind::DuplicateRequest => "Calve.DuplicateRequest",
            _ => "Calve.NotConfigured",
        };
        self.send_failure(request_id, FunctionError::new(kind, name, text));
    }

    fn send_failure(&mut self, request_id: String, error: FunctionError) {
        let outcome = Some(Outcome::Error(error.into()));
        self.send(Body::InvokeDone(InvokeDone { request_id, outcome }));
    }
}

/// The moment `from_now`, in milliseconds since the epoch.
fn epoch_ms(from_now: Duration) -> u64 {
    let then = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + from_now;
    u64::try_from(then.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_remembered_for_a_while() {
        let mut seen = Seen::default();
        assert!(seen.insert("a"));
        assert!(!seen.insert("a"));
        for i in 0..REMEMBERED {
            assert!(seen.insert(&i.to_string()));
        }
        assert_eq!(seen.0.len(), REMEMBERED);
        assert!(seen.insert("a"));
    }
}
