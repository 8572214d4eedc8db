//! The stream survives callers that died in the middle, and hostile lengths.

use super::*;

fn call(nonce: u8, arg: &str) -> Call {
    let request = Request {
        argv: vec!["echo".into(), arg.into()],
        env: vec![("K".into(), "v".into())],
        cwd: "/".into(),
        fresh_files: true,
    };
    Call { nonce: [nonce; 16], request }
}

fn frames(reader: &mut AnswerReader) -> Result<Vec<String>, Error> {
    let mut seen = Vec::new();
    reader.frames(|frame| {
        seen.push(format!("{frame:?}"));
        Ok::<_, Error>(())
    })?;
    Ok(seen)
}

#[test]
fn a_call_arrives_whole_in_any_slicing() {
    let bytes = call(7, "hello").encode().unwrap();
    for size in [1, 2, 15, 16, 17, 33, bytes.len()] {
        let mut reader = CallReader::default();
        let mut taken = None;
        for piece in bytes.chunks(size) {
            assert_eq!(taken, None, "complete before its last byte");
            reader.push(piece);
            taken = reader.take().unwrap();
        }
        assert_eq!(taken, Some(call(7, "hello")), "slices of {size}");
    }
}

#[test]
fn a_new_mark_discards_a_call_cut_short() {
    let cut = call(1, "lost").encode().unwrap();
    for end in 0..cut.len() {
        let mut reader = CallReader::default();
        reader.push(&cut[..end]);
        reader.push(&call(2, "found").encode().unwrap());
        assert_eq!(reader.take().unwrap(), Some(call(2, "found")), "cut at {end}");
        assert_eq!(reader.take().unwrap(), None);
    }
}

#[test]
fn a_call_is_found_behind_noise_and_noise_is_not_kept() {
    let mut reader = CallReader::default();
    for _ in 0..1000 {
        reader.push(&[MARK[0]; 4096]);
    }
    assert!(reader.buffer.len() < MARK.len());
    reader.push(&call(3, "x").encode().unwrap());
    assert_eq!(reader.take().unwrap(), Some(call(3, "x")));
}

#[test]
fn the_length_of_a_call_is_bounded() {
    let mut bytes = opening(&[1; 16]);
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    let mut reader = CallReader::default();
    reader.push(&bytes);
    assert_eq!(reader.take(), Err(Error::RequestTooLong(u32::MAX as usize)));
    assert_eq!(reader.take(), Ok(None), "the bad call is gone");

    let long = "x".repeat(REQUEST_LIMIT);
    assert!(matches!(call(1, &long).encode(), Err(Error::RequestTooLong(_))));
}

#[test]
fn garbage_in_place_of_a_request_is_an_error_not_a_panic() {
    let mut bytes = opening(&[1; 16]);
    bytes.extend_from_slice(&3_u32.to_le_bytes());
    bytes.extend_from_slice(&[0xff; 3]);
    let mut reader = CallReader::default();
    reader.push(&bytes);
    assert!(matches!(reader.take(), Err(Error::Request(_))));
}

#[test]
fn an_answer_begins_at_its_own_nonce() {
    let mut stream = Frame::Stdout(b"of a caller that died").encode();
    stream.extend(opening(&[8; 16]));
    stream.extend(Frame::Exit(3).encode());
    stream.extend(opening(&[9; 16]));
    stream.extend(Frame::Stdout(b"mine").encode());
    stream.extend(Frame::Stderr(b"").encode());
    stream.extend(Frame::Exit(0).encode());
    for size in [1, 7, 32, stream.len()] {
        let mut reader = AnswerReader::new(&[9; 16]);
        let mut seen = Vec::new();
        for piece in stream.chunks(size) {
            reader.push(piece);
            seen.extend(frames(&mut reader).unwrap());
        }
        assert_eq!(seen, ["Stdout([109, 105, 110, 101])", "Stderr([])", "Exit(0)"]);
    }
}

#[test]
fn bad_frames_are_refused() {
    for (bytes, error) in [
        (vec![1, 255, 255, 255, 255], Error::FrameTooLong(u32::MAX as usize)),
        (vec![9, 0, 0, 0, 0], Error::Frame(9)),
        (vec![3, 2, 0, 0, 0, 1, 1], Error::Frame(3)),
    ] {
        let mut reader = AnswerReader::new(&[1; 16]);
        reader.push(&opening(&[1; 16]));
        reader.push(&bytes);
        assert_eq!(frames(&mut reader), Err(error));
    }
}
