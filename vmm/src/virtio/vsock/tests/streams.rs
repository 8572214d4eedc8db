use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{JoinHandle, spawn};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;

use super::super::credit::WINDOW;
use super::super::header::{Op, RECEIVE, SEND};
use super::super::table::{FIRST_PORT, MAX_CONNECTIONS};
use super::guest::{BUFFER, Guest, Socket, host, nothing};
use crate::virtio::testing::{DEADLINE, device_suite, wait};
use crate::virtio::{HostPorts, NoPorts, PathPorts, VsockHost};

device_suite!(suite, nothing);

const MIB: usize = 1 << 20;
const EVENT_IDX: u64 = 1 << 29;

pub(super) fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 253 + seed * 97) as u8).collect()
}

/// A stream handed over for guest port 1024, and the guest.
pub(super) fn handed_over(features: u64) -> (UnixStream, Guest) {
    let (ours, theirs) = stream_pair();
    (ours, Guest::refusing(host(vec![(1024, theirs)], Box::new(NoPorts)), features))
}

pub(super) fn stream_pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    ours.set_write_timeout(Some(DEADLINE)).unwrap();
    (ours, theirs)
}

/// Connects handed-over streams to a fixed port.
#[derive(Debug)]
pub(super) struct Handover(pub(super) Vec<UnixStream>);

impl HostPorts for Handover {
    fn connect(&mut self, port: u32) -> std::io::Result<UnixStream> {
        assert_eq!(port, 1025);
        self.0.pop().ok_or_else(|| std::io::ErrorKind::ConnectionRefused.into())
    }
}

fn listening() -> (tempfile::TempDir, PathBuf, Guest) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    let listener = Some(UnixListener::bind(&path).unwrap());
    let guest = Guest::new(VsockHost { listener, ..host(Vec::new(), Box::new(NoPorts)) });
    (folder, path, guest)
}

fn connect(path: &PathBuf, line: &[u8]) -> UnixStream {
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

fn writer(mut stream: UnixStream, data: Vec<u8>) -> JoinHandle<()> {
    spawn(move || {
        stream.write_all(&data).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    })
}

fn reader(mut stream: UnixStream) -> JoinHandle<Vec<u8>> {
    spawn(move || {
        let mut data = Vec::new();
        stream.read_to_end(&mut data).unwrap();
        data
    })
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
        let mut stream = connect(&path, bad);
        // A reset where bytes of the line were left unread.
        assert!(matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_)));
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
    assert!(matches!((&silent[0]).read(&mut [0; 8]), Ok(0) | Err(_)));
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
fn six_mebibytes_go_to_the_guest() {
    for features in [0, EVENT_IDX] {
        let (ours, mut guest) = handed_over(features);
        let mut socket = Socket::accept(&mut guest, 1024);
        let data = pattern(6 * MIB, 1);
        let writer = writer(ours, data.clone());
        socket.until(&mut guest, |it| it.hints & SEND != 0);
        writer.join().unwrap();
        assert_eq!(socket.received, data);
    }
}

#[test]
fn six_mebibytes_come_from_the_guest() {
    for features in [0, EVENT_IDX] {
        let (ours, mut guest) = handed_over(features);
        let mut socket = Socket::accept(&mut guest, 1024);
        let data = pattern(6 * MIB, 2);
        let reader = reader(ours);
        socket.send_all(&mut guest, &data);
        socket.say(&mut guest, Op::Shutdown, SEND, &[]);
        assert_eq!(reader.join().unwrap(), data);
    }
}

