//! Registers of devices: written in any order, and reached in every way that a processor has.

use calve_vmm::Exit;
use calve_vmm::layout::VIRTIO_WINDOW;
use proptest::collection::vec;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use crate::common::eventually;
use crate::host::{Cost, DEVICES, DISK_BYTE, Host, MEMORY_MIB, register};
use crate::queue::{last_data, prepare_last};
use crate::script::{Script, WIDTHS};

/// What is loaded goes here, and says nothing.
const NOWHERE: u64 = 0x17_0100;
/// The guest is through with its accesses; it may go on.
const DONE: u64 = 0x17_0000;
const GO: u64 = 0x17_0010;

#[test]
#[ignore = "needs /dev/kvm"]
fn accesses_of_every_width_and_alignment_do_no_harm() {
    let before = Cost::now();
    let mut script = Script::new();
    // Through the registers and some of the configuration, and over the end of the window.
    let offsets = || (0..0x110).chain(VIRTIO_WINDOW - 9..VIRTIO_WINDOW);
    for device in DEVICES {
        for (offset, width) in offsets().flat_map(|offset| WIDTHS.map(|width| (offset, width))) {
            let at = register(device, offset);
            script = script.load(width, at, NOWHERE).store(width, at, u64::MAX);
        }
    }
    let mut host = Host::new(&script.read_and_reset());
    prepare_last(host.memory());
    assert_eq!(host.finish(), Exit::Reset);
    assert_eq!(last_data(host.memory()), [DISK_BYTE; 512]);
    assert_eq!(host.disks_are_untouched(), [true; 2]);
    drop(host);
    before.has_grown_by_at_most(Cost { descriptors: 0, threads: 0, kib: 8 << 10 });
}

/// A write to a register, more often than not one that means something.
fn access() -> impl Strategy<Value = (u64, u64, u32)> {
    /// Registers that place a queue in memory, low and high halves.
    const LOW: [u64; 3] = [0x80, 0x90, 0xa0];
    const HIGH: [u64; 3] = [0x84, 0x94, 0xa4];
    // Away from the guest's own code and page tables, which a device may overwrite as it was told to.
    let places = prop_oneof![
        Just(0x2c_0000_u32),
        Just(0x2c_1000),
        Just(0x2c_2001),
        Just(MEMORY_MIB << 20),
        Just((MEMORY_MIB << 20) - 8),
        Just(u32::MAX),
    ];
    let small = prop_oneof![0_u32..5, Just(0xb), Just(0xf), Just(16), Just(0x80), any::<u32>()];
    let status = prop_oneof![
        4 => prop_oneof![Just(1_u32), Just(3), Just(0xb), Just(0xf)],
        1 => prop_oneof![Just(0_u32), Just(0x80), any::<u32>()],
    ];
    let register = prop_oneof![
        (prop::sample::select(&LOW), places).boxed(),
        (prop::sample::select(&HIGH), prop_oneof![4 => Just(0_u32), 1 => any::<u32>()]).boxed(),
        (Just(0x70_u64), status).boxed(),
        (prop_oneof![Just(0x14_u64), Just(0x24), Just(0x30), Just(0x38)], small.clone()).boxed(),
        (prop_oneof![Just(0x20_u64), Just(0x44), Just(0x50), Just(0x64)], small.clone()).boxed(),
        ((0..0x44_u64).prop_map(|word| 4 * word), small)
            .prop_filter("no queue anywhere", |(offset, _)| !(0x80..=0xa4).contains(offset))
            .boxed(),
    ];
    (prop::sample::select(&DEVICES), register)
        .prop_map(|(device, (offset, value))| (device, offset, value))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn registers_can_be_written_in_any_order(accesses in vec(access(), 300)) {
        let before = Cost::now();
        let mut script = Script::new();
        for (device, offset, value) in accesses {
            script = script.write(register(device, offset), value);
        }
        let script = script.write(DONE, 1);
        let waiting = script.here();
        let script = script.repeat_until(GO, waiting);
        let mut host = Host::new(&script.read_and_reset());
        prepare_last(host.memory());
        host.machine.resume().unwrap();
        let done = || host.memory().read_obj::<u32>(GuestAddress(DONE)).unwrap() == 1;
        eventually("the guest is through", done);
        host.can_be_frozen_and_thawed();
        host.memory().write_obj(1_u32, GuestAddress(GO)).unwrap();
        prop_assert_eq!(host.finish(), Exit::Reset);
        prop_assert_eq!(last_data(host.memory()), [DISK_BYTE; 512]);
        drop(host);
        before.has_grown_by_at_most(Cost { descriptors: 0, threads: 0, kib: 8 << 10 });
    }
}
