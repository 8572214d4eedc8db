#![allow(clippy::cast_possible_truncation)] // numbers of a test are small

use std::fs::File;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use virtio_bindings::virtio_blk::{VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::super::testing::{Buffer, Driver, Rig, device_suite, wait};
use super::super::{Access, Backend, Disk, Error, Kind};
use super::{SEG_MAX, SIZE_MAX};

const HEADER: u64 = 0x10_0000;
const STATUS: u64 = 0x10_0100;
const DATA: u64 = 0x20_0000;
const SECTORS: u64 = 2048;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
/// What the status byte holds before the device answers.
const UNANSWERED: u8 = 0xee;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 512 * 7 + i) as u8).collect()
}

fn disk(file: &File, access: Access) -> Backend {
    let file = file.try_clone().unwrap();
    Backend::Block(Disk { file, access, id: "calve-test-disk".into(), room: 0 })
}

fn image() -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&pattern(SECTORS as usize * 512), 0).unwrap();
    file
}

device_suite!(read_only_suite, || disk(&image(), Access::ReadOnly));
device_suite!(writable_suite, || disk(&image(), Access::ReadWrite));

#[test]
fn a_disk_with_room_reads_as_zeros_beyond_its_file() {
    let room = (SECTORS + 64) * 512;
    let file = image();
    let id = "room".to_owned();
    let roomy = Backend::Block(Disk {
        file: file.try_clone().unwrap(),
        access: Access::ReadOnly,
        id,
        room,
    });
    let rig = Rig::running(roomy);
    let driver = Driver::probe(&rig, 0, 0);
    let mut fixture = Fixture { rig, driver, file };
    // Two sectors of the file, and two beyond it; then some that are all beyond, and some beyond the room.
    let read = |fixture: &mut Fixture, sector| fixture.request(IN, sector, &[(DATA, 2048, true)]).0;
    assert_eq!(read(&mut fixture, SECTORS - 2), OK);
    let mut found = vec![1; 2048];
    fixture.rig.memory.read_slice(&mut found, GuestAddress(DATA)).unwrap();
    assert_eq!(found[..1024], pattern(SECTORS as usize * 512)[(SECTORS as usize - 2) * 512..]);
    assert!(found[1024..].iter().all(|byte| *byte == 0));
    assert_eq!(read(&mut fixture, SECTORS + 60), OK);
    assert_eq!(read(&mut fixture, SECTORS + 61), IOERR);
}

/// A disk, its driver, and the file behind them.
struct Fixture {
    rig: Rig,
    driver: Driver,
    file: File,
}

impl Fixture {
    fn new(access: Access) -> Self {
        Self::refusing(access, 0)
    }

    fn refusing(access: Access, features: u64) -> Self {
        let file = image();
        let rig = Rig::running(disk(&file, access));
        let driver = Driver::probe(&rig, 0, features);
        Self { rig, driver, file }
    }

