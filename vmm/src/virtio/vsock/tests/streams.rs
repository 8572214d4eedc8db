use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::{JoinHandle, spawn};

use super::super::header::{Op, RECEIVE, SEND};
use super::guest::{BUFFER, Guest, Socket, host, nothing};
use crate::virtio::testing::{DEADLINE, device_suite};
use crate::virtio::{HostPorts, NoPorts};

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
fn many_small_messages_use_one_buffer_each() {
    let (mut ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    for round in 0..500u32 {
        ours.write_all(&round.to_le_bytes()).unwrap();
        socket.until(&mut guest, |it| it.received == round.to_le_bytes());
        socket.received.clear();
        socket.say(&mut guest, Op::Rw, 0, &round.to_be_bytes());
        let mut answer = [0; 4];
        ours.read_exact(&mut answer).unwrap();
        assert_eq!(answer, round.to_be_bytes());
    }
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
fn descriptors_in_a_stream_do_not_stall_it() {
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    use std::io::IoSlice;
    use std::os::fd::AsRawFd;
    let (mut ours, mut guest) = handed_over(0);
    let fds = [ours.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&fds)];
    ours.write_all(b"one").unwrap();
    let two = [IoSlice::new(b"two")];
    sendmsg::<UnixAddr>(ours.as_raw_fd(), &two, &control, MsgFlags::empty(), None).unwrap();
    ours.write_all(b"three").unwrap();
    // All of it is there before the first read.
    let mut socket = Socket::accept(&mut guest, 1024);
    socket.until(&mut guest, |it| it.received == b"onetwothree");
}
