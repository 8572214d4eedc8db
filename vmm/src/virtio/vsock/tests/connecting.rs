use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use super::super::credit::WINDOW;
use super::super::header::{Op, RECEIVE, SEND};
use super::super::table::{FIRST_PORT, MAX_CONNECTIONS};
use super::guest::{Guest, Socket, host};
use crate::virtio::testing::DEADLINE;
use crate::virtio::{NoPorts, PathPorts, VsockHost};

pub(super) fn listening() -> (tempfile::TempDir, PathBuf, Guest) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    let listener = Some(UnixListener::bind(&path).unwrap());
    let guest = Guest::new(VsockHost { listener, ..host(Vec::new(), Box::new(NoPorts)) });
    (folder, path, guest)
}

pub(super) fn connect(path: &PathBuf, line: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(line).unwrap();
    stream
}

fn line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// The device closed this stream; with bytes of ours unread that is a reset.
fn assert_ended(mut stream: &UnixStream) {
    match stream.read(&mut [0; 8]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_connects_and_talks_behind_its_line_at_once() {
    let (_folder, path, mut guest) = listening();
    let mut stream = connect(&path, b"CONNECT 1024\nhello");
    let mut socket = Socket::accept(&mut guest, 1024);
    assert_eq!(line(&mut stream), format!("OK {}\n", socket.peer));
    assert!(socket.peer >= FIRST_PORT);
    socket.until(&mut guest, |it| it.received == b"hello");
    socket.say(&mut guest, Op::Rw, 0, b"back");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"back");
}

#[test]
fn a_line_may_come_byte_by_byte() {
    let (_folder, path, mut guest) = listening();
    let mut stream = connect(&path, b"");
    for byte in b"CONNECT 1024\n" {
        stream.write_all(&[*byte]).unwrap();
        if *byte != b'\n' {
            guest.assert_silent();
        }
    }
    let socket = Socket::accept(&mut guest, 1024);
    assert_eq!(line(&mut stream), format!("OK {}\n", socket.peer));
}

#[test]
fn a_refused_or_bad_connect_ends_the_stream() {
    let (_folder, path, mut guest) = listening();
    let mut stream = connect(&path, b"CONNECT 7\n");
    let request = guest.expect(Op::Request);
    let mut socket = Socket::new(7, &request.header);
    socket.say(&mut guest, Op::Rst, 0, &[]);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    for bad in [&b"CONNECT x\n"[..], b"GET / HTTP/1.1\r\n", &[b'x'; 64]] {
        let stream = connect(&path, bad);
        // A reset where bytes of the line were left unread.
        assert_ended(&stream);
    }
    guest.assert_silent();
}

#[test]
fn silent_programs_make_room_for_others() {
    let (_folder, path, mut guest) = listening();
    let silent: Vec<_> = (0..40).map(|_| connect(&path, b"CONN")).collect();
    let mut stream = connect(&path, b"CONNECT 1024\n");
    let socket = Socket::accept(&mut guest, 1024);
    assert_eq!(line(&mut stream), format!("OK {}\n", socket.peer));
    // The oldest was dropped, the youngest may still go on.
    assert_ended(&silent[0]);
    (&silent[39]).write_all(b"ECT 1024\n").unwrap();
    Socket::accept(&mut guest, 1024);
}

#[test]
fn the_guest_connects_to_host_ports() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("vsock");
    let listener = UnixListener::bind(folder.path().join("vsock_1025")).unwrap();
    let mut guest = Guest::new(host(Vec::new(), Box::new(PathPorts { base })));
    let mut socket = Socket::connect(&mut guest, 40_000, 1025);
    socket.say(&mut guest, Op::Rw, 0, b"I am up");
    socket.say(&mut guest, Op::Shutdown, SEND | RECEIVE, &[]);
    let (mut stream, _) = listener.accept().unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "I am up");
    socket.until(&mut guest, |it| it.reset);
    // Nobody listens there: refused.
    let header = super::guest::template();
    let request =
        super::super::header::Header { src_port: 1, dst_port: 9, op: Op::Request as u16, ..header };
    guest.send(request, &[]);
    guest.expect(Op::Rst);
}

#[test]
fn a_hundred_connections_open_and_close() {
    let (_folder, path, mut guest) = listening();
    for round in 0..3 {
        let mut pairs = Vec::new();
        for _ in 0..100 {
            let mut stream = connect(&path, b"CONNECT 1024\n");
            let socket = Socket::accept(&mut guest, 1024);
            assert_eq!(line(&mut stream), format!("OK {}\n", socket.peer));
            pairs.push((stream, socket));
        }
        for (index, (mut stream, mut socket)) in pairs.into_iter().enumerate() {
            if index % 2 == 0 {
                drop(stream);
                socket.until(&mut guest, |it| it.hints == SEND | RECEIVE);
                socket.say(&mut guest, Op::Rst, 0, &[]);
            } else {
                socket.say(&mut guest, Op::Shutdown, SEND | RECEIVE, &[]);
                socket.until(&mut guest, |it| it.reset);
                assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "round {round}");
            }
        }
    }
    guest.assert_silent();
}

#[test]
fn connections_are_bounded_and_places_come_back() {
    let (_folder, path, mut guest) = listening();
    let mut pairs = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = connect(&path, b"CONNECT 1024\n");
        let socket = Socket::accept(&mut guest, 1024);
        line(&mut stream);
        pairs.push((stream, socket));
    }
    let refused = UnixStream::connect(&path).unwrap();
    refused.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_ended(&refused);
    let (stream, mut socket) = pairs.pop().unwrap();
    socket.say(&mut guest, Op::Rst, 0, &[]);
    drop(stream);
    guest.assert_silent(); // the device has handled the RST
    let _stream = connect(&path, b"CONNECT 1024\n");
    Socket::accept(&mut guest, 1024);
}

#[test]
fn a_dead_listener_does_not_harm_connections() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    let listener = UnixListener::bind(&path).unwrap();
    let killer = listener.try_clone().unwrap();
    let host = VsockHost { listener: Some(listener), ..host(Vec::new(), Box::new(NoPorts)) };
    let mut guest = Guest::new(host);
    let mut stream = connect(&path, b"CONNECT 1024\n");
    let mut socket = Socket::accept(&mut guest, 1024);
    line(&mut stream);
    nix::sys::socket::shutdown(
        std::os::fd::AsRawFd::as_raw_fd(&killer),
        nix::sys::socket::Shutdown::Both,
    )
    .unwrap();
    assert!(UnixStream::connect(&path).is_err());
    stream.write_all(b"still").unwrap();
    socket.until(&mut guest, |it| it.received == b"still");
}

#[test]
fn programs_may_connect_before_the_driver_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    let listener = Some(UnixListener::bind(&path).unwrap());
    let mut stream = connect(&path, b"CONNECT 1024\nhello");
    let mut guest = Guest::new(VsockHost { listener, ..host(Vec::new(), Box::new(NoPorts)) });
    let mut socket = Socket::accept(&mut guest, 1024);
    assert_eq!(line(&mut stream), format!("OK {}\n", socket.peer));
    socket.until(&mut guest, |it| it.received == b"hello");
    assert_eq!(socket.credit(), WINDOW);
}
