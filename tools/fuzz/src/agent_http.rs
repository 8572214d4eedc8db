//! The Lambda Runtime API: what a function's client sends the agent over HTTP, in pieces.

use crate::Seeds;
use crate::input::{Input, Output};

pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let invoke_every = usize::from(input.u8());
    let answers = calve_agent::fuzzing::runtime_api(input.pieces(), invoke_every);
    assert!(answers.is_empty() || answers.starts_with(b"HTTP/1.1 "), "an answer that is none");
}

const NEXT: &[u8] = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n";

pub fn seeds() -> Seeds {
    let script = |pieces: &[&[u8]]| {
        pieces.iter().fold(Output::new().u8(2), |out, piece| out.bytes(piece)).done()
    };
    let post = |path: &str, headers: &str, body: &str| {
        format!("POST /2018-06-01/runtime/{path} HTTP/1.1\r\n{headers}\r\n\r\n{body}").into_bytes()
    };
    let length =
        |path: &str, body: &str| post(path, &format!("Content-Length: {}", body.len()), body);
    let chunked = post(
        "invocation/r-2/response",
        "Transfer-Encoding: chunked",
        "4;x=1\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\nTrailer: 1\r\n\r\n",
    );
    let error = length("invocation/r-2/error", "{\"errorType\":\"E\",\"errorMessage\":\"m\"}");
    let restore = b"GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n\r\n";
    vec![
        ("next", script(&[NEXT, &NEXT[..10], &NEXT[10..]])),
        ("response", script(&[NEXT, &length("invocation/r-2/response", "{}"), NEXT])),
        ("chunked", script(&[NEXT, &chunked[..60], &chunked[60..], NEXT])),
        ("error", script(&[NEXT, &error, NEXT])),
        ("init-error", script(&[&length("init/error", "{\"errorType\":\"E\"}")])),
        ("restore", script(&[restore, NEXT, &length("restore/error", "{}")])),
        (
            "expect",
            script(&[&post("init/error", "Expect: 100-continue\r\nContent-Length: 2", ""), b"{}"]),
        ),
        (
            "close",
            script(&[
                b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                b"PUT / HTTP/1.1\r\nConnection: close\r\n\r\n",
            ]),
        ),
    ]
}
