//! What the host's answer, or its silence, means to a command.
//!
//! | the host | exit status |
//! | --- | --- |
//! | cannot be reached | 3 |
//! | refuses (400 and up) | 2: another request would do |
//! | is too busy, or takes too long (408, 429) | 4 |
//! | fails (500 and up), or says what no host says | 4 |

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::StatusCode;
use ureq::http::response::Parts;

use crate::failure::{Failure, Status, flat, line};

/// An answer with its whole body.
pub(crate) struct Answer {
    pub(super) url: String,
    pub(super) head: Parts,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body.
    pub(crate) fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The body as a document.
    pub(crate) fn document<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let text = format!("{}: the answer is none of a function host: {error}", self.url);
            Failure::new(Status::Machine, text).with_remedy(Some(CHECK_URL))
        })
    }

    /// The answer, unless it says that something went wrong.
    pub(super) fn success(self) -> Result<Self, Failure> {
        if self.head.status.is_success() {
            return Ok(self);
        }
        Err(self.refusal())
    }

    fn refusal(&self) -> Failure {
        let code = self.head.status;
        // The type may have a namespace behind a colon (AWS's rest-json protocol).
        let kind = self.header("x-amzn-errortype").and_then(|kind| kind.split(':').next());
        let Some(kind) = kind else {
            let text = format!("{}: answers {code}", self.url);
            let remedy = if code.is_server_error() { SEE_LOG } else { CHECK_URL };
            return Failure::new(status(code), text).with_remedy(Some(remedy));
        };
        let message = message(&self.body).unwrap_or_else(|| format!("{kind} ({code})"));
        let failure = Failure::new(status(code), message.trim_end_matches('.'));
        let wait = self.header("retry-after").map(|wait| format!("try again in {wait} s"));
        failure.with_remedy(wait.as_deref().or_else(|| remedy(kind, code)))
    }
}

const CHECK_URL: &str = "check --url (CALVE_URL)";
const SEE_LOG: &str = "see the function host's log";

fn status(code: StatusCode) -> Status {
    match code {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Status::Machine,
        code if code.is_client_error() => Status::Usage,
        _ => Status::Machine,
    }
}

/// The message of an error document, in one line.
fn message(body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    // AWS Lambda has both spellings, too.
    let message = document.get("Message").or_else(|| document.get("message"))?;
    Some(flat(message.as_str()?)).filter(|message| !message.is_empty())
}

/// What to do about an error, where its message may not say.
fn remedy(kind: &str, code: StatusCode) -> Option<&'static str> {
    match kind {
        "ResourceNotFoundException" => Some("`ls` shows what there is"),
        "ResourceConflictException" => {
            Some("update or remove what is there, or wait until its update is done")
        }
        "TooManyRequestsException" => Some("try again later"),
        "RequestTooLargeException" => Some("send less, or a reference to it"),
        "PreconditionFailedException" => Some("somebody else has changed it: look at it again"),
        _ if matches!(code, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Some("check --key (CALVE_KEY)")
        }
        _ => None,
    }
}

/// The host has not answered, or not to the end.
pub(super) fn unanswered(url: &str, error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            unreachable(url, "it takes no connection in time")
        }
        ureq::Error::Timeout(_) => {
            Failure::new(Status::Machine, "no answer in time").about(url).with_remedy(Some(SEE_LOG))
        }
        ureq::Error::Io(error) => unreachable(url, &line(&error)),
        ureq::Error::HostNotFound => unreachable(url, "no such host"),
        error @ ureq::Error::Protocol(_) => Failure::new(Status::Machine, flat(&error.to_string()))
            .about(url)
            .with_remedy(Some(CHECK_URL)),
        error => unreachable(url, &flat(&error.to_string())),
    }
}

fn unreachable(url: &str, why: &str) -> Failure {
    let text = format!("cannot reach the function host at {url}: {why}");
    Failure::new(Status::Host, text)
        .with_remedy(Some("start one with `calve serve`, or name another with --url (CALVE_URL)"))
}