#[test]
fn both_directions_flow_at_once() {
    let (ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    let (down, up) = (pattern(3 * MIB, 3), pattern(3 * MIB, 4));
    let reader = reader(ours.try_clone().unwrap());
    let writer = writer(ours, down.clone());
    socket.send_all(&mut guest, &up);
    socket.say(&mut guest, Op::Shutdown, SEND, &[]);
    socket.until(&mut guest, |it| it.hints & SEND != 0);
    writer.join().unwrap();
    assert_eq!(socket.received, down);
    assert_eq!(reader.join().unwrap(), up);
}

#[test]
fn a_slow_reader_bounds_the_guest_and_loses_nothing() {
    let (mut ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    let data = pattern(4 * MIB, 5);
    // Until socket buffer and window are full and no credit comes back.
    let mut sent = 0;
    loop {
        let credit = socket.credit() as usize;
        if credit == 0 {
            socket.say(&mut guest, Op::CreditRequest, 0, &[]);
            let packet = guest.next();
            socket.handle(&mut guest, &packet);
            if socket.credit() == 0 {
                break;
            }
            continue;
        }
        let len = credit.min(super::guest::PACKET);
        socket.say(&mut guest, Op::Rw, 0, &data[sent..sent + len]);
        sent += len;
        assert!(sent < 2 * MIB, "the window does not bound anything");
    }
    let rest = data[sent..].to_vec();
    let total = data.len();
    let reader = spawn(move || {
        let mut read = vec![0; total];
        ours.read_exact(&mut read).unwrap();
        (read, ours)
    });
    socket.send_all(&mut guest, &rest);
    let (read, mut ours) = reader.join().unwrap();
    assert!(read == data);
    // The end comes behind the last byte of the backlog.
    socket.say(&mut guest, Op::Shutdown, SEND | RECEIVE, &[]);
    socket.until(&mut guest, |it| it.reset);
    assert_eq!(ours.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn what_is_left_reaches_the_host_after_the_guest_is_gone() {
    for last in [Op::Shutdown, Op::Rst] {
        let (mut ours, theirs) = stream_pair();
        setsockopt(&theirs, SndBuf, &8192).unwrap();
        let mut guest = Guest::new(host(vec![(1024, theirs)], Box::new(NoPorts)));
        let mut socket = Socket::accept(&mut guest, 1024);
        // More than the socket's buffer takes, less than the window.
        let sent = pattern(120_000, 7);
        socket.say(&mut guest, Op::Rw, 0, &sent[..60_000]);
        socket.say(&mut guest, Op::Rw, 0, &sent[60_000..]);
        socket.say(&mut guest, last, SEND | RECEIVE, &[]);
        let mut read = Vec::new();
        ours.read_to_end(&mut read).unwrap();
        assert!(read == sent);
    }
}

#[test]
fn a_guest_that_does_not_read_bounds_the_host() {
    let (ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    ours.set_nonblocking(true).unwrap();
    let data = pattern(MIB, 6);
    let mut written = 0;
    let mut received = 0;
    // Bytes come until credit is used up; then the device asks once, and is told: nothing.
    loop {
        while let Ok(len) = (&ours).write(&data[written..]) {
            written += len;
        }
        let packet = guest.next();
        if packet.op() == Op::CreditRequest {
            break;
        }
        assert_eq!(packet.op(), Op::Rw);
        assert_eq!(packet.data, data[received..received + packet.data.len()]);
        received += packet.data.len();
    }
    assert_eq!(received, BUFFER as usize);
    socket.say(&mut guest, Op::CreditUpdate, 0, &[]);
    guest.assert_silent();
    // The guest reads: the rest follows.
    socket.forward(received as u32);
    socket.say(&mut guest, Op::CreditUpdate, 0, &[]);
    socket.received = data[..received].to_vec();
    ours.set_nonblocking(false).unwrap();
    let writer = writer(ours, data[written..].to_vec());
    socket.until(&mut guest, |it| it.hints & SEND != 0);
    writer.join().unwrap();
    assert!(socket.received == data);
}

#[test]
fn bytes_wait_for_receive_buffers() {
    for features in [0, EVENT_IDX] {
        let (mut ours, theirs) = stream_pair();
        ours.write_all(b"early").unwrap();
        let host = host(vec![(1024, theirs)], Box::new(NoPorts));
        let mut guest = Guest::without_buffers(host, features);
        for _ in 0..50 {
            guest.send(super::guest::template(), &[]); // answered by RST, once there are buffers
        }
        guest.post_up_to(1);
        let mut resets = 0;
        let mut socket = None;
        while resets < 50 || socket.is_none() {
            let packet = guest.next();
            match packet.op() {
                Op::Rst => resets += 1,
                Op::Request => socket = Some(Socket::new(1024, &packet.header)),
                op => panic!("{op:?}"),
            }
        }
        let mut socket = socket.unwrap();
        socket.say(&mut guest, Op::Response, 0, &[]);
        socket.until(&mut guest, |it| it.received == b"early");
    }
}

#[test]
fn each_direction_closes_by_itself() {
    // The host first.
    let (mut ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    ours.write_all(b"question").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    socket.until(&mut guest, |it| it.hints != 0);
    assert_eq!((socket.hints, &socket.received[..]), (SEND, &b"question"[..]));
    socket.say(&mut guest, Op::Rw, 0, b"answer");
    socket.say(&mut guest, Op::Shutdown, SEND | RECEIVE, &[]);
    let mut answer = String::new();
    ours.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    socket.until(&mut guest, |it| it.reset);
    // The guest first.
    let (mut ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    socket.say(&mut guest, Op::Rw, 0, b"question");
    socket.say(&mut guest, Op::Shutdown, SEND, &[]);
    let mut question = String::new();
    ours.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    ours.write_all(b"answer").unwrap();
    drop(ours);
    socket.until(&mut guest, |it| it.hints & SEND != 0);
    assert_eq!(socket.received, b"answer");
    // It is over: what comes for it now is answered as for any unknown one.
    socket.say(&mut guest, Op::Shutdown, SEND | RECEIVE, &[]);
    socket.until(&mut guest, |it| it.reset);
}

#[test]
fn a_host_that_goes_away_is_noticed_at_once() {
    let (ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    drop(ours);
    socket.until(&mut guest, |it| it.hints == SEND | RECEIVE);
    // A host that only stopped reading: the guest may not send, but still receives.
    let (mut ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    ours.shutdown(Shutdown::Read).unwrap();
    socket.say(&mut guest, Op::Rw, 0, b"nobody reads this");
    socket.until(&mut guest, |it| it.hints == RECEIVE);
    ours.write_all(b"still here").unwrap();
    socket.until(&mut guest, |it| it.received == b"still here");
    // A guest that stopped reading: the host's writes fail.
    let (mut ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    socket.say(&mut guest, Op::Shutdown, RECEIVE, &[]);
    wait("EPIPE", || ours.write_all(b"x").is_err());
}

#[test]
fn what_a_program_wrote_arrives_although_it_left_at_once() {
    let (mut ours, theirs) = stream_pair();
    ours.write_all(b"handed over").unwrap();
    drop(ours);
    let mut guest = Guest::new(host(vec![(1024, theirs)], Box::new(NoPorts)));
    let mut socket = Socket::accept(&mut guest, 1024);
    socket.until(&mut guest, |it| it.hints == SEND | RECEIVE);
    assert_eq!(socket.received, b"handed over");
    let (_folder, path, mut guest) = listening();
    drop(connect(&path, b"CONNECT 1024\nby name"));
    let mut socket = Socket::accept(&mut guest, 1024);
    socket.until(&mut guest, |it| it.hints == SEND | RECEIVE);
    assert_eq!(socket.received, b"by name");
}

#[test]
fn parallel_streams_take_turns() {
    const STREAMS: usize = 8;
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..STREAMS).map(|_| stream_pair()).unzip();
    let streams = theirs.into_iter().map(|it| (1024, it)).collect();
    let mut guest = Guest::new(host(streams, Box::new(NoPorts)));
    let mut sockets: Vec<_> = (0..STREAMS).map(|_| Socket::accept(&mut guest, 1024)).collect();
    let data: Vec<_> = (0..STREAMS).map(|it| pattern(MIB, it)).collect();
    let writers: Vec<_> =
        ours.into_iter().zip(&data).map(|(it, data)| writer(it, data.clone())).collect();
    let mut spread = 0;
    while sockets.iter().any(|it| it.hints & SEND == 0) {
        let packet = guest.next();
        let socket = sockets.iter_mut().find(|it| it.is_for(&packet)).unwrap();
        socket.handle(&mut guest, &packet);
        let lengths = || sockets.iter().filter(|it| it.hints == 0).map(|it| it.received.len());
        spread = spread.max(lengths().max().unwrap_or(0) - lengths().min().unwrap_or(0));
    }
    for (socket, data) in sockets.iter().zip(&data) {
        assert!(socket.received == *data);
    }
    writers.into_iter().for_each(|it| it.join().unwrap());
    assert!(spread < MIB, "one stream was done before another began");
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
    let mut refused = UnixStream::connect(&path).unwrap();
    refused.set_read_timeout(Some(DEADLINE)).unwrap();
    assert!(matches!(refused.read(&mut [0; 8]), Ok(0) | Err(_)));
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

#[test]
fn descriptors_in_a_stream_do_not_stall_it() {
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    use std::io::IoSlice;
    use std::os::fd::AsRawFd;
    let (mut ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    let fds = [ours.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&fds)];
    ours.write_all(b"one").unwrap();
    let two = [IoSlice::new(b"two")];
    sendmsg::<UnixAddr>(ours.as_raw_fd(), &two, &control, MsgFlags::empty(), None).unwrap();
    ours.write_all(b"three").unwrap();
    socket.until(&mut guest, |it| it.received == b"onetwothree");
}
