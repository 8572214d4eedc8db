//! Any accesses to the registers of three devices (VIRTIO 1.3, §4.2.2), between turns, saves and loads.
//!
//! What must hold: a driver that has not got its features accepted is never ready; a reset is a reset; identity and
//! config space never change; what was saved can be loaded, and is then the same.

use std::fs::File;

use calve_vmm::fuzzing::{ByHand, GuestMemory};
use calve_vmm::virtio::{Access, Backend, Disk, VsockHost};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::input::{Input, Output};
use crate::{Seeds, memory};

/// Devices.
const SLOTS: usize = 3;
/// Turns after which the devices must be done.
const TURNS: usize = 10_000;
const STATUS: u64 = 0x70;

/// Numbers of the records.
mod op {
    pub(super) const WRITE: u8 = 0;
    pub(super) const READ: u8 = 1;
    pub(super) const WORK: u8 = 2;
    pub(super) const RELOAD: u8 = 3;
    pub(super) const ODD_WRITE: u8 = 4;
    pub(super) const COUNT: u8 = 5;
}

fn devices(memory: &GuestMemory, disk: &File) -> ByHand {
    let file = disk.try_clone().expect("a descriptor");
    let disk = Disk { file, access: Access::ReadWrite, id: "fuzz".into(), room: 0 };
    let vsock = VsockHost::unconnected(3);
    let backends = vec![Backend::Block(disk), Backend::Vsock(vsock), Backend::Balloon];
    ByHand::new(memory.clone(), backends).expect("three devices")
}

pub fn fuzz(data: &[u8]) {
    let memory = memory::zeroed();
    let disk: File = memfd_create("disk", MFdFlags::MFD_CLOEXEC).expect("a memfd").into();
    disk.set_len(4096).expect("a disk");
    let mut devices = devices(&memory, &disk);
    devices.resume();
    let mut input = Input::new(data);
    while !input.is_empty() {
        let (op, slot) = (input.u8() % op::COUNT, usize::from(input.u8()) % SLOTS);
        match op {
            // Registers are words below 0x200; a byte says which.
            op::WRITE => {
                let (register, value) = (4 * u64::from(input.u8()), input.u32());
                devices.transport(slot).write(register, &value.to_le_bytes());
                if (register, value) == (STATUS, 0) {
                    assert_eq!(word(&devices, slot, STATUS), 0, "a reset");
                }
            }
            op::ODD_WRITE => {
                let at = input.u64();
                devices.transport(slot).write(at, input.bytes());
            }
            op::READ => {
                let (at, len) = (u64::from(input.u16()), usize::from(input.u8()));
                let mut bytes = vec![0xaa; len];
                devices.transport(slot).read(at, &mut bytes);
            }
            op::WORK => work(&mut devices),
            op::RELOAD => reload(&mut devices, &memory, &disk),
            _ => unreachable!("a number below the count"),
        }
        check(&devices, slot);
    }
    work(&mut devices);
    reload(&mut devices, &memory, &disk);
}

fn word(devices: &ByHand, slot: usize, register: u64) -> u32 {
    let mut word = [0; 4];
    devices.transport(slot).read(register, &mut word);
    u32::from_le_bytes(word)
}

fn check(devices: &ByHand, slot: usize) {
    let status = word(devices, slot, STATUS);
    let ladder = [1, 2, 8, 4];
    let steps = ladder.map(|bit| status & bit != 0);
    assert!(steps.is_sorted_by(|a, b| a >= b), "status {status:#x} skips a step");
    assert_eq!(word(devices, slot, 0), 0x7472_6976, "the magic");
    assert_eq!(word(devices, slot, 8), devices.transport(slot).kind().id(), "the kind");
    let mut config = [0; 24];
    devices.transport(slot).read(0x100, &mut config);
    let expected: u64 = [8, 3, 0][slot];
    assert_eq!(config[..8], expected.to_le_bytes(), "the config space");
}

fn work(devices: &mut ByHand) {
    let done = (0..TURNS).any(|_| !devices.turn() && !devices.turn());
    assert!(done, "a device that has something to do for ever");
}

fn reload(devices: &mut ByHand, memory: &GuestMemory, disk: &File) {
    devices.suspend();
    let states = devices.save();
    let broken = (0..SLOTS).any(|slot| word(devices, slot, STATUS) & 0xc0 != 0);
    let mut other = self::devices(memory, disk);
    other.load(states.clone()).expect("what was saved can be loaded");
    // How far a device came that waits for its reset is not kept.
    assert!(broken || other.save() == states, "{states:?} became {:?}", other.save());
    *devices = other;
    devices.resume();
}

pub fn seeds() -> Seeds {
    let write = |out: Output, slot, register: u16, value| {
        out.u8(op::WRITE).u8(slot).u8((register / 4) as u8).u32(value)
    };
    let probe = |slot: u8, queues: u32, size: u32| {
        let mut out = Output::new();
        for (register, value) in [
            (0x70, 0),
            (0x70, 1),
            (0x70, 3),
            (0x24, 1),
            (0x20, 1),
            (0x24, 0),
            (0x20, 1 << 29),
            (0x70, 0xb),
        ] {
            out = write(out, slot, register, value);
        }
        for queue in 0..queues {
            let base = 0x4000 * u32::from(slot) + 0x1000 * queue;
            for (register, value) in [
                (0x30, queue),
                (0x38, size),
                (0x80, base),
                (0x90, base + 0x800),
                (0xa0, base + 0xa00),
                (0x44, 1),
            ] {
                out = write(out, slot, register, value);
            }
        }
        write(out, slot, 0x70, 0xf).u8(op::WORK).u8(slot)
    };
    let kick = |out: Output, slot| write(out, slot, 0x50, 0).u8(op::WORK).u8(slot);
    let reset = write(kick(probe(0, 1, 64), 0), 0, 0x70, 0).u8(op::WORK).u8(0);
    vec![
        ("block", kick(probe(0, 1, 128), 0).u8(op::RELOAD).u8(0).done()),
        ("vsock", kick(probe(1, 3, 16), 1).u8(op::RELOAD).u8(0).done()),
        ("balloon", kick(probe(2, 3, 64), 2).u8(op::RELOAD).u8(0).done()),
        ("reset", reset.done()),
        ("bad-size", probe(0, 1, 3).done()),
        ("failed", write(probe(0, 1, 8), 0, 0x70, 0x80).done()),
        ("config", Output::new().u8(op::READ).u8(1).u16(0x104).u8(200).done()),
        ("odd", Output::new().u8(op::ODD_WRITE).u8(0).u64(0x70).bytes(&[1]).done()),
    ]
}
