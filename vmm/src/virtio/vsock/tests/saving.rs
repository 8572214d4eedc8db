use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;

use super::super::header::{Op, SEND};
use super::guest::{Guest, Socket, host, nothing};
use super::streams::{handed_over, pattern, stream_pair};
use crate::virtio::state::{DeviceState, PartState};
use crate::virtio::testing::{DEADLINE, Rig};
use crate::virtio::{Backend, Error, Kind, NoPorts, StateError, VsockHost};

/// Freezes the guest's machine and goes on in another one with this host.
fn thaw(guest: &mut Guest, states: Vec<DeviceState>, host: VsockHost) {
    let other = Rig::over(guest.rig.memory.clone(), &[Kind::Vsock]);
    other.thread.attach(vec![Backend::Vsock(host)]).unwrap();
    other.thread.load(states).unwrap();
    other.thread.run().unwrap();
    guest.driver.move_to(&other);
    guest.rig = other;
}

fn open_at_save(states: &[DeviceState]) -> usize {
    let DeviceState::V1(state) = &states[0];
    match &state.part {
        PartState::Vsock { open, .. } => open.len(),
        other @ (PartState::Block { .. } | PartState::Balloon) => panic!("{other:?}"),
    }
}

#[test]
fn streams_go_on_over_a_pause() {
    let (mut ours, mut guest) = handed_over(0);
    let mut socket = Socket::accept(&mut guest, 1024);
    for round in 0..20 {
        let states = guest.rig.thread.pause().unwrap();
        assert_eq!(open_at_save(&states), 1);
        let data = pattern(10_000, round);
        ours.write_all(&data).unwrap();
        socket.say(&mut guest, Op::Rw, 0, &data);
        guest.rig.thread.run().unwrap();
        let mut back = vec![0; data.len()];
        ours.read_exact(&mut back).unwrap();
        assert_eq!(back, data);
        socket.until(&mut guest, |it| it.received == data);
        socket.received.clear();
    }
}

