//! The event of a file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::json;

use super::cron::iso;
use super::inbox::Content;
use super::registry::Live;
use super::settings::Kind;
use super::take::Candidate;
use super::target::Target;
use super::{Events, arn};
use crate::ledger::Message;

/// Kept of a name in an event: what S3 keeps ("Object key names"), so that any bytes can be a name.
const PLAIN: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'~');

/// The message of a file, in the shape of S3's event notifications ("Event message structure" of its user guide).
pub(super) fn message(
    events: &Events,
    live: &Live,
    candidate: &Candidate,
    content: &Content,
) -> Message {
    let (region, account) = (&events.parts.region, events.account(&live.source.tenant));
    let folder = match &live.settings.source {
        Kind::FileDrop { folder, .. } => folder.as_str(),
        _ => "",
    };
    let source = &live.source;
    let mut record = json!({
        "eventVersion": "2.1",
        "eventSource": "calve:file",
        "eventSourceARN": arn::of(region, &account, &source.id, &live.settings.source),
        "awsRegion": region,
        "eventTime": iso(events.now()),
        "eventName": "ObjectCreated:Put",
        "userIdentity": { "principalId": account },
        "account": account,
        "functionArn": Target::arn(&source.function, &source.qualifier, region, &account),
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": source.id,
            "bucket": { "name": folder, "ownerIdentity": { "principalId": account } },
            "object": {
                "key": key(&candidate.name),
                "size": candidate.stamp.size,
                "eTag": content.sha256,
                "sequencer": format!("{:016x}", candidate.identity.short()),
            },
        },
    });
    if let Some(bytes) = &content.bytes {
        record["s3"]["object"]["content"] = STANDARD.encode(bytes).into();
    }
    let event = json!({ "Records": [record] }).to_string().into_bytes();
    events.message(live, candidate.identity.id(), event)
}

/// A name as S3's events have it: percent-encoded, with + for spaces.
fn key(name: &OsStr) -> String {
    percent_encode(name.as_bytes(), &PLAIN).to_string().replace("%20", "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_can_be_a_name() {
        assert_eq!(key(OsStr::new("a b+ä.txt")), "a+b%2B%C3%A4.txt");
        assert_eq!(key(OsStr::from_bytes(b"\n\xff")), "%0A%FF");
    }
}
