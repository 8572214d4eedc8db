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

#[test]
fn an_invocation_is_one_frame_of_header_line_and_event() {
    let (mut link, mut shim) = link();
    link.send(Request::AfterRestore);
    link.invoke(&Invocation {
        request_id: "r-1".into(),
        event: b"{\"a\":\n1}".into(),
        deadline_epoch_ms: 5,
        function_arn: "arn".into(),
        stream: false,
        trace_id: String::new(),
    });
    link.flush(&Poll::new().unwrap()).unwrap();
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
fn a_frame_over_its_bound_breaks_the_runtime_before_it_is_read() {
    for header in [*b"V\x01\x00\x60\x00", *b"X\x01\x00\x10\x00", *b"?\0\0\0\0", *b"F\0\0\0\0"] {
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
