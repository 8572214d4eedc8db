//! Signs requests as AWS's clients do, written from the specification and not from the crate that verifies.

use chrono::{DateTime, Utc};
use http::Request;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

const HOST: &str = "127.0.0.1:9001";
const PATH: AsciiSet =
    NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A request that is signed with `id` and `secret`: its body is that of the arguments, or another one is put in later.
pub(super) struct Signer<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a str,
    pub(super) service: &'a str,
    pub(super) at: DateTime<Utc>,
}

impl Signer<'_> {
    pub(super) fn sign(
        &self,
        method: &str,
        target: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> Request<Vec<u8>> {
        let time = self.at.format("%Y%m%dT%H%M%SZ").to_string();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut query: Vec<_> = query.split('&').filter(|one| !one.is_empty()).collect();
        query.sort_unstable();
        let mut headers = vec![("host", HOST), ("x-amz-date", &time)];
        headers.extend(more);
        headers.sort_unstable();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let path = utf8_percent_encode(path, &PATH).to_string();
        let hash = hex::encode(Sha256::digest(body));
        let canonical = [method, &path, &query.join("&"), &lines, &names, &hash].join("\n");

        let scope = format!("{}/eu-west-3/{}/aws4_request", &time[..8], self.service);
        let hash = hex::encode(Sha256::digest(canonical));
        let text = ["AWS4-HMAC-SHA256", &time, &scope, &hash].join("\n");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/').chain([text.as_str()]) {
            key = hmac(&key, part.as_bytes());
        }
        let claim = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.id,
            hex::encode(key)
        );
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.header("authorization", claim).body(body.to_vec()).unwrap()
    }
}

/// RFC 2104, of keys that are no longer than a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().to_vec()
}
