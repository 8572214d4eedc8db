//! The host's side of one control stream.
//!
//! A blocking state machine over any `Read + Write`. Requests go out with [`open`](Session::open),
//! [`configure`](Session::configure), [`invoke`](Session::invoke), [`cancel`](Session::cancel),
//! [`prepare_freeze`](Session::prepare_freeze) and [`ping`](Session::ping); whatever the guest says comes back, checked,
//! from [`next_event`](Session::next_event) or from the `wait_*` helpers on top of it.
//!
//! ```text
//!          open                 Welcome
//!  Fresh ────────► Greeting ───────────► Open ◄─────────────────────────┐
//!                                         │ each request makes exactly   │ the answer that
//!                                         │ one answer due               │ was due
//!                                         └──────────────────────────────┘
//! ```
//!
//! The guest is hostile: a frame that no request made due, a foreign request id, a text over its bound, a result over
//! 6 MiB (streamed: 200 MiB) or more logs than [`set_log_limit`](Session::set_log_limit) allows ends the session with a typed error.
//!
//! Time: the caller sets read and write time-outs on the stream; a read time-out is
//! [`SessionError::TimedOut`] and may be retried. A guest that drips bytes never hits a read time-out, so
//! [`set_deadline`](Session::set_deadline) bounds the whole: it is checked before every read.
//!
//! ```
//! # use std::os::unix::net::UnixStream;
//! # use calve_proto::{Call, Opening, Session, SessionError, wire};
//! # fn warm_call(stream: UnixStream, facts: wire::ThawFacts) -> Result<(), SessionError> {
//! let mut session = Session::new(stream);
//! let call = Call::new("r-1", br#"{"name":"Ada"}"#);
//! session.open(Opening { thaw: Some(facts), call: Some(call), ..Opening::default() })?;
//! let answer = session.wait_answer(&mut |stream, bytes| eprintln!("{stream:?}: {} bytes", bytes.len()))?;
//! match answer.outcome {
//!     Ok(json) => println!("{}", String::from_utf8_lossy(&json)),
//!     Err(error) => println!("the function failed: {error}"),
//! }
//! # Ok(()) }
//! ```

mod error;
mod event;
mod inbound;
mod request;
mod wait;

pub use error::SessionError;
pub use event::{Answer, Call, Event, LogStream, Opening};

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use prost::Message;

use crate::frame::{self, FrameDecoder};
use crate::limits::{MAX_BODY, MAX_CHUNK, MAX_FRAME, MAX_LOG, MAX_STREAM, PROTOCOL_VERSION};
use crate::wire::{self, host_frame::Body};

/// Room that a frame needs besides the inline body: field keys and length prefixes, generously.
const INLINE_SLACK: usize = 64;

/// The host's side of a control stream. See the module for its life.
#[derive(Debug)]
pub struct Session<S> {
    stream: S,
    decoder: FrameDecoder,
    scratch: Vec<u8>,
    due: Due,
    deadline: Option<Instant>,
    log_limit: u64,
    log_bytes: u64,
    partial: wait::Partial,
}

/// Takes what the function prints, as it comes.
pub type LogSink<'a> = dyn FnMut(LogStream, &[u8]) + 'a;

/// Takes a result as it comes: bytes, and what a runtime that streams says that they are, in its first part.
pub type ResultSink<'a> = dyn FnMut(&[u8], &str) + 'a;

/// Answers that requests have made due.
#[derive(Debug, Default)]
struct Due {
    opened: bool,
    welcome: bool,
    ready: bool,
    thawed: bool,
    freeze: bool,
    pings: Vec<u64>,
    call: Option<InFlight>,
}

/// The invocation in flight.
#[derive(Debug)]
struct InFlight {
    request_id: String,
    received: usize,
    /// The longest result.
    most: usize,
    first_byte: Option<Instant>,
}

/// Pings that may be unanswered at once.
const MAX_PINGS: usize = 16;

