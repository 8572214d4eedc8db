use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::credit::WINDOW;
use super::super::header::{HEADER, Header, Op, Ports, SEND};
use super::guest::{Guest, Packet, Socket, host, template};
use super::streams::{Handover, handed_over, stream_pair};
use crate::virtio::NoPorts;
use crate::virtio::state::DeviceState;
use crate::virtio::testing::{Buffer, wait};

fn packet(op: Op, ports: Ports) -> Header {
    Header { op: op as u16, src_port: ports.guest, dst_port: ports.host, ..template() }
}

#[test]
fn packets_of_others_are_dropped() {
    let (_ours, mut guest) = handed_over(0);
    let socket = Socket::accept(&mut guest, 1024);
    let ours = packet(Op::Rw, Ports { host: socket.peer, guest: 1024 });
    for wrong in [
        Header { src_cid: 4, ..ours },
        Header { src_cid: 2, ..ours },
        Header { src_cid: 3 << 32 | 3, ..ours },
        Header { dst_cid: 1, ..ours },
        Header { dst_cid: u64::MAX, ..ours },
        Header { kind: 2, ..ours },
        Header { kind: 0, op: Op::Request as u16, ..ours },
    ] {
        guest.send(wrong, b"");
        guest.assert_silent();
    }
}

#[test]
fn unknown_connections_are_reset() {
    let mut guest = Guest::new(host(Vec::new(), Box::new(NoPorts)));
    for op in [Op::Response, Op::Rw, Op::Shutdown, Op::CreditUpdate, Op::CreditRequest, Op::Request]
    {
        guest.send(packet(op, Ports { host: 5, guest: 6 }), &[]);
        let reset = guest.expect(Op::Rst);
        assert_eq!((reset.header.src_port, reset.header.dst_port), (5, 6));
    }
    guest.send(packet(Op::Rst, Ports { host: 5, guest: 6 }), &[]);
    guest.assert_silent();
}

#[test]
fn breaking_the_rules_of_a_connection_resets_it() {
    let lies: [fn(&mut Guest, &mut Socket); 6] = [
        |guest, socket| {
            // A byte beyond the window, while nobody reads.
            let mut sent = 0;
            while sent <= 2 * WINDOW as usize + (1 << 20) {
                socket.say(guest, Op::Rw, 0, &[7; 32 * 1024]);
                sent += 32 * 1024;
            }
        },
        |guest, socket| socket.say(guest, Op::Response, 0, &[]),
        |guest, socket| socket.say(guest, Op::Request, 0, &[]),
        |guest, socket| {
            socket.say(guest, Op::Shutdown, SEND, &[]);
            socket.say(guest, Op::Rw, 0, b"behind the end");
        },
        |guest, socket| {
            let header =
                Header { op: 99, src_port: socket.port, dst_port: socket.peer, ..template() };
            guest.send(header, &[]);
        },
        |guest, socket| {
            // A length that the chain does not hold.
            let ports = Ports { host: socket.peer, guest: socket.port };
            guest.send(Header { len: 100, ..packet(Op::Rw, ports) }, b"short");
        },
    ];
    for lie in lies {
        let (mut ours, mut guest) = handed_over(0);
        let mut socket = Socket::accept(&mut guest, 1024);
        lie(&mut guest, &mut socket);
        socket.until(&mut guest, |it| it.reset);
        // The program sees its stream end, sooner or later.
        let _ = ours.read_to_end(&mut Vec::new());
    }
}

#[test]
fn answers_before_the_question_are_refused() {
    let (_ours, theirs) = stream_pair();
    let mut guest = Guest::without_buffers(host(vec![(1024, theirs)], Box::new(NoPorts)), 0);
    // The REQUEST waits for a buffer; its ports can be guessed.
    let ports = Ports { host: super::super::table::FIRST_PORT, guest: 1024 };
    guest.send(packet(Op::Response, ports), &[]);
    guest.send(packet(Op::Rw, ports), &[]);
    guest.post();
    // The connection went, unsaid; the second packet was for nobody.
    guest.expect(Op::Rst);
    guest.assert_silent();
}

