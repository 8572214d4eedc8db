use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::wire::{GuestFrame, HostFrame, guest_frame, host_frame};

fn log(data: Vec<u8>) -> GuestFrame {
    let log = crate::wire::Log { stream: 1, data };
    GuestFrame { body: Some(guest_frame::Body::Log(log)) }
}

fn ping(nonce: u64) -> HostFrame {
    HostFrame { body: Some(host_frame::Body::Ping(crate::wire::Ping { nonce })) }
}

#[test]
fn the_wire_format_is_pinned() {
    // Length 3; field 7 (ping), 1 byte... as any protobuf library writes it with its "delimited" call.
    let mut bytes = Vec::new();
    encode(&ping(300), &mut bytes).unwrap();
    assert_eq!(bytes, [5, 0x3a, 3, 8, 0xac, 2]);
    // The decoder takes a frame apart that was put together by hand: two bytes of log on stderr.
    let mut decoder = FrameDecoder::default();
    decoder.feed(&[8, 0x32, 6, 8, 2, 0x12, 2, b'h', b'i']);
    let (frame, _) = decoder.next::<GuestFrame>().unwrap().unwrap();
    let Some(guest_frame::Body::Log(log)) = frame.body else { panic!("{frame:?}") };
    assert_eq!((log.stream, log.data), (2, b"hi".to_vec()));
}

#[test]
fn a_length_over_the_bound_is_refused_before_its_bytes_come() {
    let mut prefix = Vec::new();
    prost::encode_length_delimiter(MAX_FRAME + 1, &mut prefix).unwrap();
    for bytes in [&prefix[..], &[0xff, 0xff, 0xff, 0xff], &[0x80, 0x80, 0x80, 0x80, 0x80, 0]] {
        let mut decoder = FrameDecoder::default();
        decoder.feed(bytes);
        assert!(matches!(decoder.next::<GuestFrame>(), Err(FrameError::TooLong)), "{bytes:?}");
    }
    let mut decoder = FrameDecoder::default();
    decoder.feed(&[0xff, 0xff]);
    assert!(decoder.next::<GuestFrame>().unwrap().is_none());
    assert!(!decoder.is_between_frames());
}

#[test]
fn what_does_not_fit_a_frame_is_not_sent() {
    let mut out = Vec::new();
    let error = encode(&log(vec![0; MAX_FRAME]), &mut out).unwrap_err();
    assert!(matches!(error, FrameError::Unsendable(_)));
    assert!(out.is_empty());
}

#[test]
fn an_end_inside_a_frame_is_told_from_one_between_frames() {
    let mut bytes = Vec::new();
    FrameWriter::new(&mut bytes).write(&ping(1)).unwrap();
    let mut reader = FrameReader::new(&bytes[..]);
    assert_eq!(reader.read::<HostFrame>().unwrap(), ping(1));
    assert!(matches!(reader.read::<HostFrame>(), Err(FrameError::Closed)));
    let mut reader = FrameReader::new(&bytes[..bytes.len() - 1]);
    assert!(matches!(reader.read::<HostFrame>(), Err(FrameError::Truncated)));
}

#[test]
fn the_first_byte_of_a_frame_sets_its_time() {
    let mut bytes = Vec::new();
    encode(&ping(1), &mut bytes).unwrap();
    let mut decoder = FrameDecoder::default();
    let before = std::time::Instant::now();
    decoder.feed(&bytes[..1]);
    let after_first = std::time::Instant::now();
    decoder.feed(&bytes[1..]);
    let (_, arrived) = decoder.next::<HostFrame>().unwrap().unwrap();
    assert!(before <= arrived && arrived <= after_first);
}

proptest! {
    #[test]
    fn frames_survive_any_fragmentation(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3_000), 1..8),
        piece in 1_usize..5_000,
    ) {
        let mut bytes = Vec::new();
        for payload in &payloads {
            encode(&log(payload.clone()), &mut bytes).unwrap();
        }
        let (mut decoder, mut got) = (FrameDecoder::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            decoder.feed(piece);
            while let Some((frame, _)) = decoder.next::<GuestFrame>().unwrap() {
                got.push(frame);
            }
        }
        prop_assert!(decoder.is_between_frames());
        prop_assert_eq!(got, payloads.into_iter().map(log).collect::<Vec<_>>());
    }

    #[test]
    fn hostile_bytes_never_panic_and_never_grow(bytes in proptest::collection::vec(any::<u8>(), 0..4_000)) {
        let mut decoder = FrameDecoder::default();
        decoder.feed(&bytes);
        while let Ok(Some((frame, _))) = decoder.next::<GuestFrame>() {
            prop_assert!(frame.encoded_len() <= MAX_FRAME);
        }
    }

    #[test]
    fn a_flipped_bit_never_panics(bit: usize, payload in proptest::collection::vec(any::<u8>(), 90)) {
        let mut bytes = Vec::new();
        encode(&log(payload), &mut bytes).unwrap();
        let bit = bit % (8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut decoder = FrameDecoder::default();
        decoder.feed(&bytes);
        let _ = decoder.next::<GuestFrame>();
    }
}
