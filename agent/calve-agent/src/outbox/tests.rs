use calve_proto::frame::FrameReader;

use super::*;

/// Takes at most `room` bytes, then would block.
struct Narrow {
    taken: Vec<u8>,
    room: usize,
}

impl Write for Narrow {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = data.len().min(self.room - self.taken.len());
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.taken.extend_from_slice(&data[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_large_result_passes_a_narrow_stream_in_a_small_buffer() {
    let result: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    let mut outbox = Outbox::default();
    let mut stream = Narrow { taken: Vec::new(), room: 0 };
    outbox.push_result("r".into(), result.clone()).unwrap();
    while outbox.wants_to_send() {
        stream.room += 10_000;
        outbox.flush(&mut stream).unwrap();
        assert!(outbox.buf.len() < 3 * MAX_CHUNK);
    }
    let mut reader = FrameReader::new(&stream.taken[..]);
    let mut got = Vec::new();
    loop {
        match reader.read::<wire::GuestFrame>().unwrap().body.unwrap() {
            Body::ResultChunk(chunk) => got.extend(chunk.data),
            Body::InvokeDone(wire::InvokeDone { outcome: Some(Outcome::Success(s)), .. }) => {
                got.extend(s.tail);
                assert_eq!(s.size, result.len() as u64);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(got == result);
}

#[test]
fn a_lazy_frame_waits_for_company() {
    let mut outbox = Outbox::default();
    let mut stream = Narrow { taken: Vec::new(), room: 1_000 };
    outbox.push_lazy(Body::Thawed(wire::Thawed {})).unwrap();
    outbox.flush(&mut stream).unwrap();
    assert!(stream.taken.is_empty());
    outbox.push(Body::Pong(wire::Pong { nonce: 7 })).unwrap();
    outbox.flush(&mut stream).unwrap();
    let mut reader = FrameReader::new(&stream.taken[..]);
    assert_eq!(
        reader.read::<wire::GuestFrame>().unwrap().body,
        Some(Body::Thawed(wire::Thawed {}))
    );
    assert!(!outbox.wants_to_send());
}

#[test]
fn logs_have_room_only_while_little_is_queued() {
    let mut outbox = Outbox::default();
    while outbox.has_room() {
        let log = wire::Log { stream: 1, data: vec![b'x'; MAX_CHUNK] };
        outbox.push(Body::Log(log)).unwrap();
    }
    assert!(outbox.queued() <= LOG_ROOM + MAX_CHUNK + 64);
}
