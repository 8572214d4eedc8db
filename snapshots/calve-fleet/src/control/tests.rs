use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use calve_vmm::Shape;
use nix::sys::socket::{MsgFlags, sendmsg};
use proptest::prelude::*;

use super::*;

fn send_raw(socket: &Socket, bytes: &[u8]) {
    let fd = socket.as_fd().as_raw_fd();
    sendmsg::<()>(fd, &[IoSlice::new(bytes)], &[], MsgFlags::empty(), None).unwrap();
}

fn thaw() -> Command {
    let disk = |id: &str| DiskSpec { writable: false, id: id.into(), room: 0 };
    Command::Thaw(Thaw {
        state_len: 10_000,
        layers: 1,
        pages: Pages::Ready,
        huge_pages: false,
        attach: Attach {
            disks: vec![disk("root"), disk("code")],
            cid: 3,
            streams: vec![1024],
            host_ports: vec![1025],
            console: true,
            ..Attach::default()
        },
    })
}

#[test]
fn a_message_arrives_with_its_files() {
    let (a, b) = Socket::pair().unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    a.send(&thaw(), &[theirs.as_fd()]).unwrap();
    drop(theirs);
    let Received { message, fds } = b.receive::<Command>().unwrap();
    assert_eq!(message, thaw());
    let mut files = Files::new(fds);
    files.stream().unwrap().write_all(b"hello").unwrap();
    files.finish().unwrap();
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn the_end_of_a_peer_comes_after_its_last_message() {
    let (a, b) = Socket::pair().unwrap();
    a.send(&Report::Running, &[]).unwrap();
    drop(a);
    assert_eq!(b.receive::<Report>().unwrap().message, Report::Running);
    assert!(matches!(b.receive::<Report>(), Err(ControlError::Closed)));
    assert!(matches!(b.send(&Command::Pause, &[]), Err(ControlError::Closed)));
}

/// The kernel reports such an end before what was sent, once.
#[test]
fn so_does_that_of_a_peer_that_has_not_read_everything() {
    let (a, b) = Socket::pair().unwrap();
    a.send(&thaw(), &[]).unwrap();
    b.send(&thaw(), &[]).unwrap();
    drop(b);
    a.receive::<Command>().unwrap();
    assert!(matches!(a.receive::<Command>(), Err(ControlError::Closed)));
}

#[test]
fn nothing_waits_for_a_peer_that_does_not_read() {
    let (a, _b) = Socket::pair().unwrap();
    let full = (0..100_000).find_map(|_| a.send(&Command::Stats, &[]).err());
    assert!(matches!(full, Some(ControlError::Full)));
}

#[test]
fn without_a_message_try_receive_says_so() {
    let (_a, b) = Socket::pair().unwrap();
    assert!(b.try_receive::<Report>().unwrap().is_none());
}

#[test]
fn an_oversized_message_is_refused_on_both_sides() {
    let (a, b) = Socket::pair().unwrap();
    let reason = "x".repeat(MAX_MESSAGE);
    let report = Report::Refused(Refusal { stage: Stage::Boot, reason });
    assert!(matches!(a.send(&report, &[]), Err(ControlError::TooLong)));
    send_raw(&a, &[0; MAX_MESSAGE + 1]);
    assert!(matches!(b.receive::<Report>(), Err(ControlError::TooLong)));
}

#[test]
fn too_many_descriptors_are_refused_and_none_leaks() {
    let (a, b) = Socket::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let fds = vec![null.as_fd(); MAX_FDS];
    a.send(&Report::Running, &fds).unwrap();
    assert_eq!(b.receive::<Report>().unwrap().fds.len(), MAX_FDS);

    let raw = vec![null.as_raw_fd(); 253];
    let rights = [nix::sys::socket::ControlMessage::ScmRights(&raw)];
    let bytes = postcard::to_stdvec(&Report::Running).unwrap();
    let before = open_files();
    let fd = a.as_fd().as_raw_fd();
    sendmsg::<()>(fd, &[IoSlice::new(&bytes)], &rights, MsgFlags::empty(), None).unwrap();
    assert!(b.receive::<Report>().is_err());
    // Other tests of this process open files, too: allow for them, but not for a leak of 253.
    assert!(open_files() < before + 200);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn leftovers_are_refused() {
    let (a, b) = Socket::pair().unwrap();
    let mut bytes = postcard::to_stdvec(&Report::Paused).unwrap();
    bytes.push(0);
    send_raw(&a, &bytes);
    assert!(matches!(b.receive::<Report>(), Err(ControlError::Leftover)));
}

#[test]
fn descriptors_are_counted() {
    let mut files = Files::new(Vec::new());
    assert!(matches!(files.file(), Err(ControlError::Descriptors { found: 0, wanted: 1 })));
    let null = File::open("/dev/null").unwrap();
    let files = Files::new(vec![null.into()]);
    assert!(matches!(files.finish(), Err(ControlError::Descriptors { found: 1, wanted: 0 })));
}

/// The encoding is the protocol: a reordered field or variant must raise [`VERSION`].
#[test]
fn the_encoding_is_pinned() {
    let shell = Command::Shell { version: 1, shape: Shape::new(128, 1, 2).unwrap() };
    assert_eq!(postcard::to_stdvec(&shell).unwrap(), [0, 1, 0x80, 1, 1, 2]);
    let thaw = postcard::to_stdvec(&thaw()).unwrap();
    let disks = b"\x02\x90\x4e\x01\0\0\x02\0\x04root\0\0\x04code\0";
    let rest = b"\x03\0\x01\x80\x08\x01\x81\x08\x01\0";
    assert_eq!(thaw, [&disks[..], rest].concat());
    let ended = Report::Ended(End::Fault("x".into()));
    assert_eq!(postcard::to_stdvec(&ended).unwrap(), [6, 2, 1, b'x']);
    let stats = Stats { shell_ns: 1, content_ns: Some(2), entered_ns: None, file_kib: 3 };
    assert_eq!(postcard::to_stdvec(&Report::Stats(stats)).unwrap(), [4, 1, 1, 2, 0, 3]);
}

#[test]
fn a_shape_that_no_machine_can_have_is_no_message() {
    let (a, b) = Socket::pair().unwrap();
    send_raw(&a, &[0, 1, 0x80, 1, 200, 2]); // 200 vCPUs
    assert!(matches!(b.receive::<Command>(), Err(ControlError::Decode(_))));
}

#[test]
fn text_cannot_command_a_terminal() {
    assert_eq!(printable(b"\x1b[2Jhi\r\n\n\tthere\x07 \n"), "\u{fffd}[2Jhi\n\tthere\u{fffd}");
    let long = vec![b'a'; MAX_TEXT * 2];
    assert_eq!(printable(&long).len(), MAX_TEXT);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_decoded_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
        let (a, b) = Socket::pair().unwrap();
        send_raw(&a, &bytes);
        if let Ok(Received { message, .. }) = b.receive::<Report>() {
            prop_assert!(!message.name().is_empty());
        }
        send_raw(&a, &bytes);
        let _ = b.receive::<Command>();
    }

    #[test]
    fn reports_survive_the_journey(port: u32, why in ".{0,200}", a_ns: u64, b_ns: Option<u64>) {
        let (a, b) = Socket::pair().unwrap();
        let stats = Stats { shell_ns: a_ns, content_ns: b_ns, entered_ns: b_ns, file_kib: a_ns };
        for report in [
            Report::Port { port },
            Report::Ended(End::Fault(why.clone())),
            Report::Refused(Refusal { stage: Stage::Thaw, reason: why }),
            Report::Stats(stats),
        ] {
            a.send(&report, &[]).unwrap();
            prop_assert_eq!(b.receive::<Report>().unwrap().message, report);
        }
    }

    #[test]
    fn printable_text_has_no_control_characters(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        let text = printable(&bytes);
        prop_assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
        // A byte that is not UTF-8 becomes three.
        prop_assert!(text.len() <= 3 * MAX_TEXT);
    }
}
