//! Frames of the host to the agent, in pieces. What the agent answers are frames of the protocol, each within its
//! bounds.

use calve_proto::frame::{self, FrameDecoder};
use calve_proto::wire::host_frame::Body;
use calve_proto::wire::{self, GuestFrame, HostFrame};
use prost::Message;

use crate::Seeds;
use crate::input::{Input, Output};

pub fn fuzz(data: &[u8]) {
    let answers = calve_agent::fuzzing::host_frames(Input::new(data).pieces());
    let mut decoder = FrameDecoder::default();
    decoder.feed(&answers);
    while let Some((answer, _)) = decoder.next::<GuestFrame>().expect("the agent sends frames") {
        assert!(answer.body.is_some(), "an empty frame");
    }
    round_trip(data);
}

/// What decodes encodes to what decodes to the same.
fn round_trip(data: &[u8]) {
    let Ok(frame) = HostFrame::decode(data) else { return };
    let again = frame.encode_to_vec();
    assert_eq!(HostFrame::decode(&again[..]).expect("what was encoded"), frame);
}

pub fn seeds() -> Seeds {
    let script = |frames: &[Body]| {
        let mut out = Output::new();
        for body in frames {
            let mut bytes = Vec::new();
            frame::encode(&HostFrame { body: Some(body.clone()) }, &mut bytes).expect("a frame");
            out = out.bytes(&bytes);
        }
        out.done()
    };
    let hello = |change: &dyn Fn(&mut wire::Hello)| {
        let protocol_version = calve_proto::limits::PROTOCOL_VERSION;
        let mut hello = wire::Hello { protocol_version, ..wire::Hello::default() };
        change(&mut hello);
        Body::Hello(hello)
    };
    let configure = wire::Configure {
        runtime: "python3.11".into(),
        handler: "app.handler".into(),
        env: vec![wire::EnvVar { name: "A".into(), value: "b".into() }],
        ..wire::Configure::default()
    };
    let invoke = wire::Invoke {
        request_id: "r-1".into(),
        body: b"{}".to_vec(),
        body_size: 2,
        ..wire::Invoke::default()
    };
    let facts = wire::ThawFacts {
        seed: vec![7; 32],
        wall_clock_ns: 1_800_000_000_000_000_000,
        machine_id: "m-1".into(),
        hostname: "clone".into(),
        ..wire::ThawFacts::default()
    };
    let preload = wire::Preload { runtime: "node20".into(), ..wire::Preload::default() };
    let long = wire::Invoke { body: Vec::new(), ..invoke.clone() };
    let chunk = wire::InvokeChunk { request_id: "r-1".into(), data: b"{}".to_vec() };
    let freeze = wire::PrepareFreeze { timeout_ms: 100, keep_memory: true };
    let plain = hello(&|_| {});
    vec![
        ("ping", script(&[Body::Ping(wire::Ping { nonce: 7 }), plain.clone()])),
        ("configure", script(&[plain.clone(), Body::Configure(configure.clone())])),
        (
            "call",
            script(&[
                hello(&|hello| hello.configure = Some(configure.clone())),
                Body::Invoke(invoke.clone()),
                Body::Cancel(wire::Cancel { request_id: "r-1".into() }),
            ]),
        ),
        (
            "call-in-chunks",
            script(&[
                hello(&|hello| hello.configure = Some(configure.clone())),
                Body::Invoke(long),
                Body::InvokeChunk(chunk),
            ]),
        ),
        (
            "thaw",
            script(&[hello(&|hello| {
                hello.thaw = Some(facts.clone());
                hello.invoke = Some(invoke.clone());
            })]),
        ),
        ("preload", script(&[hello(&|hello| hello.preload = Some(preload.clone()))])),
        ("freeze", script(&[plain, Body::PrepareFreeze(freeze)])),
        ("old", script(&[Body::Hello(wire::Hello::default())])),
    ]
}
