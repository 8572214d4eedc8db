//! The head of a request, parsed by `httparse`, and what it says about the body.

use calve_proto::limits::{MAX_BODY, MAX_CONTENT_TYPE, MAX_STREAM};

use super::chunked::Chunked;
use super::reply::Reply;

/// Longest head. AWS's clients put an X-Ray cause of up to 1 MiB into a header.
const MAX_HEAD: usize = (1 << 20) + (64 << 10);

/// Largest body that is read to its end only to be refused, so that the client reads our answer instead of a reset.
const MAX_REFUSED: usize = 64 << 20;

/// What a body is of which nobody says it.
const UNKNOWN: &str = "application/octet-stream";

/// Most headers of a request.
const MAX_HEADERS: usize = 64;

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
    /// What the body is, in as many bytes as the protocol with the host has for it.
    pub(super) content_type: String,
    /// `Lambda-Runtime-Function-Response-Mode: streaming`.
    pub(super) streaming: bool,
    pub(super) body: Vec<u8>,
}

/// How much body is to come.
#[derive(Debug)]
pub(super) enum Framing {
    Length(usize),
    Chunked(Chunked),
    /// Too large: so many bytes are to be skipped before the refusal.
    Refused(usize),
}

/// A request whose head is in.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) request: Request,
    pub(super) framing: Framing,
    /// Its body is passed on as it comes.
    pub(super) passed_on: bool,
}

impl Partial {
    /// Has the body passed on as it comes, if it is posted to `streamed` and is a stream; whether it is.
    pub(super) fn pass_on(&mut self, streamed: Option<&str>) -> bool {
        let Self { request, framing, passed_on } = self;
        *passed_on = matches!(framing, Framing::Chunked(_))
            && request.streaming
            && request.method == Method::Post
            && streamed == Some(request.path.as_str());
        if *passed_on {
            *framing = Framing::Chunked(Chunked::new(MAX_STREAM));
        }
        *passed_on
    }
}

/// A head and what its connection needs to know of it.
pub(super) struct Head {
    pub(super) partial: Partial,
    /// Bytes of input that were the head.
    pub(super) used: usize,
    pub(super) keep_alive: bool,
    /// The client waits for "100 Continue" before it sends the body.
    pub(super) expects_continue: bool,
}

/// Parses a head; `None` if it is not complete.
pub(super) fn parse(input: &[u8]) -> Result<Option<Head>, Reply> {
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
    let content_type = content_type(get("Content-Type"));
    let streaming = has("Lambda-Runtime-Function-Response-Mode", "streaming");
    let body = Vec::new();
    let request = Request { method, path, error_type, content_type, streaming, body };
    let partial = Partial { request, framing, passed_on: false };
    Ok(Some(Head { partial, used, keep_alive, expects_continue }))
}

/// A content type as the protocol with the host has it: what a runtime says, if that is one.
pub(crate) fn content_type(said: Option<&str>) -> String {
    let is_one = |text: &&str| {
        (1..=MAX_CONTENT_TYPE).contains(&text.len()) && !text.contains(char::is_control)
    };
    said.filter(is_one).unwrap_or(UNKNOWN).to_owned()
}
