//! What a guest can do with its processor alone: ports, interrupt controllers, exits without end, and its own death.

use calve_vmm::Exit;
use calve_vmm::layout::{
    ACPI_TABLES, COM1, HOLE_START, IOAPIC_BASE, KVM_IDENTITY_MAP, KVM_TSS, LAPIC_BASE, RESET,
    VMGENID,
};
use proptest::collection::vec;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use crate::common::eventually;
use crate::host::{Cost, DISK, DISK_BYTE, Host, WRITABLE_DISK, register};
use crate::queue::{Request, last_data, prepare_last};
use crate::script::Script;

/// What is loaded goes here, and says nothing.
const NOWHERE: u64 = 0x17_0100;
/// The guest counts here.
const ROUNDS: u64 = 0x17_0000;

fn rounds(host: &Host) -> u32 {
    host.memory().read_obj(GuestAddress(ROUNDS)).unwrap()
}

#[test]
#[ignore = "needs /dev/kvm"]
fn ports_of_every_number_and_width_do_no_harm() {
    let ports = (0..0x1000).chain((0x1000..=u16::MAX).step_by(17)).filter(|&port| port != RESET);
    let mut script = Script::new();
    for (port, width) in ports.zip([1, 2, 4].into_iter().cycle()) {
        // A sleep type without the bit that enables it, and no command of the keyboard controller's.
        script = script.input(width, port).output(width, port, 0);
    }
    let mut host = Host::new(&script.read_and_reset());
    prepare_last(host.memory());
    assert_eq!(host.finish(), Exit::Reset);
    assert_eq!(last_data(host.memory()), [DISK_BYTE; 512]);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn strings_of_any_length_go_through_a_port() {
    const LEN: u64 = 100_000;
    let script = Script::new()
        .output_string(COM1, LEN)
        .input_string(COM1, LEN)
        .output_string(0x1234, LEN)
        .input_string(0x1234, LEN);
    let mut host = Host::new(&script.read_and_reset());
    prepare_last(host.memory());
    assert_eq!(host.finish(), Exit::Reset);
    assert_eq!(host.output.bytes().len() as u64, LEN);
    assert_eq!(last_data(host.memory()), [DISK_BYTE; 512]);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn exits_without_end_can_be_stopped_at_any_of_them() {
    let before = Cost::now();
    let script = Script::new()
        .output(1, 0x80, 7)
        .input(4, 0xcf8)
        .load(4, register(DISK, 0), NOWHERE)
        .load(8, HOLE_START + 0x1000, NOWHERE)
        .store(2, HOLE_START + 0x1001, 3)
        .add(ROUNDS, 1)
        .repeat_from(0);
    let mut host = Host::new(&script);
    for _ in 0..100 {
        let start = rounds(&host);
        host.machine.resume().unwrap();
        eventually("it goes on", || rounds(&host) > start);
        host.machine.pause().unwrap();
    }
    host.can_be_frozen_and_thawed();
    host.machine.resume().unwrap();
    drop(host);
    before.has_grown_by_at_most(Cost { descriptors: 0, threads: 0, kib: 8 << 10 });
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_that_stands_still_can_be_frozen_and_thawed() {
    let mut host = Host::new(&Script::new().add(ROUNDS, 1).halt());
    host.machine.resume().unwrap();
    eventually("it is there", || rounds(&host) == 1);
    host.can_be_frozen_and_thawed();
    assert_eq!(host.machine.exit(), None);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_that_dies_has_reset_itself() {
    let mut host = Host::new(&Script::new().die());
    assert_eq!(host.finish(), Exit::Reset);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn what_the_host_wrote_for_the_guest_is_the_guests_to_spoil() {
    let mut script = Script::new();
    // The generation identifier is in no snapshot; tables are the guest's; KVM's pages on Intel
    // are no memory elsewhere.
    for start in [VMGENID, ACPI_TABLES, KVM_IDENTITY_MAP, KVM_TSS] {
        for offset in (0..0x1000).step_by(8) {
            script = script.store(8, start + offset, u64::MAX);
        }
    }
    let waiting = script.add(ROUNDS, 1);
    let here = waiting.here();
    let mut host = Host::new(&waiting.repeat_from(here));
    host.machine.resume().unwrap();
    eventually("all is spoilt", || rounds(&host) == 1);
    host.can_be_frozen_and_thawed();
}

#[test]
#[ignore = "needs /dev/kvm"]
fn disks_take_no_writes_where_they_must_not() {
    // The read-only disk; and one beyond the end of the other.
    for (device, sector) in [(DISK, 0_u64), (WRITABLE_DISK, 128), (WRITABLE_DISK, u64::MAX)] {
        let request = Request::at(0x28_0000);
        let script = Script::new().start(device, 0, &[request.queue]).notify(device, 0);
        let script = script.wait_until(request.queue.used + 2, 1);
        let mut host = Host::new(&script.read_and_reset());
        prepare_last(host.memory());
        request.prepare(host.memory(), 1);
        host.memory().write_obj(sector, GuestAddress(0x28_3008)).unwrap();
        host.memory().write_obj(0xaa_u8, GuestAddress(request.status())).unwrap();
        assert_eq!(host.finish(), Exit::Reset);
        // VIRTIO_BLK_S_IOERR (§5.2.6).
        assert_eq!(host.memory().read_obj::<u8>(GuestAddress(request.status())).unwrap(), 1);
        assert_eq!(host.disks_are_untouched(), [true; 2]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    /// Timers, interrupts to itself, INIT: it may die of it, or stand still, and no more.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn interrupt_controllers_can_be_told_anything(
        writes in vec((any::<bool>(), 0..0x40_u64, any::<u32>()), 100)
    ) {
        let before = Cost::now();
        let mut script = Script::new();
        for (local, register, value) in writes {
            script = if local {
                script.write(u64::from(LAPIC_BASE) + 16 * register, value)
            } else {
                script
                    .write(u64::from(IOAPIC_BASE), u32::try_from(register).unwrap())
                    .write(u64::from(IOAPIC_BASE) + 0x10, value)
            };
        }
        let script = script.add(ROUNDS, 1).halt();
        let mut host = Host::new(&script);
        host.machine.resume().unwrap();
        // An INIT leaves it waiting for a processor that would start it: neither dead nor through.
        let patience = std::time::Instant::now();
        while host.machine.exit().is_none() && rounds(&host) == 0 && patience.elapsed().as_secs() < 1 {
            std::thread::yield_now();
        }
        if host.machine.exit().is_none() {
            host.can_be_frozen_and_thawed_or_dies();
        }
        drop(host);
        before.has_grown_by_at_most(Cost { descriptors: 0, threads: 0, kib: 8 << 10 });
    }
}
