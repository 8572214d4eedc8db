//! A running function host, as its client sees it.
//!
//! ```text
//! function, source, top ──► Host ──HTTP/1.1──► calve serve
//!                             └─ answer: what a status and an error document mean to a command
//! ```
//!
//! Plain HTTP only. A host listens on its own machine, or behind something that ends TLS; a TLS stack in this program
//! would bring C code or root certificates under licences that `deny.toml` does not have, for a hop that an ssh tunnel
//! covers.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderValue, Method, Request, Response, Uri};
use ureq::{AsSendBody, Body};

use crate::args::Server;
use crate::failure::{Failure, Status};

mod answer;
mod package;

pub(crate) use answer::Answer;
pub(crate) use package::read as read_package;

/// What may stand in a path or a query as it is (RFC 3986, "unreserved").
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where `calve serve` listens unless it is told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:9470";
/// How long a connection may take. A host is near.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take that waits for no function: the host unpacks and writes up to 250 MiB meanwhile.
const ANSWER: Duration = Duration::from_secs(120);
/// How long the answer to a call may take: the longest call, and some waiting for a machine.
pub(crate) const CALL: Duration = Duration::from_secs(900 + 120);
/// The most bytes of an answer: far more than a page of functions or a result.
const MOST_ANSWER: u64 = 64 << 20;

/// A function host and the key to it.
pub(crate) struct Host {
    agent: ureq::Agent,
    url: String,
    authorization: HeaderValue,
}

/// What is asked of a host.
#[derive(Debug)]
pub(crate) struct Ask {
    method: Method,
    /// Path and query.
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    patience: Duration,
}

impl Host {
    /// The host that the command line or the environment names. Says nothing to it yet.
    pub(crate) fn new(server: &Server) -> Result<Self, Failure> {
        // A variable that is set but empty counts as not set.
        let url = if server.url.is_empty() { DEFAULT_URL } else { &server.url };
        let url = check_url(url)?;
        let authorization = authorization(server.key.as_deref())?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // Whoever sends us elsewhere is no function host, and must not make us show the key there.
            .max_redirects(0)
            // Nor must a proxy see it, which the environment names for other purposes.
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_body(Some(ANSWER))
            .user_agent(concat!("calve/", env!("CARGO_PKG_VERSION")));
        Ok(Self { agent: config.build().new_agent(), url, authorization })
    }

    /// Asks, and reads the whole answer; fails for any that is not a success.
    pub(crate) fn ask(&self, ask: Ask) -> Result<Answer, Failure> {
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(format!("{}{}", self.url, ask.target))
            .header(AUTHORIZATION, &self.authorization);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        // To ureq a body is a matter of types, and a GET must have none.
        let response = if matches!(ask.method, Method::GET | Method::DELETE) {
            self.send(request.body(()), ask.patience)?
        } else {
            let request = request.header(CONTENT_TYPE, "application/json");
            self.send(request.body(ask.body), ask.patience)?
        };
        let (head, body) = response.into_parts();
        let body = body.into_with_config().limit(MOST_ANSWER).read_to_vec();
        let body = body.map_err(|error| answer::unanswered(&self.url, error))?;
        Answer { url: self.url.clone(), head, body }.success()
    }

    fn send<B: AsSendBody>(
        &self,
        request: Result<Request<B>, ureq::http::Error>,
        patience: Duration,
    ) -> Result<Response<Body>, Failure> {
        let request = request.map_err(|error| unsendable(&error))?;
        let request = self.agent.configure_request(request).timeout_recv_response(Some(patience));
        let response = self.agent.run(request.build());
        response.map_err(|error| answer::unanswered(&self.url, error))
    }

    /// Asks for a document.
    pub(crate) fn document<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, Failure> {
        self.ask(ask)?.document()
    }
}

impl Ask {
    /// A question without a body.
    pub(crate) fn new(method: Method, target: impl Into<String>) -> Self {
        let (target, headers, body) = (target.into(), Vec::new(), Vec::new());
        Self { method, target, headers, body, patience: ANSWER }
    }

    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target)
    }

    /// Puts a document into the body.
    #[must_use]
    pub(crate) fn json(self, document: &Value) -> Self {
        self.body(document.to_string().into_bytes())
    }

    #[must_use]
    pub(crate) fn body(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a parameter of the query, if it has a value.
    #[must_use]
    pub(crate) fn query(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            let mark = if self.target.contains('?') { '&' } else { '?' };
            self.target.push(mark);
            self.target.push_str(name);
            self.target.push('=');
            self.target.push_str(&segment(value));
        }
        self
    }

    /// Says how long the answer may take.
    #[must_use]
    pub(crate) fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// The address without a `/` at its end.
fn check_url(url: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::usage(format_args!("--url {url} (CALVE_URL): {why}"));
    let written = "write it as http://HOST:PORT";
    let uri: Uri = url.parse().map_err(|_| wrong(&format!("this is no address; {written}")))?;
    match (uri.scheme_str(), uri.host(), uri.query()) {
        (Some("https"), ..) => Err(wrong(
            "this program speaks no TLS; go through a tunnel, such as ssh -L 9470:127.0.0.1:9470 HOST, \
             and use http://127.0.0.1:9470",
        )),
        (Some("http"), Some(host), None) if !host.is_empty() => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err(wrong(&format!("this is no address; {written}"))),
    }
}

/// The header that shows the key. What is wrong with a key is told without showing it.
fn authorization(key: Option<&str>) -> Result<HeaderValue, Failure> {
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        return Err(Failure::usage(
            "no access key; set CALVE_KEY=ID:SECRET, `calve key create` makes one",
        ));
    };
    let whole =
        key.split_once(':').is_some_and(|(id, secret)| !id.is_empty() && !secret.is_empty());
    let header = HeaderValue::try_from(format!("Bearer {key}")).ok().filter(|_| whole);
    let Some(mut header) = header else {
        return Err(Failure::usage(
            "the access key (--key, CALVE_KEY) is not of the form ID:SECRET",
        ));
    };
    header.set_sensitive(true);
    Ok(header)
}

/// A name or value that no header or address can have.
fn unsendable(error: &ureq::http::Error) -> Failure {
    Failure::of(Status::Usage, error).about("this cannot be sent")
}

#[cfg(test)]
mod tests;
