//! The socket between the agent and its own shims.
//!
//! Both directions carry frames of a type byte, a 4-byte little-endian length and that many bytes:
//!
//! | agent → shim | payload |
//! | --- | --- |
//! | `I` invoke | one line of JSON (`requestId`, `deadlineMs`, `functionArn`, `traceId`, `stream`: the host takes 200 MiB in parts), `\n`, the event |
//! | `L` take a function: the whole environment; sent once, to a shim that was started without one | object of strings |
//! | `F` run the before_snapshot hooks, collect garbage | – |
//! | `S` draw random bytes: the clock is backdated (see `agent/freeze.rs`) | – |
//! | `T` this is a clone now: reseed, run the after_restore hooks | – |
//!
//! | shim → agent | payload |
//! | --- | --- |
//! | `R` ready | – |
//! | `E` the handler could not be loaded | error object |
//! | `V` the handler's value | JSON text |
//! | `B` the handler streams its value | content type |
//! | `P` the next bytes of it | 1 byte to 64 KiB |
//! | `W` it is whole | – |
//! | `X` the handler failed; a stream is over | error object |
//! | `D` the handler failed in a way that ends the process, which is about to exit | error object |
//! | `F` hooks have run | number of after_restore hooks, decimal |
//! | `S` settled | – |
//! | `T` thawed; only sent if there were hooks | – |
//! | `H` a hook failed | error object |
//!
//! The error object is AWS Lambda's (`errorType`, `errorMessage`, `stackTrace`), with an optional `kind`. User code lives
//! in the shim's process and may write here, too: lengths are bounded, and a frame that is none ends the runtime.
//!
//! While the host is behind, a stream stays in the socket, and its handler waits.

mod stream;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use calve_proto::limits::{MAX_BODY, MAX_CHUNK};
use calve_proto::{ErrorKind, FunctionError};

use super::{Invocation, RuntimeEvent, parse_error};
use crate::control::is_transient;
use crate::poll::{Interest, Poll, Token, Watch};
use stream::Stream;

/// Type and length.
const HEADER: usize = 5;

/// Longest payload but a handler's value: an error object before it is cut.
const MAX_SMALL: usize = 1 << 20;

/// Bytes asked for in the first read of a frame; the rest of a longer frame is read in one piece.
const FIRST_READ: usize = 4 << 10;

/// A request without a payload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// Run the before_snapshot hooks.
    BeforeSnapshot,
    /// Draw random bytes under the backdated clock.
    Settle,
    /// Reseed and run the after_restore hooks.
    AfterRestore,
}

/// The agent's end.
#[derive(Debug)]
pub(crate) struct ShimLink {
    socket: UnixStream,
    watch: Watch,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// The shim has closed its end; its process ends, or is about to.
    closed: bool,
    /// The host takes the result of the invocation in flight as it comes.
    streams: bool,
    /// The result on its way.
    stream: Option<Stream>,
}

