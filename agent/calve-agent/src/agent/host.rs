//! What the host asks for.

use std::io;

use calve_proto::limits::{
    MAX_CHUNK, MAX_ENV, MAX_FUNCTION_NAME, MAX_HANDLER, MAX_HOSTNAME, MAX_LABEL, PROTOCOL_VERSION,
    SEED_LEN, is_id,
};
use calve_proto::wire::guest_frame::Body as Reply;
use calve_proto::wire::host_frame::Body;
use calve_proto::wire::protocol_error::Code;
use calve_proto::wire::{Configure, Hello, Pong, Preload, ProtocolError, ThawFacts, Welcome};

use super::{Agent, Stage};
use crate::control::Control;
use crate::place::Place;
use crate::runtime::Function;

/// Earliest wall clock a thaw takes: 2020-01-01T00:00:00Z. It must be far later than the clock of a frozen machine, which
/// is what makes the clone's OpenSSL reseed itself (see `agent/freeze.rs`).
const OLDEST_CLOCK_NS: u64 = 1_577_836_800_000_000_000;

/// Why a frame of the host ends the stream.
struct Refusal(Code, String);

fn refuse<T>(code: Code, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(code, message.into()))
}

impl<P: Place> Agent<P> {
    /// Takes the host's new stream. It replaces an idle older one.
    pub(super) fn accept(&mut self) -> io::Result<()> {
        // A thaw ends the old stream, but the kernel may tell us of the new one first.
        let Some(socket) = self.place.accept()? else { return Ok(()) };
        let mut control = Control::new(socket);
        if self.control.is_some() && self.call.is_some() {
            let refusal = ProtocolError {
                code: Code::Occupied.into(),
                message: "another stream has an invocation in flight".into(),
            };
            control.closing = true;
            if control.outbox.push(Reply::ProtocolError(refusal)).is_ok() {
                // One small frame always fits an empty socket; the stream closes as it drops.
                let _ = control.flush(&self.poll);
            }
            return Ok(());
        }
        self.drop_control();
        self.control = Some(control);
        Ok(())
    }

    /// Ends the control stream. Nobody waits for the invocation in flight any more, so it ends, too.
    pub(super) fn drop_control(&mut self) {
        self.control = None;
        self.abandon_call();
    }

