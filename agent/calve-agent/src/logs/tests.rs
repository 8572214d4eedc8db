use std::io::Write;

use calve_proto::frame::FrameReader;
use calve_proto::wire::GuestFrame;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::*;

fn pump(limit: u64) -> (LogPump, File, File) {
    let (out_r, out_w) = pipe2(OFlag::O_NONBLOCK).unwrap();
    let (err_r, err_w) = pipe2(OFlag::O_NONBLOCK).unwrap();
    (LogPump::new(out_r, err_r, limit), out_w.into(), err_w.into())
}

fn frames(mut outbox: Outbox) -> Vec<Body> {
    let mut bytes = Vec::new();
    outbox.flush(&mut bytes).unwrap();
    let mut reader = FrameReader::new(&bytes[..]);
    std::iter::from_fn(|| reader.read::<GuestFrame>().ok()).map(|f| f.body.unwrap()).collect()
}

#[test]
fn both_pipes_are_drained_under_their_names() {
    let (mut pump, mut out, mut err) = pump(0);
    out.write_all(b"hello").unwrap();
    err.write_all(b"oops").unwrap();
    let mut outbox = Outbox::default();
    pump.drain(&mut outbox);
    let log =
        |stream: Stream, data: &[u8]| Body::Log(Log { stream: stream.into(), data: data.into() });
    assert_eq!(frames(outbox), [log(Stream::Stdout, b"hello"), log(Stream::Stderr, b"oops")]);
}

#[test]
fn past_the_limit_bytes_are_dropped_and_counted_once() {
    let (mut pump, mut out, mut err) = pump(4);
    out.write_all(b"hello").unwrap();
    err.write_all(b"oops").unwrap();
    let mut outbox = Outbox::default();
    pump.drain(&mut outbox);
    pump.drain(&mut outbox);
    let kept = Body::Log(Log { stream: Stream::Stdout.into(), data: b"hell".into() });
    assert_eq!(frames(outbox), [kept, Body::LogTruncated(LogTruncated { dropped: 5 })]);
    // The next call has its own account.
    pump.begin();
    out.write_all(b"more").unwrap();
    let mut outbox = Outbox::default();
    pump.drain(&mut outbox);
    assert_eq!(frames(outbox).len(), 1);
}

#[test]
fn the_end_of_a_pipe_is_no_event() {
    let (mut pump, out, _err) = pump(0);
    drop(out);
    let poll = Poll::new().unwrap();
    pump.watch(&poll, true).unwrap();
    assert_eq!(poll.wait(None).unwrap(), [Token::Stdout]);
    pump.read(Token::Stdout, &mut Outbox::default());
    assert!(poll.wait(Some(std::time::Instant::now())).unwrap().is_empty());
}