impl ShimLink {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            watch: Watch::new(Token::Shim),
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            closed: false,
            streams: false,
            stream: None,
        }
    }

    pub(crate) fn send(&mut self, request: Request) {
        let kind = match request {
            Request::BeforeSnapshot => b'F',
            Request::Settle => b'S',
            Request::AfterRestore => b'T',
        };
        self.output.extend([kind, 0, 0, 0, 0]);
    }

    /// Has a shim without a function load the one that `env` names.
    pub(crate) fn load(&mut self, env: &BTreeMap<String, String>) {
        let json = serde_json::json!(env).to_string();
        // The environment is bounded far below 4 GiB.
        let len = u32::try_from(json.len()).unwrap_or(u32::MAX);
        self.output.push(b'L');
        self.output.extend(len.to_le_bytes());
        self.output.extend(json.as_bytes());
    }

    pub(crate) fn invoke(&mut self, invocation: &Invocation) {
        self.streams = invocation.stream;
        self.stream = None;
        let header = serde_json::json!({
            "requestId": invocation.request_id,
            "deadlineMs": invocation.deadline_epoch_ms,
            "functionArn": invocation.function_arn,
            "traceId": invocation.trace_id,
            "stream": invocation.stream,
        })
        .to_string();
        // Both parts are bounded far below 4 GiB.
        let len = u32::try_from(header.len() + 1 + invocation.event.len()).unwrap_or(u32::MAX);
        self.output.push(b'I');
        self.output.extend(len.to_le_bytes());
        self.output.extend(header.as_bytes());
        self.output.push(b'\n');
        self.output.extend(&invocation.event);
    }

    /// Reads what has come, until it is something: the rest is there when this is called again.
    pub(crate) fn on_readable(&mut self, events: &mut Vec<RuntimeEvent>) {
        loop {
            let wanted = self.missing().unwrap_or(0).max(FIRST_READ);
            let old = self.input.len();
            self.input.resize(old + wanted, 0);
            let result = self.socket.read(&mut self.input[old..]);
            let got = *result.as_ref().unwrap_or(&0);
            self.input.truncate(old + got);
            match result {
                Ok(0) => {
                    self.closed = true;
                    return;
                }
                Ok(n) => {
                    if let Err(why) = self.take_frames(events) {
                        self.closed = true;
                        events.push(RuntimeEvent::Broken(why));
                        return;
                    }
                    if n < wanted || !events.is_empty() {
                        return;
                    }
                }
                Err(e) if is_transient(&e) => return,
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }

    /// Writes what is due; watches for what can come. `room`: parts of a stream can be passed on.
    pub(crate) fn flush(&mut self, poll: &Poll, room: bool) -> io::Result<()> {
        while self.written < self.output.len() && !self.closed {
            match self.socket.write(&self.output[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Its process ends; SIGCHLD tells how.
                Err(_) => self.closed = true,
            }
        }
        if self.written == self.output.len() || self.closed {
            self.output = Vec::new();
            self.written = 0;
        }
        let waits = !room && self.stream.as_ref().is_some_and(Stream::is_passed_on);
        let read = !self.closed && !waits;
        let write = !self.closed && !self.output.is_empty();
        poll.set(&mut self.watch, &self.socket, Interest { read, write })
    }

    /// Bytes that the pending frame still lacks, if its header is in and valid.
    fn missing(&self) -> Option<usize> {
        let (_, len) = parse_header(&self.input).ok()??;
        (HEADER + len).checked_sub(self.input.len())
    }

    fn take_frames(&mut self, events: &mut Vec<RuntimeEvent>) -> Result<(), &'static str> {
        while let Some((kind, len)) = parse_header(&self.input)? {
            if self.input.len() < HEADER + len {
                break;
            }
            let rest = self.input.split_off(HEADER + len);
            let mut payload = std::mem::replace(&mut self.input, rest);
            payload.drain(..HEADER);
            self.take_frame(kind, payload, events)?;
        }
        Ok(())
    }

    fn take_frame(
        &mut self,
        kind: u8,
        payload: Vec<u8>,
        events: &mut Vec<RuntimeEvent>,
    ) -> Result<(), &'static str> {
        match (kind, &mut self.stream) {
            (b'B', None) => self.stream = Some(Stream::begin(&payload, self.streams)),
            (b'P', Some(stream)) => stream.take(payload, events)?,
            (b'W', stream) => events.push(stream.take().ok_or("an end of no stream")?.end()),
            (b'B' | b'V', Some(_)) => return Err("a result in a result"),
            (b'P', None) => return Err("a part of no stream"),
            (b'X' | b'D', stream) => {
                *stream = None;
                events.push(event(kind, payload)?);
            }
            _ => events.push(event(kind, payload)?),
        }
        Ok(())
    }
}

/// Type and payload length of the first frame; `None` if its header is not complete.
fn parse_header(input: &[u8]) -> Result<Option<(u8, usize)>, &'static str> {
    let Some((&[kind, a, b, c, d], _)) = input.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let max = match kind {
        b'V' => MAX_BODY,
        b'P' => MAX_CHUNK,
        _ => MAX_SMALL,
    };
    if len > max {
        return Err("a frame over its bound");
    }
    Ok(Some((kind, len)))
}

fn event(kind: u8, payload: Vec<u8>) -> Result<RuntimeEvent, &'static str> {
    let error = |kind| -> FunctionError { parse_error(&payload, None, kind) };
    Ok(match kind {
        b'R' => RuntimeEvent::Ready,
        b'E' => RuntimeEvent::InitFailed(error(ErrorKind::Init)),
        b'V' => RuntimeEvent::Result(payload),
        b'X' => RuntimeEvent::Failed(error(ErrorKind::Handler)),
        b'D' => RuntimeEvent::Dying(error(ErrorKind::Handler)),
        b'F' => {
            let count = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok());
            RuntimeEvent::HooksRan { after_restore: count.ok_or("a count that is no number")? }
        }
        b'S' => RuntimeEvent::Settled,
        b'T' => RuntimeEvent::Thawed,
        b'H' => RuntimeEvent::HookFailed(error(ErrorKind::Hook)),
        _ => return Err("a frame of an unknown type"),
    })
}

#[cfg(test)]
mod tests;
