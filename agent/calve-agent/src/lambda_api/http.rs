//! One connection of the Runtime API: HTTP/1.1 with keep-alive (RFC 9112), bounded.
//!
//! Requests are served one at a time: bytes of a pipelined request wait in the buffer
//! until the answer before it is out.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::chunked::ChunkError;
use super::head::{self, Framing, Head, Partial, Request};
use super::reply::Reply;
use crate::control::is_transient;
use crate::poll::{Interest, Poll, Token, Watch};

/// Bytes asked for in one read: a first small one, then larger ones for a body.
const FIRST_READ: usize = 4 << 10;
const BODY_READ: usize = 64 << 10;

/// What a client has sent.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A whole request.
    Whole(Request),
    /// The head of a response that is streamed; its body comes in parts. So is its content type.
    Begin(String),
    /// The next bytes of that body: one or more.
    Part(Vec<u8>),
    /// Its end, with its trailers.
    End(Vec<u8>),
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    watch: Watch,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    partial: Option<Partial>,
    /// The request before is not answered yet.
    busy: bool,
    keep_alive: bool,
    closing: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, slot: u32) -> Self {
        // Answers are written whole; waiting for more (Nagle) would only delay them.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            watch: Watch::new(Token::ApiConnection(slot)),
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            partial: None,
            busy: false,
            keep_alive: true,
            closing: false,
        }
    }

    /// Reads once. Returns false if the client is gone.
    pub(super) fn read(&mut self) -> bool {
        let size = if self.partial.is_some() { BODY_READ } else { FIRST_READ };
        let old = self.input.len();
        self.input.resize(old + size, 0);
        let result = self.stream.read(&mut self.input[old..]);
        self.input.truncate(old + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(n) => n > 0,
            Err(e) => is_transient(&e),
        }
    }

    /// The next whole request, or the answer that a broken one gets. A chunked body that is posted to `streamed`, and
    /// that says that it is a stream, comes in parts.
    pub(super) fn next(&mut self, streamed: Option<&str>) -> Option<Result<Incoming, Reply>> {
        if self.busy || self.closing {
            return None;
        }
        let result = self.try_next(streamed).transpose()?;
        self.busy = !matches!(result, Ok(Incoming::Begin(_) | Incoming::Part(_)));
        Some(result)
    }

    fn try_next(&mut self, streamed: Option<&str>) -> Result<Option<Incoming>, Reply> {
        if self.partial.is_none() {
            let Some(Head { partial, used, keep_alive, expects_continue }) =
                head::parse(&self.input)?
            else {
                return Ok(None);
            };
            self.keep_alive = keep_alive;
            let partial = self.partial.insert(partial);
            self.input.drain(..used);
            if expects_continue {
                self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if partial.pass_on(streamed) {
                return Ok(Some(Incoming::Begin(std::mem::take(
                    &mut partial.request.content_type,
                ))));
            }
        }
        let Some(partial) = &mut self.partial else { return Ok(None) };
        let body = &mut partial.request.body;
        let complete = match &mut partial.framing {
            Framing::Length(len) => {
                let n = self.input.len().min(*len - body.len());
                body.extend(self.input.drain(..n));
                body.len() == *len
            }
            Framing::Chunked(chunked) => {
                let (used, complete) = chunked.decode(&self.input, body).map_err(|e| match e {
                    ChunkError::Malformed => Reply::malformed("chunked body is malformed"),
                    ChunkError::TooLarge => Reply::too_large(),
                })?;
                self.input.drain(..used);
                complete
            }
            Framing::Refused(left) => {
                let n = self.input.len().min(*left);
                self.input.drain(..n);
                *left -= n;
                if *left == 0 {
                    return Err(Reply::too_large());
                }
                false
            }
        };
        if partial.passed_on && !partial.request.body.is_empty() {
            return Ok(Some(Incoming::Part(std::mem::take(&mut partial.request.body))));
        }
        let done = self.partial.take_if(|_| complete);
        Ok(done.map(|partial| match partial.framing {
            Framing::Chunked(chunked) if partial.passed_on => {
                Incoming::End(chunked.trailers().to_vec())
            }
            _ => Incoming::Whole(partial.request),
        }))
    }

    /// Whether a body that is passed on as it comes is not over yet.
    pub(super) fn is_streaming(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.passed_on)
    }

    /// Queues the answer to the request being served.
    pub(super) fn reply(&mut self, reply: &Reply) {
        reply.write_to(&mut self.output);
        self.busy = false;
        self.closing |= !self.keep_alive;
    }

    /// The stream is out of step: nothing more is read from it.
    pub(super) fn close_after_reply(&mut self) {
        self.closing = true;
        self.input = Vec::new();
        self.partial = None;
    }

    /// Writes what is due. Returns whether the connection lives on. `room`: parts of a stream can be passed on.
    pub(super) fn flush(&mut self, poll: &Poll, room: bool) -> io::Result<bool> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.written == self.output.len() {
            if self.closing {
                return Ok(false);
            }
            self.output = Vec::new();
            self.written = 0;
        }
        // While a request is being served only its client's hang-up is of interest, and a pipelined one can wait: both
        // come as readable, so more than a head's worth of it is not read ahead.
        let read_ahead = self.busy && self.input.len() >= FIRST_READ;
        // What is streamed stays with the client while the host is behind.
        let read = !self.closing && !read_ahead && (room || !self.is_streaming());
        let write = !self.output.is_empty();
        poll.set(&mut self.watch, &self.stream, Interest { read, write })?;
        Ok(true)
    }
}
