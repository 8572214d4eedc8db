//! One connection of the Runtime API: HTTP/1.1 with keep-alive (RFC 9112), bounded.
//!
//! Heads are parsed by `httparse`. Requests are served one at a time: bytes of a pipelined request wait in the buffer
//! until the answer before it is out.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use calve_proto::limits::MAX_BODY;

use super::chunked::{ChunkError, Chunked};
use super::reply::Reply;
use crate::control::is_transient;
use crate::poll::{Interest, Poll, Token, Watch};

/// Longest head. AWS's clients put an X-Ray cause of up to 1 MiB into a header.
const MAX_HEAD: usize = (1 << 20) + (64 << 10);

/// Largest body that is read to its end only to be refused, so that the client reads our answer instead of a reset.
const MAX_REFUSED: usize = 64 << 20;

/// Most headers of a request.
const MAX_HEADERS: usize = 64;

/// Bytes asked for in one read: a first small one, then larger ones for a body.
const FIRST_READ: usize = 4 << 10;
const BODY_READ: usize = 64 << 10;

/// The methods that the API knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Other,
}

/// A whole request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    /// `Lambda-Runtime-Function-Error-Type`.
    pub(super) error_type: Option<String>,
    pub(super) body: Vec<u8>,
}

/// How much body is to come.
#[derive(Debug)]
enum Framing {
    Length(usize),
    Chunked(Chunked),
    /// Too large: so many bytes are to be skipped before the refusal.
    Refused(usize),
}

/// A request whose head is in.
#[derive(Debug)]
struct Partial {
    request: Request,
    framing: Framing,
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

    /// The next whole request, or the answer that a broken one gets.
    pub(super) fn next_request(&mut self) -> Option<Result<Request, Reply>> {
        if self.busy || self.closing {
            return None;
        }
        let result = self.try_next().transpose()?;
        self.busy = true;
        Some(result)
    }

    fn try_next(&mut self) -> Result<Option<Request>, Reply> {
        if self.partial.is_none() {
            let Some((partial, used, expects_continue)) = parse_head(&self.input)? else {
                return Ok(None);
            };
            self.keep_alive = partial.1;
            self.partial = Some(partial.0);
            self.input.drain(..used);
            if expects_continue {
                self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
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
        Ok(if complete { self.partial.take().map(|p| p.request) } else { None })
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

    /// Writes what is due. Returns whether the connection lives on.
    pub(super) fn flush(&mut self, poll: &Poll) -> io::Result<bool> {
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
        let read = !self.closing && !read_ahead;
        let write = !self.output.is_empty();
        poll.set(&mut self.watch, &self.stream, Interest { read, write })?;
        Ok(true)
    }
}

/// Partial request and keep-alive, bytes used, whether the client waits for "100 Continue".
type Head = ((Partial, bool), usize, bool);

/// Parses a head; `None` if it is not complete.
fn parse_head(input: &[u8]) -> Result<Option<Head>, Reply> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let used = match head.parse(input) {
        Ok(httparse::Status::Complete(used)) if used <= MAX_HEAD => used,
        Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD => return Ok(None),
        Ok(_) => return Err(Reply::head_too_large()),
        Err(httparse::Error::TooManyHeaders) => return Err(Reply::head_too_large()),
        Err(e) => return Err(Reply::malformed(&e.to_string())),
    };
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        _ => Method::Other,
    };
    let path = head.path.unwrap_or_default().to_owned();
    let get = |name: &str| {
        let found = head.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        found.and_then(|h| std::str::from_utf8(h.value).ok())
    };
    let has = |name: &str, token: &str| {
        get(name).is_some_and(|v| v.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    let framing = if has("Transfer-Encoding", "chunked") {
        Framing::Chunked(Chunked::new(MAX_BODY))
    } else {
        let len = get("Content-Length").map_or(Ok(0), |v| v.trim().parse::<usize>());
        let len = len.map_err(|_| Reply::malformed("Content-Length is no number"))?;
        match len {
            0..=MAX_BODY => Framing::Length(len),
            len if len <= MAX_REFUSED => Framing::Refused(len),
            _ => return Err(Reply::too_large()),
        }
    };
    let keep_alive = if head.version == Some(0) {
        has("Connection", "keep-alive")
    } else {
        !has("Connection", "close")
    };
    let error_type = get("Lambda-Runtime-Function-Error-Type").map(str::to_owned);
    let expects_continue = has("Expect", "100-continue");
    let request = Request { method, path, error_type, body: Vec::new() };
    Ok(Some(((Partial { request, framing }, keep_alive), used, expects_continue)))
}
