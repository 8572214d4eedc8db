//! The byte string against a model: a list of the addresses of its bytes.
#![allow(clippy::cast_possible_truncation)] // numbers of a test are small

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use vm_memory::Bytes;

use super::*;

/// Two regions side by side, then a hole, then a third.
const BOUNDARY: u64 = 0x1000;
const HOLE: u64 = 0x3000;
const AFTER: u64 = 0x4000;
const END: u64 = 0x5000;

fn memory() -> Arc<GuestMemory> {
    let regions = [(0, 0x1000), (BOUNDARY, 0x2000), (AFTER, 0x1000)];
    let regions = regions.map(|(at, len)| (GuestAddress(at), len));
    Arc::new(GuestMemory::from_ranges(&regions).unwrap())
}

fn lies_in_memory(at: u64, len: u64) -> bool {
    let end = at.saturating_add(len);
    end <= HOLE || (at >= AFTER && end <= END)
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64, usize),
    Truncate(usize),
    Advance(usize),
    Read(usize),
    Write(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let near = prop_oneof![0u64..0x5100, Just(BOUNDARY - 3), Just(HOLE - 1), Just(END - 1)];
    let step = prop_oneof![
        3 => (near, 1usize..200).prop_map(|(at, len)| Step::Push(at, len)),
        1 => (0usize..600).prop_map(Step::Truncate),
        1 => (0usize..100).prop_map(Step::Advance),
        2 => (0usize..300).prop_map(Step::Read),
        2 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Step::Write),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn behaves_as_a_byte_string(steps in steps()) {
        let memory = memory();
        let mut scatter = Scatter::new(Arc::clone(&memory), 4);
        let mut model: Vec<u64> = Vec::new();
        let mut content: Vec<u8> = (0..END).map(|at| (at * 7 + at / 256) as u8).collect();
        for (at, len) in [(0, HOLE), (AFTER, END - AFTER)] {
            let bytes = &content[at as usize..][..len as usize];
            memory.write_slice(bytes, GuestAddress(at)).unwrap();
        }
        for step in steps {
            match step {
                Step::Push(at, len) if lies_in_memory(at, len as u64) => {
                    scatter.push(GuestAddress(at), len).unwrap();
                    model.extend(at..at + len as u64);
                }
                Step::Push(at, len) => {
                    prop_assert!(scatter.push(GuestAddress(at), len).is_err());
                    // What was pushed before the failure is nobody's business: start over.
                    scatter.clear();
                    model.clear();
                }
                Step::Truncate(len) => {
                    scatter.truncate(len);
                    model.truncate(len);
                }
                Step::Advance(count) => {
                    scatter.advance(count);
                    model.drain(..count.min(model.len()));
                }
                Step::Read(count) => {
                    let mut buffer = vec![0; count];
                    let read = scatter.read(&mut buffer);
                    let expected: Vec<_> =
                        model.drain(..count.min(model.len())).map(|at| content[at as usize]).collect();
                    prop_assert_eq!(&buffer[..read], &expected[..]);
                }
                Step::Write(bytes) => {
                    let written = scatter.write(&bytes);
                    prop_assert_eq!(written, bytes.len().min(model.len()));
                    for (at, byte) in model.drain(..written).zip(&bytes) {
                        content[at as usize] = *byte;
                    }
                }
            }
            prop_assert_eq!(scatter.len(), model.len());
        }
        for (at, len) in [(0, HOLE), (AFTER, END - AFTER)] {
            let mut bytes = vec![0; len as usize];
            memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
            prop_assert!(bytes == content[at as usize..][..len as usize]);
        }
    }
}

#[test]
fn addresses_at_the_end_of_the_world_are_refused() {
    let mut scatter = Scatter::new(memory(), 4);
    for (at, len) in [(u64::MAX, 1), (u64::MAX, usize::MAX), (0, usize::MAX), (END, 1), (HOLE, 1)] {
        assert_eq!(scatter.push(GuestAddress(at), len), Err(OutOfMemory), "{at:#x}+{len:#x}");
        scatter.clear();
    }
    assert_eq!(scatter.push(GuestAddress(u64::MAX), 0), Ok(()));
    assert_eq!(scatter.len(), 0);
}

#[test]
fn moves_between_pieces_and_files() {
    let memory = memory();
    let data: Vec<u8> = (0..600u32).map(|i| (i * 3) as u8).collect();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&data, 0).unwrap();
    let pieces = |scatter: &mut Scatter| {
        scatter.clear();
        for (at, len) in [(BOUNDARY - 100, 200), (AFTER, 1), (5, 99)] {
            scatter.push(GuestAddress(at), len).unwrap();
        }
    };
    let mut scatter = Scatter::new(memory, 4);
    pieces(&mut scatter);
    scatter.fill_from(&file, 200).unwrap();
    assert_eq!(scatter.len(), 0);
    pieces(&mut scatter);
    scatter.drain_to(&file, 1000).unwrap();
    let mut back = [0; 300];
    file.read_exact_at(&mut back, 1000).unwrap();
    assert_eq!(back[..], data[200..500]);
    pieces(&mut scatter);
    let error = scatter.fill_from(&file, 1200).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    pieces(&mut scatter);
    assert!(scatter.fill_from(&file, u64::MAX).is_err());
}

#[test]
fn moves_between_pieces_and_streams() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let memory = memory();
    let mut scatter = Scatter::new(Arc::clone(&memory), 4);
    let fill = |scatter: &mut Scatter| {
        scatter.clear();
        scatter.push(GuestAddress(BOUNDARY - 2), 4).unwrap();
        scatter.push(GuestAddress(AFTER), 4).unwrap();
    };
    fill(&mut scatter);
    let nothing = scatter.receive(&theirs).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    (&ours).write_all(b"abcdef").unwrap();
    assert_eq!(scatter.receive(&theirs).unwrap(), Received { count: 6, ancillary: false });
    assert_eq!(scatter.len(), 8, "nothing was cut off");
    let mut bytes = [0; 8];
    scatter.read(&mut bytes);
    assert_eq!(&bytes, b"abcdef\0\0");
    fill(&mut scatter);
    assert_eq!(scatter.send(&theirs).unwrap(), 8);
    assert_eq!(scatter.len(), 0);
    (&ours).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"abcdef\0\0");
    drop(ours);
    fill(&mut scatter);
    assert_eq!(scatter.send(&theirs).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
