//! The agent: one thread, one loop, one function.
//!
//! ```text
//!        Configure | Preload              ready              PrepareFreeze
//!   (no function) ────────► Starting ─────────► Serving ───────────────► Freezing
//!                             ▲  │                ▲   │ runtime ends        │ hooks ran, settled,
//!                    Invoke   │  │ fails          │   ▼                     ▼ stopped, reclaimed
//!                             └─(no runtime)◄─────┼──────────────────── Frozen
//!                                                 │                         │ ThawFacts
//!                                                 └──────── Thawing ◄───────┘
//! ```
//!
//! Sources of events are the host ([`host`]), the runtime ([`runtime_events`]), ended children and passed deadlines
//! ([`life`]). Each is turned into a change of state and frames in the outbox; nothing blocks. [`calls`] holds the
//! life of an invocation, [`freeze`] that of a snapshot.

mod calls;
mod freeze;
mod host;
mod life;
mod runtime_events;

use std::io;
use std::time::Instant;

use calve_proto::FunctionError;
use calve_proto::wire::guest_frame::Body;
use nix::sys::signal::Signal;

use crate::control::Control;
use crate::oom::KernelLog;
use crate::place::Place;
use crate::poll::{Interest, Poll, Token, Watch};
use crate::runtime::{Function, Launch};
use crate::signals::Signals;
use calls::{Call, Seen};

/// What the runtime is doing.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It loads the handler. `announce`: the host waits for Ready or InitFailed.
    Starting { announce: bool },
    /// It waits for events, or serves one.
    Serving,
    /// It runs its before_snapshot hooks, then settles.
    Freezing,
    /// Its processes are stopped.
    Frozen,
    /// It runs its after_restore hooks.
    Thawing,
}

/// A runtime that has been started and not yet reaped.
#[derive(Debug)]
struct Running {
    launch: Launch,
    started: Instant,
    stage: Stage,
    /// When the stage is over at the latest.
    deadline: Option<Instant>,
    /// Why we killed it; its end will be reported as this.
    verdict: Option<FunctionError>,
    /// Hooks that wait for the thaw.
    after_restore: u64,
    /// Its processes are stopped and go on as soon as what they have to do is written.
    stopped: bool,
    /// What the kernel has had to say since its start.
    kernel_log: KernelLog,
}

/// The agent's whole state.
#[derive(Debug)]
pub(crate) struct Agent<P> {
    place: P,
    poll: Poll,
    signals: Signals,
    control: Option<Control>,
    function: Option<Function>,
    /// The language of a runtime that was started without a function.
    preloaded: Option<String>,
    running: Option<Running>,
    call: Option<Call>,
    seen: Seen,
    /// The machine goes on after the freeze that it prepares for.
    keeps_memory: bool,
    /// The runtime of this clone goes on without an invocation.
    awake: bool,
    /// SIGTERM came.
    ending: bool,
}

impl<P: Place> Agent<P> {
    /// An agent that waits for its host.
    pub(crate) fn new(place: P) -> io::Result<Self> {
        let agent = Self {
            place,
            poll: Poll::new()?,
            signals: Signals::new()?,
            control: None,
            function: None,
            preloaded: None,
            running: None,
            call: None,
            seen: Seen::default(),
            keeps_memory: false,
            awake: false,
            ending: false,
        };
        agent.poll.set(&mut Watch::new(Token::Signals), &agent.signals, Interest::READ)?;
        let listener = agent.place.listener();
        agent.poll.set(&mut Watch::new(Token::Listener), listener, Interest::READ)?;
        Ok(agent)
    }

    /// Serves until SIGTERM. An error means that the agent's own descriptors are broken: there is nothing left to serve
    /// with.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.ending {
            self.flush()?;
            for token in self.poll.wait(self.next_deadline())? {
                self.dispatch(token)?;
            }
            self.check_deadlines(Instant::now());
        }
        self.kill_function();
        Ok(())
    }

    fn dispatch(&mut self, token: Token) -> io::Result<()> {
        match token {
            Token::Signals => {
                self.ending |= self.signals.drain()?;
                self.reap();
            }
            Token::Listener => self.accept()?,
            Token::Control => self.read_control(),
            Token::Stdout | Token::Stderr => {
                if let (Some(running), Some(control)) = (&mut self.running, &mut self.control) {
                    running.launch.logs.read(token, &mut control.outbox);
                }
            }
            Token::Shim | Token::ApiListener | Token::ApiConnection(_) => {
                let mut events = Vec::new();
                if let Some(running) = &mut self.running {
                    running.launch.backend.on_ready(token, &mut events);
                }
                self.handle(events);
            }
        }
        Ok(())
    }

    /// Takes the host's stream, as if the listener had said that there is one.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn take_host(&mut self) -> io::Result<()> {
        self.accept()
    }

    /// One round of the loop above that does not wait, for a fuzzer.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn round(&mut self) -> io::Result<()> {
        self.flush()?;
        for token in self.poll.wait(Some(Instant::now()))? {
            self.dispatch(token)?;
        }
        self.flush()
    }

    /// Sends what is due on every stream and brings what is watched up to date.
    fn flush(&mut self) -> io::Result<()> {
        if let Some(control) = &mut self.control {
            // The host is gone in the middle of a frame of ours: the same as if it had hung up.
            if control.flush(&self.poll).unwrap_or(true) {
                self.drop_control();
            }
        }
        self.finish_answer();
        // A clone that waits for its first call leaves its runtime asleep, and its pages untouched.
        let waits = self.call.is_none() && !self.awake;
        let room = self.control.as_ref().is_some_and(|c| !c.closing && c.outbox.has_room());
        if let Some(running) = &mut self.running {
            running.launch.backend.flush(&self.poll, room)?;
            running.launch.logs.watch(&self.poll, room)?;
            // Not before: woken without work, the runtime would only go back to sleep.
            let asleep = matches!(running.stage, Stage::Frozen)
                || (waits && matches!(running.stage, Stage::Serving));
            if running.stopped && !asleep {
                running.stopped = false;
                self.place.signal_function(running.launch.pid, Signal::SIGCONT);
            }
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let stage = self.running.as_ref().and_then(|running| running.deadline);
        let call = self.call.as_ref().and_then(|call| call.deadline);
        stage.into_iter().chain(call).min()
    }

    /// Queues a frame for the host, if there is one.
    fn send(&mut self, body: Body) {
        if let Some(control) = &mut self.control {
            // Every frame we build is within its bounds: texts are cut, data comes in chunks.
            if control.outbox.push(body).is_err() {
                control.closing = true;
            }
        }
    }

    /// Moves what the function has printed to the host, so that it precedes the next frame.
    fn drain_logs(&mut self) {
        if let (Some(running), Some(control)) = (&mut self.running, &mut self.control) {
            running.launch.logs.drain(&mut control.outbox);
        }
    }
}
