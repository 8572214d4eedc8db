//! The function's runtime: a process and the way to talk to it.
//!
//! Either our own shim (Python, Node: the handler runs in the shim's process, one socket between it and the agent), or
//! any program that speaks the AWS Lambda Runtime API. Both take the same few requests and report the same
//! [`RuntimeEvent`]s; what they mean for the host is decided in [`agent`](crate::agent).

mod env;
mod errors;
mod launch;
mod layers;
pub(crate) mod shim;

pub(crate) use errors::parse_error;
pub(crate) use launch::{Launch, Start, adoptable, has_shim, launch};

use std::io;

use calve_proto::{ErrorKind, FunctionError, wire};

use crate::lambda_api::LambdaApi;
use crate::poll::{Poll, Token};
use shim::ShimLink;

/// One event for the function.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) request_id: String,
    pub(crate) event: Vec<u8>,
    /// When it is killed, in milliseconds since the epoch, as functions are told.
    pub(crate) deadline_epoch_ms: u64,
    pub(crate) function_arn: String,
    pub(crate) trace_id: String,
    /// The host takes the result as it comes.
    pub(crate) stream: bool,
}

/// What a runtime reports.
#[derive(Debug)]
pub(crate) enum RuntimeEvent {
    /// The handler is loaded.
    Ready,
    /// It could not be loaded.
    InitFailed(FunctionError),
    /// The handler returned this JSON text.
    Result(Vec<u8>),
    /// The next bytes of a result that is streamed, and what they are, in its first part. Any bytes will do.
    Part { data: Vec<u8>, content_type: String },
    /// The result that was streamed is whole.
    Streamed,
    /// The handler failed; a part of its result may have come before.
    Failed(FunctionError),
    /// The handler failed in a way that ends the runtime.
    Dying(FunctionError),
    /// The before_snapshot hooks have run; so many after_restore hooks wait for the thaw.
    HooksRan { after_restore: u64 },
    /// The library random generators are bound to the backdated clock.
    Settled,
    /// The after_restore hooks have run.
    Thawed,
    /// A hook failed.
    HookFailed(FunctionError),
    /// The runtime does not keep to its protocol.
    Broken(&'static str),
}

/// How the agent talks to the runtime.
#[derive(Debug)]
pub(crate) enum Backend {
    /// Over a socket to our own shim.
    Shim(ShimLink),
    /// Over the Runtime API.
    Api(Box<LambdaApi>),
}

impl Backend {
    /// Hands an event to the handler.
    pub(crate) fn invoke(&mut self, invocation: Invocation) {
        match self {
            Self::Shim(link) => link.invoke(&invocation),
            Self::Api(api) => api.invoke(invocation),
        }
    }

    /// Takes an event back that the runtime has not asked for.
    pub(crate) fn take_unserved(&mut self) -> Option<Invocation> {
        match self {
            Self::Shim(_) => None,
            Self::Api(api) => api.take_unserved(),
        }
    }

    /// Asks for the before_snapshot hooks. Answer: [`RuntimeEvent::HooksRan`].
    pub(crate) fn run_before_snapshot(&mut self, events: &mut Vec<RuntimeEvent>) {
        match self {
            Self::Shim(link) => link.send(shim::Request::BeforeSnapshot),
            // No clone would run them again, and what they are there for, fresh random numbers, would not happen.
            Self::Api(api) if api.is_restored() => {
                let text = "the runtime's client waits in restore/next for its first call, and an event before the \
                    snapshot has been that: its after_restore hooks have run. Build without warm-up events; a clone that was called cannot be forked";
                let kind = ErrorKind::Hook;
                let error = FunctionError::new(kind, "Runtime.RestoreHooksSpent", text);
                events.push(RuntimeEvent::HookFailed(error));
            }
            // A client of the Runtime API has run its hooks before it parked in restore/next.
            Self::Api(api) => {
                let after_restore = u64::from(api.is_parked_for_restore());
                events.push(RuntimeEvent::HooksRan { after_restore });
            }
        }
    }

    /// Asks to draw random bytes under the backdated clock. Answer: [`RuntimeEvent::Settled`].
    pub(crate) fn settle(&mut self, events: &mut Vec<RuntimeEvent>) {
        match self {
            Self::Shim(link) => link.send(shim::Request::Settle),
            Self::Api(_) => events.push(RuntimeEvent::Settled),
        }
    }

    /// Tells that this is a clone now. Answer: [`RuntimeEvent::Thawed`] where hooks wait, else none.
    pub(crate) fn thaw(&mut self) {
        match self {
            Self::Shim(link) => link.send(shim::Request::AfterRestore),
            Self::Api(api) => api.restore(),
        }
    }

    /// Handles readiness of the source `token`.
    pub(crate) fn on_ready(&mut self, token: Token, events: &mut Vec<RuntimeEvent>) {
        match self {
            Self::Shim(link) => link.on_readable(events),
            Self::Api(api) => api.on_ready(token, events),
        }
    }

    /// Sends what is due and updates what is watched. `room`: parts of a result can be passed on.
    pub(crate) fn flush(&mut self, poll: &Poll, room: bool) -> io::Result<()> {
        match self {
            Self::Shim(link) => link.flush(poll, room),
            Self::Api(api) => api.flush(poll, room),
        }
    }
}

/// What the runtime is told about its function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) configure: wire::Configure,
}

impl Function {
    /// Takes over a checked configuration and fills the defaults in.
    pub(crate) fn new(mut configure: wire::Configure) -> Self {
        let or = |value: &mut String, default: String| {
            if value.is_empty() {
                *value = default;
            }
        };
        or(&mut configure.function_name, "function".into());
        or(&mut configure.function_version, "$LATEST".into());
        let name = &configure.function_name;
        // The shape AWS documents, with a region and an account that exist nowhere.
        let arn = format!("arn:aws:lambda:local:000000000000:function:{name}");
        or(&mut configure.function_arn, arn);
        if configure.timeout_ms == 0 {
            configure.timeout_ms = calve_proto::limits::DEFAULT_TIMEOUT_MS;
        }
        if configure.init_timeout_ms == 0 {
            configure.init_timeout_ms = calve_proto::limits::DEFAULT_INIT_TIMEOUT_MS;
        }
        if configure.memory_mib == 0 {
            // The least AWS Lambda offers.
            configure.memory_mib = 128;
        }
        Self { configure }
    }
}
