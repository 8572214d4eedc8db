use proptest::prelude::*;

use super::*;

fn link() -> (ShimLink, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ShimLink::new(ours), theirs)
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&[kind][..], &len, payload].concat()
}

fn invocation(stream: bool) -> Invocation {
    Invocation {
        request_id: "r-1".into(),
        event: b"1".into(),
        deadline_epoch_ms: 5,
        function_arn: "arn".into(),
        stream,
        trace_id: String::new(),
    }
}

/// What a link says to these frames, which come at once.
fn heard(stream: bool, frames: &[(u8, &[u8])]) -> Vec<RuntimeEvent> {
    let (mut link, mut shim) = link();
    link.invoke(&invocation(stream));
    let bytes: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
    shim.write_all(&bytes).unwrap();
    let mut events = Vec::new();
    link.on_readable(&mut events);
    events
}

#[test]
fn an_invocation_is_one_frame_of_header_line_and_event() {
    let (mut link, mut shim) = link();
    link.send(Request::AfterRestore);
    link.invoke(&Invocation {
        request_id: "r-1".into(),
        event: b"{\"a\":\n1}".into(),
        ..invocation(false)
    });
    link.flush(&Poll::new().unwrap(), true).unwrap();
    drop(link);
    let mut bytes = Vec::new();
    shim.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes[..5], *b"T\0\0\0\0");
    assert_eq!(bytes[5], b'I');
    let payload = &bytes[10..];
    assert_eq!(bytes[6..10], u32::try_from(payload.len()).unwrap().to_le_bytes());
    let at = payload.iter().position(|&b| b == b'\n').unwrap();
    let header: serde_json::Value = serde_json::from_slice(&payload[..at]).unwrap();
    assert_eq!(header["requestId"], "r-1");
    assert_eq!(header["deadlineMs"], 5);
    assert_eq!(payload[at + 1..], *b"{\"a\":\n1}");
}

#[test]
fn frames_that_come_in_pieces_are_put_together() {
    let (mut link, mut shim) = link();
    let value = vec![b'7'; 100_000];
    let bytes = [frame(b'R', b""), frame(b'V', &value), frame(b'F', b"12")].concat();
    let mut events = Vec::new();
    for piece in bytes.chunks(777) {
        shim.write_all(piece).unwrap();
        link.on_readable(&mut events);
    }
    let [
        RuntimeEvent::Ready,
        RuntimeEvent::Result(got),
        RuntimeEvent::HooksRan { after_restore: 12 },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert!(*got == value);
}

#[test]
fn parts_of_a_stream_go_on_as_they_come_or_are_collected() {
    let frames: [(u8, &[u8]); 4] = [(b'B', b"text/html"), (b'P', b"[1"), (b'P', b"]"), (b'W', b"")];
    let events = heard(true, &frames);
    let [RuntimeEvent::Part { data, content_type }, RuntimeEvent::Streamed] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((&data[..], content_type.as_str()), (&b"[1]"[..], "text/html"));
    let events = heard(false, &frames);
    assert!(matches!(&events[..], [RuntimeEvent::Result(all)] if all == b"[1]"), "{events:?}");
    let events = heard(false, &frames[..2]);
    assert!(events.is_empty(), "{events:?}");
    let events = heard(false, &[frames[0], frames[1], frames[3]]);
    assert!(matches!(&events[..], [RuntimeEvent::Failed(_)]), "{events:?}");
    let long = "x".repeat(300);
    for said in [&b""[..], b"a\nb", b"\xff", long.as_bytes()] {
        let events = heard(true, &[(b'B', said), (b'P', b"1")]);
        let [RuntimeEvent::Part { content_type, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!(content_type, "application/octet-stream");
    }
    // After an error comes another result, if any.
    let events = heard(true, &[frames[0], (b'X', b"{}"), frames[0], frames[3]]);
    let [RuntimeEvent::Failed(_), RuntimeEvent::Streamed] = &events[..] else {
        panic!("{events:?}")
    };
}

#[test]
fn frames_that_make_no_stream_break_the_runtime() {
    let begin: (u8, &[u8]) = (b'B', b"a/b");
    let (part, end, value): (_, _, (u8, &[u8])) =
        ((b'P', &b"1"[..]), (b'W', &b""[..]), (b'V', b"1"));
    let empty: (u8, &[u8]) = (b'P', b"");
    for frames in [
        &[part][..],
        &[end],
        &[begin, begin],
        &[begin, value],
        &[begin, empty],
        &[begin, end, part],
    ] {
        let events = heard(true, frames);
        assert!(matches!(events.last(), Some(RuntimeEvent::Broken(_))), "{events:?}");
    }
}

#[test]
fn a_stream_is_read_a_little_at_a_time_and_has_an_end() {
    let (mut link, mut shim) = link();
    link.invoke(&invocation(false));
    let mut events = Vec::new();
    shim.write_all(&frame(b'B', b"a/b")).unwrap();
    let part = frame(b'P', &vec![b'1'; MAX_CHUNK]);
    for _ in 0..MAX_BODY / MAX_CHUNK {
        shim.write_all(&part).unwrap();
        link.on_readable(&mut events);
    }
    assert!(events.is_empty(), "{events:?}");
    shim.write_all(&frame(b'P', b"1")).unwrap();
    link.on_readable(&mut events);
    assert!(matches!(events[..], [RuntimeEvent::Broken(_)]), "{events:?}");

    let (mut link, mut shim) = self::link();
    link.invoke(&invocation(true));
    shim.write_all(&frame(b'B', b"a/b")).unwrap();
    shim.write_all(&part).unwrap();
    shim.write_all(&part).unwrap();
    for _ in 0..2 {
        let mut events = Vec::new();
        link.on_readable(&mut events);
        let [RuntimeEvent::Part { data, .. }] = &events[..] else { panic!("{events:?}") };
        assert!(data.len() == MAX_CHUNK, "{}", data.len());
    }
}

#[test]
fn a_stream_waits_while_there_is_no_room() {
    let (mut link, mut shim) = link();
    let poll = Poll::new().unwrap();
    link.invoke(&invocation(true));
    shim.write_all(&frame(b'B', b"a/b")).unwrap();
    link.on_readable(&mut Vec::new());
    shim.write_all(&frame(b'P', b"1")).unwrap();
    let mut ready = |room| {
        link.flush(&poll, room).unwrap();
        poll.wait(Some(std::time::Instant::now())).unwrap().contains(&Token::Shim)
    };
    assert!(!ready(false));
    assert!(ready(true));
}

#[test]
fn a_frame_over_its_bound_breaks_the_runtime_before_it_is_read() {
    for header in [
        *b"V\x01\x00\x60\x00",
        *b"P\x01\x00\x01\x00",
        *b"X\x01\x00\x10\x00",
        *b"?\0\0\0\0",
        *b"F\0\0\0\0",
    ] {
        let (mut link, mut shim) = link();
        shim.write_all(&header).unwrap();
        let mut events = Vec::new();
        link.on_readable(&mut events);
        assert!(matches!(events[..], [RuntimeEvent::Broken(_)]), "{events:?}");
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        let (mut link, mut shim) = link();
        shim.write_all(&bytes).unwrap();
        drop(shim);
        let mut events = Vec::new();
        link.on_readable(&mut events);
        prop_assert!(link.input.len() <= bytes.len());
    }
}