    /// Reads and carries out what the host has sent.
    pub(super) fn read_control(&mut self) {
        let Some(control) = &mut self.control else { return };
        if control.fill().is_err() {
            self.drop_control();
            return;
        }
        loop {
            let Some(control) = self.control.as_mut().filter(|control| !control.closing) else {
                return;
            };
            let outcome = match control.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => self.carry_out(frame),
                Err(e) => refuse(Code::Malformed, e.to_string()),
            };
            if let Err(Refusal(code, message)) = outcome {
                self.send(Reply::ProtocolError(ProtocolError { code: code.into(), message }));
                if let Some(control) = &mut self.control {
                    control.closing = true;
                }
            }
        }
    }

    fn carry_out(&mut self, frame: Option<Body>) -> Result<(), Refusal> {
        let greeted = self.control.as_ref().is_some_and(|control| control.greeted);
        match frame {
            Some(Body::Hello(hello)) if !greeted => self.greet(hello),
            Some(Body::Hello(_)) => refuse(Code::Unexpected, "a stream has one Hello"),
            Some(Body::Ping(ping)) => {
                self.send(Reply::Pong(Pong { nonce: ping.nonce }));
                Ok(())
            }
            _ if !greeted => refuse(Code::Unexpected, "the first frame must be Hello"),
            Some(Body::Configure(configure)) => self.configure(configure),
            Some(Body::Invoke(invoke)) => self.invoke(invoke).or_else(out_of_bounds),
            Some(Body::InvokeChunk(chunk)) => {
                if chunk.data.is_empty() || chunk.data.len() > MAX_CHUNK {
                    return refuse(Code::OutOfBounds, "a chunk has 1 byte to 64 KiB");
                }
                self.invoke_chunk(&chunk).or_else(out_of_bounds)
            }
            Some(Body::Cancel(cancel)) => {
                self.cancel(&cancel.request_id);
                Ok(())
            }
            Some(Body::PrepareFreeze(request)) => {
                self.prepare_freeze(request.timeout_ms, request.keep_memory);
                Ok(())
            }
            None => refuse(Code::Unexpected, "a frame of an unknown kind"),
        }
    }

    fn greet(&mut self, hello: Hello) -> Result<(), Refusal> {
        if hello.protocol_version != PROTOCOL_VERSION {
            let message = format!("this agent speaks protocol version {PROTOCOL_VERSION}");
            return refuse(Code::UnsupportedVersion, message);
        }
        let welcome = Reply::Welcome(Welcome {
            protocol_version: PROTOCOL_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        if let Some(control) = &mut self.control {
            control.greeted = true;
            // An invocation's answer takes it along.
            let queued = control.outbox.push_lazy(welcome);
            if hello.invoke.is_none() {
                control.outbox.hurry();
            }
            if queued.is_err() {
                control.closing = true;
            }
        }
        if let Some(preload) = hello.preload {
            self.preload(preload)?;
        }
        if let Some(configure) = hello.configure {
            self.configure(configure)?;
        }
        if let Some(facts) = hello.thaw {
            check_facts(&facts)?;
            self.thaw(&facts, hello.invoke.is_some());
        }
        if let Some(invoke) = hello.invoke {
            self.invoke(invoke).or_else(out_of_bounds)?;
        }
        Ok(())
    }

    fn configure(&mut self, configure: Configure) -> Result<(), Refusal> {
        if self.function.is_some() {
            return refuse(Code::Unexpected, "a machine is configured once");
        }
        check_configure(&configure)?;
        if self.running.as_ref().is_some_and(|running| !matches!(running.stage, Stage::Serving)) {
            return refuse(Code::Unexpected, "the runtime is not ready to take a function");
        }
        self.take_function(Function::new(configure));
        Ok(())
    }

    fn preload(&mut self, preload: Preload) -> Result<(), Refusal> {
        if self.function.is_some() || self.running.is_some() {
            return refuse(Code::Unexpected, "a runtime is started once, before anything else");
        }
        let Preload { runtime, init_timeout_ms } = preload;
        let configure = Configure { runtime, init_timeout_ms, ..Configure::default() };
        check_configure(&configure)?;
        self.start_runtime(&Function::new(configure));
        Ok(())
    }
}

/// A value outside its bounds, by its name.
fn out_of_bounds<T>(what: &'static str) -> Result<T, Refusal> {
    refuse(Code::OutOfBounds, what)
}

fn check_configure(configure: &Configure) -> Result<(), Refusal> {
    let env: usize = configure.env.iter().map(|v| v.name.len() + v.value.len()).sum();
    let labels = [&configure.runtime, &configure.function_version, &configure.function_arn];
    let texts = [&configure.runtime, &configure.handler, &configure.function_name];
    let plain = |text: &str| !text.contains('\0');
    match () {
        () if configure.runtime.is_empty() || configure.runtime.contains('/') => {
            out_of_bounds("runtime: python3.N, nodeN or provided")
        }
        () if configure.handler.len() > MAX_HANDLER => out_of_bounds("handler: at most 256 bytes"),
        () if env > MAX_ENV => out_of_bounds("environment: at most 32 KiB"),
        () if configure.function_name.len() > MAX_FUNCTION_NAME => {
            out_of_bounds("function name: at most 140 bytes")
        }
        () if labels.iter().any(|label| label.len() > MAX_LABEL) => {
            out_of_bounds("version and ARN: at most 512 bytes")
        }
        () if texts.iter().chain(&labels).any(|text| !plain(text)) => {
            out_of_bounds("a text must not hold NUL")
        }
        () if configure
            .env
            .iter()
            .any(|v| v.name.is_empty() || v.name.contains(['=', '\0']) || !plain(&v.value)) =>
        {
            out_of_bounds("environment: names without `=`, no NUL")
        }
        () => Ok(()),
    }
}

fn check_facts(facts: &ThawFacts) -> Result<(), Refusal> {
    if facts.wall_clock_ns < OLDEST_CLOCK_NS {
        return out_of_bounds("wall clock: nanoseconds since 1970, after 2020");
    }
    if !SEED_LEN.contains(&facts.seed.len()) {
        return out_of_bounds("seed: 32 to 256 bytes");
    }
    if !is_id(&facts.machine_id) {
        return out_of_bounds("machine id: 1 to 64 letters, digits, `-`, `_` or `.`");
    }
    if facts.hostname.len() > MAX_HOSTNAME || facts.hostname.contains('\0') {
        return out_of_bounds("host name: at most 63 bytes, no NUL");
    }
    Ok(())
}