    /// Makes a request with these data buffers; returns the status and the bytes reported.
    fn request(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> (u8, u32) {
        let memory = &self.rig.memory;
        memory.write_obj(kind, GuestAddress(HEADER)).unwrap();
        memory.write_obj(sector, GuestAddress(HEADER + 8)).unwrap();
        memory.write_obj(UNANSWERED, GuestAddress(STATUS)).unwrap();
        let mut buffers = vec![(HEADER, 16, false)];
        buffers.extend_from_slice(data);
        buffers.push((STATUS, 1, true));
        let head = self.driver.submit(&self.rig, 0, &buffers);
        let (used, written) = self.driver.used(&self.rig, 0);
        assert_eq!(used, head);
        (self.rig.memory.read_obj(GuestAddress(STATUS)).unwrap(), written)
    }

    fn guest(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rig.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn assert_broken(&self) {
        wait("NEEDS_RESET", || self.driver.status() & 0x40 != 0);
    }
}

#[test]
fn config_space_tells_size_and_limits() {
    let it = Fixture::new(Access::ReadOnly);
    assert_eq!(it.driver.config::<8>(0), SECTORS.to_le_bytes());
    assert_eq!(it.driver.config::<4>(8), SIZE_MAX.to_le_bytes());
    assert_eq!(it.driver.config::<4>(12), SEG_MAX.to_le_bytes());
    assert_eq!(it.driver.config::<4>(20), 512u32.to_le_bytes());
    // Any width, beyond the end as well.
    assert_eq!(it.driver.config::<1>(1), [8]);
    assert_eq!(it.driver.config::<8>(24), [0; 8]);
    assert_eq!(it.driver.config::<4>(0xffff_ffff), [0; 4]);
}

#[test]
fn features_follow_the_access() {
    let ro = 1 << VIRTIO_BLK_F_RO;
    let flush = 1 << VIRTIO_BLK_F_FLUSH;
    assert_eq!(Fixture::new(Access::ReadOnly).driver.offered & (ro | flush), ro);
    assert_eq!(Fixture::new(Access::ReadWrite).driver.offered & (ro | flush), flush);
}

#[test]
fn a_kick_may_come_through_the_register() {
    let mut it = Fixture::new(Access::ReadOnly);
    let memory = it.rig.memory.clone();
    memory.write_obj(0u64, GuestAddress(HEADER)).unwrap();
    memory.write_obj(0u64, GuestAddress(HEADER + 8)).unwrap();
    it.driver.rings[0].add(&[(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)]);
    it.driver.write(virtio_bindings::virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert_eq!(it.driver.used(&it.rig, 0).1, 513);
}

#[test]
fn reads_into_scattered_buffers() {
    let mut it = Fixture::new(Access::ReadOnly);
    let parts = [(DATA, 512, true), (DATA + 0x1000, 100, true), (DATA + 0x3000, 412, true)];
    assert_eq!(it.request(IN, 3, &parts), (OK, 1025));
    let expected = pattern(SECTORS as usize * 512)[3 * 512..5 * 512].to_vec();
    let got = [it.guest(DATA, 512), it.guest(DATA + 0x1000, 100), it.guest(DATA + 0x3000, 412)];
    assert_eq!(got.concat(), expected);
}

#[test]
fn writes_reach_the_file() {
    for features in [0, 1 << VIRTIO_BLK_F_FLUSH, 1 << 29] {
        let mut it = Fixture::refusing(Access::ReadWrite, features);
        it.rig.memory.write_slice(&[0xab; 1024], GuestAddress(DATA)).unwrap();
        let parts = [(DATA, 700, false), (DATA + 700, 324, false)];
        assert_eq!(it.request(OUT, SECTORS - 2, &parts), (OK, 1));
        assert_eq!(it.request(FLUSH, 0, &[]), (OK, 1));
        let mut bytes = [0; 1536];
        it.file.read_exact_at(&mut bytes, (SECTORS - 3) * 512).unwrap();
        assert_eq!(
            bytes[..512],
            pattern(SECTORS as usize * 512)[(SECTORS as usize - 3) * 512..][..512]
        );
        assert_eq!(bytes[512..], [0xab; 1024]);
    }
}

#[test]
fn a_read_only_disk_refuses_writes() {
    let mut it = Fixture::new(Access::ReadOnly);
    it.rig.memory.write_slice(&[0xab; 512], GuestAddress(DATA)).unwrap();
    assert_eq!(it.request(OUT, 0, &[(DATA, 512, false)]), (IOERR, 1));
    assert_eq!(it.request(FLUSH, 0, &[]), (UNSUPP, 1));
    let mut bytes = [0; 512];
    it.file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes[..], pattern(512)[..]);
}

#[test]
fn sectors_are_bounded() {
    let mut it = Fixture::new(Access::ReadWrite);
    let sector = [(DATA, 512, true)];
    assert_eq!(it.request(IN, SECTORS - 1, &sector), (OK, 513));
    for bad in [SECTORS, u64::MAX, u64::MAX / 512, 1 << 55, 1 << 63] {
        assert_eq!(it.request(IN, bad, &sector), (IOERR, 1), "sector {bad:#x}");
        assert_eq!(it.request(OUT, bad, &[(DATA, 512, false)]), (IOERR, 1), "sector {bad:#x}");
    }
    assert_eq!(it.request(IN, SECTORS - 1, &[(DATA, 1024, true)]), (IOERR, 1));
    assert_eq!(it.request(IN, 0, &[(DATA, 511, true)]), (IOERR, 1));
    assert_eq!(it.request(IN, 0, &[(DATA, 512, false), (DATA, 512, true)]), (IOERR, 1));
    assert_eq!(it.request(IN, 0, &[]), (OK, 1));
}

#[test]
fn a_disk_that_shrank_is_an_error_not_a_hang() {
    let mut it = Fixture::new(Access::ReadOnly);
    it.file.set_len(1024).unwrap();
    assert_eq!(it.request(IN, 1, &[(DATA, 1024, true)]), (IOERR, 1));
    assert_eq!(it.request(IN, 1, &[(DATA, 512, true)]), (OK, 513));
}

#[test]
fn tells_its_id_and_refuses_what_it_does_not_know() {
    let mut it = Fixture::new(Access::ReadOnly);
    assert_eq!(it.request(GET_ID, 0, &[(DATA, 20, true)]), (OK, 21));
    assert_eq!(it.guest(DATA, 20), b"calve-test-disk\0\0\0\0\0");
    assert_eq!(it.request(GET_ID, 0, &[(DATA, 5, true)]), (OK, 6));
    for kind in [2, 3, 11, 13, u32::MAX] {
        assert_eq!(it.request(kind, 0, &[(DATA, 512, true)]), (UNSUPP, 1));
    }
}

#[test]
fn huge_requests_are_refused_before_any_work() {
    let mut it = Fixture::new(Access::ReadOnly);
    // Each buffer lies in guest memory, but all together are beyond the limit that was told.
    let many = vec![(DATA, 16 << 20, true); SEG_MAX as usize];
    assert_eq!(it.request(IN, 0, &many), (IOERR, 1));
    let fitting = vec![(DATA, 4096, true); SEG_MAX as usize];
    assert_eq!(it.request(IN, 0, &fitting), (OK, 62 * 4096 + 1));
}

#[test]
fn chains_without_header_or_status_break_the_queue() {
    let cases: [&[Buffer]; 8] = [
        &[(HEADER, 16, false)],
        &[(STATUS, 1, true)],
        &[(HEADER, 15, false), (STATUS, 1, true)],
        &[(HEADER, 16, false), (STATUS, 0, true)],
        &[(STATUS, 1, true), (HEADER, 16, false)],
        &[(HEADER, 16, false), (u64::MAX - 8, 64, true)],
        &[(HEADER, 16, false), (1 << 40, 512, true), (STATUS, 1, true)],
        &[(HEADER, u32::MAX, false), (STATUS, 1, true)],
    ];
    for chain in cases {
        let mut it = Fixture::new(Access::ReadOnly);
        it.driver.submit(&it.rig, 0, chain);
        it.assert_broken();
    }
}

#[test]
fn loops_and_wild_indices_break_the_queue() {
    let write = |it: &mut Fixture, flags: u16, next: u16| {
        it.driver.rings[0].describe(0, Descriptor::new(HEADER, 16, flags, next));
        it.driver.rings[0].publish(0);
        it.driver.kick(&it.rig, 0);
    };
    // A loop of itself, a next beyond the table, an indirect table of length 2³²−16 or 1.
    for (flags, next) in [(1, 0), (1, 128), (1, u16::MAX)] {
        let mut it = Fixture::new(Access::ReadOnly);
        write(&mut it, flags, next);
        it.assert_broken();
    }
    for len in [u32::MAX - 15, 1, 16, 1 << 20] {
        let mut it = Fixture::new(Access::ReadOnly);
        it.driver.rings[0].describe(0, Descriptor::new(HEADER, len, 4, 0));
        it.driver.rings[0].publish(0);
        it.driver.kick(&it.rig, 0);
        it.assert_broken();
    }
    let mut it = Fixture::new(Access::ReadOnly);
    it.driver.rings[0].publish(500);
    it.driver.kick(&it.rig, 0);
    it.assert_broken();
    // And only a reset helps.
    it.driver.set_up(&it.rig, 0);
    assert_eq!(it.request(IN, 0, &[(DATA, 512, true)]), (OK, 513));
}

#[test]
fn requests_before_a_pause_are_done_and_those_during_it_wait() {
    let mut it = Fixture::new(Access::ReadOnly);
    let memory = it.rig.memory.clone();
    memory.write_obj(0u64, GuestAddress(HEADER)).unwrap();
    memory.write_obj(5u64, GuestAddress(HEADER + 8)).unwrap();
    let chain = [(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)];
    let states = it.rig.thread.pause().unwrap();
    // Submitted while nobody listens: the kick is lost in the machine that is left behind.
    it.driver.submit(&it.rig, 0, &chain);
    let other = Rig::over(memory, &[Kind::Block]);
    other.thread.attach(vec![disk(&it.file, Access::ReadOnly)]).unwrap();
    other.thread.load(states).unwrap();
    other.thread.run().unwrap();
    it.driver.move_to(&other);
    it.rig = other;
    assert_eq!(it.driver.used(&it.rig, 0).1, 513);
    assert_eq!(it.guest(DATA, 512), pattern(6 * 512)[5 * 512..]);
    assert_eq!(it.request(IN, 1, &[(DATA, 512, true)]), (OK, 513));
}

#[test]
fn another_disk_is_refused_at_load() {
    let it = Fixture::new(Access::ReadOnly);
    let states = it.rig.thread.pause().unwrap();
    let other = Rig::shell(&[Kind::Block]);
    let file = tempfile::tempfile().unwrap();
    file.set_len(512).unwrap();
    other.thread.attach(vec![disk(&file, Access::ReadOnly)]).unwrap();
    let error = other.thread.load(states.clone()).unwrap_err();
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("2048 sectors") && text.contains("1;"), "{text}");
    // Read-only at save, writable now: the driver was promised what is not so any more.
    other.thread.attach(vec![disk(&it.file, Access::ReadWrite)]).unwrap();
    assert!(matches!(other.thread.load(states), Err(Error::State { slot: 0, .. })));
}

#[test]
fn odd_images_are_refused() {
    let rig = Rig::shell(&[Kind::Block]);
    let file = tempfile::tempfile().unwrap();
    file.set_len(1000).unwrap();
    let result = rig.thread.attach(vec![disk(&file, Access::ReadOnly)]);
    assert!(matches!(result, Err(Error::DiskTail { bytes: 1000, .. })));
    let (pipe, _end) = nix::unistd::pipe().unwrap();
    let result = rig.thread.attach(vec![disk(&File::from(pipe), Access::ReadOnly)]);
    assert!(matches!(result, Err(Error::DiskSize { .. })));
    assert!(matches!(rig.thread.run(), Err(Error::Detached(0))));
}

/// Any chain at all: the device answers it or reports a broken queue, and a reset brings it back.
#[test]
fn random_chains_are_answered_or_break_the_queue() {
    let address = prop_oneof![Just(HEADER), Just(DATA), Just(STATUS), any::<u64>()];
    let len = prop_oneof![0u32..64, Just(512), Just(4096), any::<u32>()];
    let descriptor = (address, len, 0u16..8, 0u16..12);
    let strategy =
        (prop::collection::vec(descriptor, 1..10), 0u16..12, 0u32..10, 0u64..SECTORS + 2);
    let cases = Cases { cases: 300, failure_persistence: None, ..Cases::default() };
    let mut it = Fixture::new(Access::ReadWrite);
    let it = std::cell::RefCell::new(&mut it);
    TestRunner::new(cases)
        .run(&strategy, |(descriptors, head, kind, sector)| {
            let it = &mut **it.borrow_mut();
            it.rig.memory.write_obj(kind, GuestAddress(HEADER)).unwrap();
            it.rig.memory.write_obj(sector, GuestAddress(HEADER + 8)).unwrap();
            for (index, (address, len, flags, next)) in (0..).zip(descriptors) {
                let descriptor = Descriptor::new(address, len, flags, next);
                it.driver.rings[0].describe(index, descriptor);
            }
            it.driver.rings[0].publish(head);
            it.driver.kick(&it.rig, 0);
            let mut answered = false;
            wait("answer or NEEDS_RESET", || {
                answered = it.driver.rings[0].take_used().is_some();
                answered || it.driver.status() & 0x40 != 0
            });
            it.driver.set_up(&it.rig, 0);
            Ok(())
        })
        .unwrap();
}
