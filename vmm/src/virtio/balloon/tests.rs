use std::os::unix::fs::MetadataExt;

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestRegionMmap};

use super::super::testing::{Driver, Rig, device_suite, wait};
use super::super::{Backend, Kind};
use super::*;

device_suite!(suite, || Backend::Balloon);

const MIB: u64 = 1 << 20;
const QUEUE: usize = REPORTING;

fn fill(rig: &Rig, at: u64, len: u64) {
    let bytes = vec![7; usize::try_from(len).unwrap()];
    rig.memory.write_slice(&bytes, GuestAddress(at)).unwrap();
}

fn byte(rig: &Rig, at: u64) -> u8 {
    rig.memory.read_obj(GuestAddress(at)).unwrap()
}

/// Reports ranges and waits for the answer.
fn report(rig: &Rig, driver: &mut Driver, ranges: &[(u64, u32, bool)]) {
    driver.submit(rig, QUEUE, ranges);
    driver.used(rig, QUEUE);
}

#[test]
fn reported_pages_of_a_clone_are_the_snapshots_again() {
    let rig = Rig::running(Backend::Balloon);
    let mut driver = Driver::probe(&rig, 0, 0);
    fill(&rig, 4 * MIB, 4 * MIB);
    // Whole pages only: what hangs over at either end stays.
    report(&rig, &mut driver, &[(4 * MIB, 1 << 20, true), (6 * MIB + 100, 8192, true)]);
    assert_eq!([byte(&rig, 4 * MIB), byte(&rig, 5 * MIB - 1), byte(&rig, 5 * MIB)], [0, 0, 7]);
    let at = 6 * MIB;
    assert_eq!([byte(&rig, at + 4095), byte(&rig, at + 4096), byte(&rig, at + 8192)], [7, 0, 7]);
    // What is not the device's to write is not taken, nor what the other queues bring.
    report(&rig, &mut driver, &[(7 * MIB, 4096, false)]);
    driver.submit(&rig, 0, &[(7 * MIB, 4096, true)]);
    driver.used(&rig, 0);
    assert_eq!(byte(&rig, 7 * MIB), 7);
}

#[test]
fn reported_pages_of_a_booted_machine_leave_its_file() {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.set_len(32 * MIB).unwrap();
    let mapping = MmapRegionBuilder::new(32 << 20)
        .with_file_offset(FileOffset::new(file.try_clone().unwrap(), 0))
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_SHARED)
        .build()
        .unwrap();
    let region = GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap();
    let rig = Rig::over(GuestMemory::from_regions(vec![region]).unwrap(), &[Kind::Balloon]);
    rig.thread.attach(vec![Backend::Balloon]).unwrap();
    rig.thread.run().unwrap();
    let mut driver = Driver::probe(&rig, 0, 0);
    fill(&rig, 8 * MIB, 8 * MIB);
    let held = file.metadata().unwrap().blocks();
    report(&rig, &mut driver, &[(8 * MIB, 4 << 20, true)]);
    let left = file.metadata().unwrap().blocks();
    assert_eq!((held - left) * 512, 4 * MIB);
    assert_eq!([byte(&rig, 8 * MIB), byte(&rig, 12 * MIB)], [0, 7]);
}

#[test]
fn ranges_outside_of_memory_are_nobodys() {
    let rig = Rig::running(Backend::Balloon);
    let mut driver = Driver::probe(&rig, 0, 0);
    fill(&rig, 31 * MIB, MIB);
    let ranges = [(31 * MIB, 8 << 20, true), (1 << 40, 4096, true), (u64::MAX - 4095, 4096, true)];
    for range in ranges {
        driver.submit(&rig, QUEUE, &[range]);
        driver.used(&rig, QUEUE);
    }
    assert_eq!(byte(&rig, 31 * MIB), 7, "a range that is not all memory is none");
    wait("the device goes on", || driver.status() == 0xf);
}