#[test]
fn a_flood_without_receive_buffers_is_held_back() {
    let (mut ours, theirs) = stream_pair();
    let host = host(Vec::new(), Box::new(Handover(vec![theirs])));
    let mut guest = Guest::without_buffers(host, 0);
    for _ in 0..138 {
        guest.send(packet(Op::Rw, Ports { host: 1, guest: 2 }), &[]);
        while guest.driver.rings[1].free() < 100 && guest.driver.rings[1].take_used().is_some() {}
    }
    // The device remembers 128 answers and leaves the other packets where they are.
    for _ in 0..10 {
        let DeviceState::V1(state) = guest.rig.thread.pause().unwrap().remove(0);
        assert!(state.queues[1].next_avail <= 128, "{}", state.queues[1].next_avail);
        guest.rig.thread.run().unwrap();
        std::thread::yield_now();
    }
    guest.post();
    let mut socket = Socket::connect(&mut guest, 9, 1025);
    ours.write_all(b"works").unwrap();
    socket.until(&mut guest, |it| it.received == b"works");
}

#[test]
fn malformed_chains_break_the_device_until_reset() {
    let at = 0x40_0000;
    let cases: [(usize, &[Buffer]); 7] = [
        (1, &[(at, HEADER as u32 - 1, false)]),
        (1, &[(at, HEADER as u32, true)]),
        (1, &[(at, 44, false), (at, 44, true)]),
        (1, &[(u64::MAX - 20, 44, false)]),
        (0, &[(at, 44, false)]),
        (0, &[(at, 43, true)]),
        (0, &[(1 << 40, 4096, true)]),
    ];
    for (queue, chain) in cases {
        let (_ours, theirs) = stream_pair();
        let streams = vec![(1024, theirs)];
        let mut guest = Guest::without_buffers(host(streams, Box::new(NoPorts)), 0);
        guest.driver.submit(&guest.rig, queue, chain);
        wait("NEEDS_RESET", || guest.driver.status() & 0x40 != 0);
        guest.driver.set_up(&guest.rig, 0);
        assert_eq!(guest.driver.status(), 0xf);
    }
}

/// Any packets at all, to two connections and to none: the device neither dies nor goes silent, and
/// sends no more than the credit it was given.
#[test]
fn random_packets_leave_the_device_working() {
    let port = prop_oneof![Just(1024u32), Just(1025), Just(40_000), 0u32..3];
    let host_port = prop_oneof![Just(1u32 << 30), Just((1 << 30) + 1), Just(1025), any::<u32>()];
    let any_packet = (port, host_port, 0u16..9, 0u32..4, any::<(u32, u32)>(), 0usize..3000);
    let strategy = prop::collection::vec(any_packet, 1..40);
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&strategy, |packets| {
            let (ours, theirs) = stream_pair();
            let (more, other) = stream_pair();
            let pool: Vec<_> = (0..4).map(|_| UnixStream::pair().unwrap().0).collect();
            let streams = vec![(1024, theirs), (1025, other)];
            let mut guest = Guest::new(host(streams, Box::new(AnyPort(pool))));
            (&ours).write_all(&[1; 5000]).unwrap();
            drop(more);
            for (src_port, dst_port, op, flags, (buf_alloc, fwd_cnt), len) in packets {
                let len_field = if len % 7 == 0 { 70_000 } else { len as u32 };
                let header = Header {
                    src_port,
                    dst_port,
                    op,
                    flags,
                    buf_alloc,
                    fwd_cnt,
                    len: len_field,
                    ..template()
                };
                guest.send(header, &vec![5; len]);
            }
            // It still answers a stranger.
            let stray = Header { op: Op::Rw as u16, src_port: 7777, dst_port: 7777, ..template() };
            guest.send(stray, &[]);
            let is_answer = |it: &Packet| it.header.src_port == 7777 && it.op() == Op::Rst;
            while !is_answer(&guest.next()) {}
            Ok(())
        })
        .unwrap();
}

/// Any port of the host, while streams last.
#[derive(Debug)]
struct AnyPort(Vec<UnixStream>);

impl crate::virtio::HostPorts for AnyPort {
    fn connect(&mut self, _port: u32) -> std::io::Result<UnixStream> {
        self.0.pop().ok_or_else(|| std::io::ErrorKind::ConnectionRefused.into())
    }
}
