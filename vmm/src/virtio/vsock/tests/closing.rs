use std::io::{Read, Write};
use std::net::Shutdown;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;

use super::super::header::{Op, RECEIVE, SEND};
use super::connecting::{connect, listening};
use super::guest::{Guest, Socket, host};
use super::streams::{handed_over, pattern, stream_pair};
use crate::virtio::NoPorts;
use crate::virtio::testing::wait;

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
