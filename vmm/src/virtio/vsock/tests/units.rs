use proptest::prelude::*;
use virtio_queue::QueueT;
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use virtio_vsock::packet::{PKT_HEADER_SIZE, VsockPacket};
use vm_memory::{Bytes, GuestAddress};

use super::super::credit::{Credit, Overrun, WINDOW};
use super::super::greeting::{Line, parse};
use super::super::header::{HEADER, Header};
use super::super::table::{FIRST_PORT, Table};
use crate::memory::GuestMemory;

prop_compose! {
    fn headers()(
        (src_cid, dst_cid, src_port, dst_port) in any::<(u64, u64, u32, u32)>(),
        (kind, op, flags, buf_alloc, fwd_cnt) in any::<(u16, u16, u32, u32, u32)>(),
    ) -> Header {
        Header { src_cid, dst_cid, src_port, dst_port, len: 0, kind, op, flags, buf_alloc, fwd_cnt }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Our layout of the header is the one that `virtio_vsock` reads.
    #[test]
    fn headers_are_laid_out_as_others_read_them(header in headers()) {
        prop_assert_eq!(HEADER, PKT_HEADER_SIZE);
        prop_assert_eq!(Header::from_bytes(&header.to_bytes()), header);
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let queue = MockSplitQueue::new(&memory, 16);
        let descriptor = RawDescriptor::from(Descriptor::new(0x8000, 44, 0, 0));
        queue.build_desc_chain(&[descriptor]).unwrap();
        memory.write_slice(&header.to_bytes(), GuestAddress(0x8000)).unwrap();
        let mut device: virtio_queue::Queue = queue.create_queue().unwrap();
        let mut chain = device.pop_descriptor_chain(&memory).unwrap();
        let packet = VsockPacket::from_tx_virtq_chain(&memory, &mut chain, 0).unwrap();
        prop_assert_eq!(packet.src_cid(), header.src_cid);
        prop_assert_eq!(packet.dst_cid(), header.dst_cid);
        prop_assert_eq!(packet.src_port(), header.src_port);
        prop_assert_eq!(packet.dst_port(), header.dst_port);
        prop_assert_eq!(packet.type_(), header.kind);
        prop_assert_eq!(packet.op(), header.op);
        prop_assert_eq!(packet.flags(), header.flags);
        prop_assert_eq!(packet.buf_alloc(), header.buf_alloc);
        prop_assert_eq!(packet.fwd_cnt(), header.fwd_cnt);
    }

    #[test]
    fn greetings_of_any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Line::Connect { len, .. } = parse(&bytes) {
            prop_assert_eq!(bytes[len - 1], b'\n');
        }
    }
}

#[test]
fn greetings_are_whole_lines_with_a_port() {
    let connect = |port, len| Line::Connect { port, len };
    assert_eq!(parse(b"CONNECT 1024\n"), connect(1024, 13));
    assert_eq!(parse(b"CONNECT 1024\r\nGET /"), connect(1024, 14));
    assert_eq!(parse(b"CONNECT 4294967295\n"), connect(u32::MAX, 19));
    assert_eq!(parse(b"CONNECT 1\nrest\n"), connect(1, 10));
    for partial in [&b""[..], b"C", b"CONNECT 1024", b"CONNECT 000000000000000000000"] {
        assert_eq!(parse(partial), Line::Partial);
    }
    for invalid in [
        &b"\n"[..],
        b"CONNECT \n",
        b"CONNECT 4294967296\n",
        b"CONNECT -1\n",
        b"connect 1\n",
        b"GET / HTTP/1.1\r\n",
        b"CONNECT \xff\n",
        b"CONNECT 000000000000000000000000",
    ] {
        assert_eq!(parse(invalid), Line::Invalid, "{invalid:?}");
    }
}

fn peer(buf_alloc: u32, fwd_cnt: u32) -> Header {
    Header { buf_alloc, fwd_cnt, ..Header::default() }
}

#[test]
fn room_follows_the_guests_account_and_never_its_lies() {
    let mut credit = Credit::default();
    assert_eq!(credit.room(), 0);
    credit.note_peer(&peer(1000, 0));
    credit.note_sent(400);
    assert_eq!(credit.room(), 600);
    credit.note_peer(&peer(1000, 300));
    assert_eq!(credit.room(), 900);
    // Took out more than it got; shrank its buffer; wrapped around.
    credit.note_peer(&peer(1000, 401));
    assert_eq!(credit.room(), 0);
    credit.note_peer(&peer(50, 300));
    assert_eq!(credit.room(), 0);
    credit.note_sent(u32::MAX - 399);
    credit.note_peer(&peer(1000, u32::MAX));
    assert_eq!(credit.room(), 999);
}

#[test]
fn the_window_is_enforced_and_told_when_half_is_gone() {
    let mut credit = Credit::default();
    assert_eq!(credit.note_received(WINDOW), Ok(()));
    assert_eq!(credit.note_received(1), Err(Overrun));
    assert_eq!(credit.note_received(u32::MAX), Err(Overrun));
    assert!(!credit.update_due(), "there is nothing new to tell");
    credit.note_forwarded(10);
    assert!(credit.update_due());
    assert_eq!(credit.account(), (WINDOW, 10));
    credit.note_told();
    assert!(!credit.update_due());
    assert_eq!(credit.note_received(10), Ok(()));
    assert_eq!(credit.note_received(1), Err(Overrun));
    credit.note_forwarded(WINDOW);
    credit.note_told();
    assert_eq!(credit.note_received(WINDOW / 2), Ok(()));
    credit.note_forwarded(WINDOW / 2);
    assert!(!credit.update_due(), "half of the window is enough");
}

#[test]
fn host_ports_are_not_used_twice_soon() {
    let mut table = Table::new();
    let first = table.new_ports(5);
    assert_eq!(first.host, FIRST_PORT);
    assert_eq!(table.new_ports(5).host, FIRST_PORT + 1);
    table.set_next_port(u32::MAX);
    table.name(0, first);
    assert_eq!(table.new_ports(5).host, FIRST_PORT + 1, "the first is taken");
    table.set_next_port((1 << 31) - 1);
    assert_eq!(table.new_ports(5).host, (1 << 31) - 1);
    assert_eq!(table.new_ports(6).host, FIRST_PORT);
}