#[test]
fn streams_of_the_past_are_reset_and_the_first_new_one_works() {
    for features in [0, 1 << 29] {
        let (mut ours, mut guest) = handed_over(features);
        let mut old = Socket::accept(&mut guest, 1024);
        // In the middle of both directions.
        ours.write_all(&pattern(100_000, 1)).unwrap();
        old.until(&mut guest, |it| it.received.len() > 10_000);
        old.say(&mut guest, Op::Rw, 0, b"on its way");
        let states = guest.rig.thread.pause().unwrap();
        assert_eq!(open_at_save(&states), 1);
        let (mut new, theirs) = stream_pair();
        new.write_all(b"first").unwrap();
        thaw(&mut guest, states, host(vec![(1024, theirs)], Box::new(NoPorts)));
        // Bytes of before the freeze may still lie in the ring; then the old stream ends (twice,
        // where its last packet had not been taken), and only then the new one begins.
        let mut resets = 0;
        let request = loop {
            let packet = guest.next();
            match packet.op() {
                Op::Rw => assert_eq!(resets, 0),
                Op::Rst => resets += 1,
                Op::Request => break packet,
                op => panic!("{op:?}"),
            }
            assert!(old.is_for(&packet));
        };
        assert!(resets > 0);
        let mut fresh = Socket::new(1024, &request.header);
        assert_ne!(fresh.peer, old.peer, "a stale packet could reach it");
        fresh.say(&mut guest, Op::Response, 0, &[]);
        fresh.until(&mut guest, |it| it.received == b"first");
        fresh.say(&mut guest, Op::Rw, 0, b"answer");
        let mut answer = [0; 6];
        new.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
        // A late packet of the dead stream harms nobody.
        old.say(&mut guest, Op::Rw, 0, b"late");
        old.until(&mut guest, |it| it.reset);
        // Loading over a machine that has connections ends them, on both sides.
        let now = guest.rig.thread.pause().unwrap();
        guest.rig.thread.load(now).unwrap();
        guest.rig.thread.run().unwrap();
        fresh.until(&mut guest, |it| it.reset);
        assert_eq!(new.read(&mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn nothing_is_sent_after_a_load_without_streams() {
    let mut guest = Guest::new(host(Vec::new(), Box::new(NoPorts)));
    let states = guest.rig.thread.pause().unwrap();
    assert_eq!(open_at_save(&states), 0);
    thaw(&mut guest, states, host(Vec::new(), Box::new(NoPorts)));
    guest.assert_silent();
}

#[test]
fn resets_that_found_no_buffer_are_saved_again() {
    let (_ours, theirs) = stream_pair();
    let mut guest = Guest::without_buffers(host(vec![(1024, theirs)], Box::new(NoPorts)), 0);
    guest.reposts = false;
    guest.post_up_to(1);
    // Unanswered, so that the device has no reason to ask for more buffers before the freeze.
    guest.expect(Op::Request);
    let mut states = guest.rig.thread.pause().unwrap();
    for _ in 0..3 {
        assert_eq!(open_at_save(&states), 1);
        thaw(&mut guest, states, host(Vec::new(), Box::new(NoPorts)));
        states = guest.rig.thread.pause().unwrap();
    }
    guest.rig.thread.run().unwrap();
    guest.reposts = true;
    guest.post();
    guest.expect(Op::Rst);
    guest.assert_silent();
}

#[test]
fn streams_that_the_guest_never_heard_of_are_not_saved() {
    let full = || {
        let (ours, theirs): (Vec<_>, Vec<_>) = (0..256).map(|_| stream_pair()).unzip();
        let streams = theirs.into_iter().map(|it| (1024, it)).collect();
        (ours, host(streams, Box::new(NoPorts)))
    };
    let (_first, streams) = full();
    let mut guest = Guest::without_buffers(streams, 0);
    guest.reposts = false;
    guest.post_up_to(1);
    guest.expect(Op::Request);
    // A chain of clones of a guest that posts no buffers, each with as many streams as there can be.
    let mut states = guest.rig.thread.pause().unwrap();
    for _ in 0..3 {
        assert_eq!(open_at_save(&states), 1);
        let (_ours, streams) = full();
        thaw(&mut guest, states, streams);
        states = guest.rig.thread.pause().unwrap();
    }
}

#[test]
fn a_backlog_that_no_one_reads_does_not_outlive_a_load() {
    let (mut ours, theirs) = stream_pair();
    setsockopt(&theirs, SndBuf, &8192).unwrap();
    let mut guest = Guest::new(host(vec![(1024, theirs)], Box::new(NoPorts)));
    let mut socket = Socket::accept(&mut guest, 1024);
    socket.say(&mut guest, Op::Rw, 0, &[1; 60_000]);
    socket.say(&mut guest, Op::Rw, 0, &[1; 60_000]);
    guest.sync();
    let states = guest.rig.thread.pause().unwrap();
    guest.rig.thread.load(states).unwrap();
    guest.rig.thread.run().unwrap();
    socket.until(&mut guest, |it| it.reset);
    guest.assert_silent();
    // The program of before sees what its socket had, then the end.
    let mut all = Vec::new();
    ours.read_to_end(&mut all).unwrap();
    assert!(all.len() < 120_000);
}

#[test]
fn a_listener_of_a_new_host_serves_a_loaded_guest() {
    let mut guest = Guest::new(host(Vec::new(), Box::new(NoPorts)));
    let states = guest.rig.thread.pause().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clone");
    let listener = Some(UnixListener::bind(&path).unwrap());
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"CONNECT 1024\nhello").unwrap();
    let new = VsockHost { listener, ..host(Vec::new(), Box::new(NoPorts)) };
    thaw(&mut guest, states, new);
    let mut socket = Socket::accept(&mut guest, 1024);
    socket.until(&mut guest, |it| it.received == b"hello");
    socket.say(&mut guest, Op::Shutdown, SEND, &[]);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("OK {}\n", socket.peer));
}

#[test]
fn states_of_other_guests_are_refused() {
    let guest = Guest::new(host(Vec::new(), Box::new(NoPorts)));
    let states = guest.rig.thread.pause().unwrap();
    let other = Rig::shell(&[Kind::Vsock]);
    let cid = VsockHost { cid: 9, ..host(Vec::new(), Box::new(NoPorts)) };
    other.thread.attach(vec![Backend::Vsock(cid)]).unwrap();
    let refused = |states, expected| match other.thread.load(states) {
        Err(Error::State { slot: 0, source }) => assert_eq!(source, expected),
        other => panic!("{other:?}"),
    };
    refused(states.clone(), StateError::Cid { saved: 3, attached: 9 });
    other.thread.attach(vec![nothing()]).unwrap();
    let DeviceState::V1(mut state) = states[0].clone();
    let open = vec![(1, 1); 513];
    state.part = PartState::Vsock { cid: 3, next_port: 0, open };
    refused(vec![DeviceState::V1(state.clone())], StateError::Connections(513));
    state.part = PartState::Block { sectors: 1 };
    let kinds = StateError::Kind { wanted: Kind::Vsock, got: Kind::Block };
    refused(vec![DeviceState::V1(state)], kinds);
    let reserved = VsockHost { cid: 2, ..host(Vec::new(), Box::new(NoPorts)) };
    let result = other.thread.attach(vec![Backend::Vsock(reserved)]);
    assert!(matches!(result, Err(Error::ReservedCid(2))));
}
