//! `Invoke` on the wire, with a secret or a signature.

use std::net::SocketAddr;

use chrono::Utc;
use sha2::{Digest as _, Sha256};

use super::documents::KEY;

/// Bytes of an event.
const EVENT: usize = 100;

/// How a request proves whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// By the secret itself.
    Bearer,
    /// By AWS Signature Version 4, as AWS's clients do. Good for 15 minutes.
    SigV4,
}

/// A request that can be sent again and again.
pub(super) fn invoke(address: SocketAddr, function: &str, secret: &str, proof: Proof) -> String {
    let event = format!(r#"{{"n":1,"text":"{}"}}"#, "x".repeat(EVENT - 17));
    let path = format!("/2015-03-31/functions/{function}/invocations");
    let time = Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
    let host = address.to_string();
    let claim = match proof {
        Proof::Bearer => format!("Bearer {KEY}:{secret}"),
        Proof::SigV4 => sign(&path, &host, &time, event.as_bytes(), secret),
    };
    format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nx-amz-date: {time}\r\nauthorization: {claim}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{event}",
        event.len()
    )
}

/// The `Authorization` header ("Create a signed AWS API request" in the IAM User Guide).
fn sign(path: &str, host: &str, time: &str, event: &[u8], secret: &str) -> String {
    const SIGNED: &str = "host;x-amz-date";
    let headers = format!("host:{host}\nx-amz-date:{time}\n");
    let hash = hex::encode(Sha256::digest(event));
    let canonical = ["POST", path, "", &headers, SIGNED, &hash].join("\n");
    let scope = format!("{}/us-east-1/lambda/aws4_request", &time[..8]);
    let hash = hex::encode(Sha256::digest(canonical));
    let text = ["AWS4-HMAC-SHA256", time, &scope, &hash].join("\n");
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/').chain([text.as_str()]) {
        key = hmac(&key, part.as_bytes());
    }
    let signature = hex::encode(key);
    format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={SIGNED}, Signature={signature}"
    )
}

/// RFC 2104, of keys that are no longer than a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().to_vec()
}