impl<S: Read + Write> Session<S> {
    /// A session over a fresh stream to port 1024 of a guest.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::default(),
            scratch: Vec::new(),
            due: Due::default(),
            deadline: None,
            log_limit: MAX_LOG,
            log_bytes: 0,
            partial: wait::Partial::default(),
        }
    }

    /// The stream, to set its time-outs.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream back. Dropping it closes it.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// No read starts after `deadline`. `None`, as at first, sets no bound.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Most log bytes the session takes in one call; beyond it the session ends with [`SessionError::TooMuch`]. At
    /// first that is [`MAX_LOG`]. Set it above `Configure.log_limit`, which cuts politely.
    pub fn set_log_limit(&mut self, bytes: u64) {
        self.log_limit = bytes;
    }

    /// Sends `Hello` with everything in `opening`. First request of every session.
    pub fn open(&mut self, opening: Opening<'_>) -> Result<(), SessionError> {
        if self.due.opened {
            return Err(SessionError::Misuse("a session opens once"));
        }
        opening.configure.as_ref().map_or(Ok(()), request::check_configure)?;
        opening.thaw.as_ref().map_or(Ok(()), request::check_thaw)?;
        opening.call.as_ref().map_or(Ok(()), request::check_call)?;
        opening.preload.as_ref().map_or(Ok(()), request::check_preload)?;
        if opening.preload.is_some() && opening.configure.is_some() {
            return Err(SessionError::Misuse("a runtime without a function is not configured yet"));
        }
        let Opening { configure, preload, thaw, call } = opening;
        self.due.opened = true;
        self.due.welcome = true;
        self.due.ready = configure.is_some() || preload.is_some();
        self.due.thawed = thaw.is_some();
        let hello = |invoke| {
            let protocol_version = PROTOCOL_VERSION;
            Body::Hello(wire::Hello { protocol_version, configure, thaw, invoke, preload })
        };
        match call {
            None => self.send(hello(None)),
            Some(call) => self.send_call(&call, |invoke| hello(Some(invoke))),
        }
    }

    /// Asks the guest to start the function's runtime. Answer: [`Event::Ready`] or [`Event::InitFailed`].
    pub fn configure(&mut self, configure: wire::Configure) -> Result<(), SessionError> {
        self.check_open()?;
        if self.due.ready {
            return Err(SessionError::Misuse("a machine is configured once"));
        }
        request::check_configure(&configure)?;
        self.due.ready = true;
        self.send(Body::Configure(configure))
    }

    /// Calls the function. Answer: [`Event::ResultChunk`]s and [`Event::Done`]. One call at a time.
    pub fn invoke(&mut self, call: Call<'_>) -> Result<(), SessionError> {
        self.check_open()?;
        if self.due.call.is_some() {
            return Err(SessionError::Misuse("a machine takes one call at a time"));
        }
        request::check_call(&call)?;
        self.send_call(&call, Body::Invoke)
    }

    /// Gives up the call in flight, if there is one. Its answer is still due: most often `CANCELLED`, or the result if
    /// that was faster.
    pub fn cancel(&mut self) -> Result<(), SessionError> {
        match &self.due.call {
            None => Ok(()),
            Some(call) => {
                let request_id = call.request_id.clone();
                self.send(Body::Cancel(wire::Cancel { request_id }))
            }
        }
    }

    /// Asks the guest to get ready for its snapshot; its hooks may take `timeout`. Answer: [`Event::FreezeReady`] or
    /// [`Event::FreezeFailed`]. Then drop the session, which closes the stream, and freeze.
    pub fn prepare_freeze(&mut self, timeout: Option<Duration>) -> Result<(), SessionError> {
        self.prepare(timeout, false)
    }

    /// Asks the guest to get ready to be forked: as for a freeze, but it goes on itself soon and keeps its caches.
    /// Answer and what follows as for [`prepare_freeze`](Session::prepare_freeze).
    pub fn prepare_fork(&mut self, timeout: Option<Duration>) -> Result<(), SessionError> {
        self.prepare(timeout, true)
    }

    fn prepare(
        &mut self,
        timeout: Option<Duration>,
        keep_memory: bool,
    ) -> Result<(), SessionError> {
        self.check_open()?;
        if self.due.call.is_some() || self.due.freeze {
            return Err(SessionError::Misuse("a machine with work in flight cannot be frozen"));
        }
        self.due.freeze = true;
        let timeout_ms = request::millis(timeout);
        self.send(Body::PrepareFreeze(wire::PrepareFreeze { timeout_ms, keep_memory }))
    }

    /// Asks for a sign of life. Answer: [`Event::Pong`], at once, whatever the function does, and also before the
    /// session is [open](Session::open).
    pub fn ping(&mut self, nonce: u64) -> Result<(), SessionError> {
        if self.due.pings.len() >= MAX_PINGS {
            return Err(SessionError::Misuse("16 pings are unanswered; wait for a pong"));
        }
        self.due.pings.push(nonce);
        self.send(Body::Ping(wire::Ping { nonce }))
    }

    /// The next thing the guest says. Blocks as long as the stream does.
    pub fn next_event(&mut self) -> Result<Event, SessionError> {
        loop {
            if let Some((message, arrived)) = self.decoder.next::<wire::GuestFrame>()? {
                return self.accept(message, arrived);
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(SessionError::DeadlinePassed);
            }
            frame::fill(&mut self.decoder, &mut self.stream)?;
        }
    }

    fn check_open(&self) -> Result<(), SessionError> {
        if self.due.opened { Ok(()) } else { Err(SessionError::Misuse("open the session first")) }
    }

    /// Sends a call: as much of the event as fits in the frame that `wrap` makes of it, the rest in chunks.
    fn send_call(
        &mut self,
        call: &Call<'_>,
        wrap: impl FnOnce(wire::Invoke) -> Body,
    ) -> Result<(), SessionError> {
        self.due.call = Some(InFlight {
            request_id: call.request_id.to_owned(),
            received: 0,
            most: if call.stream { MAX_STREAM } else { MAX_BODY },
            first_byte: None,
        });
        self.log_bytes = 0;
        let mut frame = wire::HostFrame {
            body: Some(wrap(wire::Invoke {
                request_id: call.request_id.to_owned(),
                timeout_ms: request::millis(call.timeout),
                body_size: call.event.len() as u64,
                body: Vec::new(),
                trace_id: call.trace_id.to_owned(),
                stream: call.stream,
            })),
        };
        let room = MAX_FRAME.saturating_sub(frame.encoded_len() + INLINE_SLACK);
        let (inline, rest) = call.event.split_at(call.event.len().min(room));
        match &mut frame.body {
            Some(Body::Invoke(wire::Invoke { body, .. }))
            | Some(Body::Hello(wire::Hello { invoke: Some(wire::Invoke { body, .. }), .. })) => {
                body.extend_from_slice(inline);
            }
            _ => return Err(SessionError::Misuse("a call travels in Hello or Invoke")),
        }
        self.send_frame(&frame)?;
        for data in rest.chunks(MAX_CHUNK) {
            let request_id = call.request_id.to_owned();
            self.send(Body::InvokeChunk(wire::InvokeChunk { request_id, data: data.to_vec() }))?;
        }
        Ok(())
    }

    fn send(&mut self, body: Body) -> Result<(), SessionError> {
        self.send_frame(&wire::HostFrame { body: Some(body) })
    }

    fn send_frame(&mut self, frame: &wire::HostFrame) -> Result<(), SessionError> {
        self.scratch.clear();
        frame::encode(frame, &mut self.scratch)?;
        self.stream.write_all(&self.scratch).map_err(frame::FrameError::from)?;
        Ok(self.stream.flush().map_err(frame::FrameError::from)?)
    }
}

#[cfg(test)]
mod tests;
