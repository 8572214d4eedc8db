//! The `state` file of a snapshot: sections, the machine in them, and its devices, loaded and let run.
//!
//! What decodes must encode to the very same bytes. Devices that take their state over must be able to run, over memory
//! in which nothing is, and to be saved again.

use calve_snapshots::{Architecture, Section, State};
use calve_vmm::fuzzing::{ByHand, blank_state, devices};
use calve_vmm::virtio::{Access, Backend, DeviceState, Disk, VsockHost};
use calve_vmm::{MachineState, Shape};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::{Seeds, memory};

/// Turns after which devices must be done: none has more than a queue of chains to take.
const TURNS: usize = 10_000;
/// Sectors of each disk, and the guest's context id: a state with others does not fit and is refused.
const SECTORS: u64 = 8;
const CID: u32 = 3;

pub fn fuzz(data: &[u8]) {
    let Ok(state) = State::try_from(data) else { return };
    assert_eq!(state.encode(), data, "the state file");
    let sections: Vec<_> = state.sections().iter().map(section).collect();
    let Ok(machine) = MachineState::try_from(&sections[..]) else { return };
    let mut again = machine.to_sections().expect("what was decoded can be encoded");
    again.sort_by(|a, b| a.name.cmp(&b.name));
    let mut sections = sections;
    sections.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(again, sections, "the sections");
    assert_eq!(machine.differences(&machine), [""; 0]);
    let _ = machine.cpuid().count();
    run(machine.shape(), devices(&machine).to_vec());
}

fn section(section: &Section) -> calve_vmm::Section {
    let Section { name, version, bytes } = section.clone();
    calve_vmm::Section { name, version, bytes }
}

/// Devices of a machine of this shape, with nothing in its memory.
fn fresh(shape: Shape) -> ByHand {
    let disk = || {
        let file: std::fs::File =
            memfd_create("disk", MFdFlags::MFD_CLOEXEC).expect("a memfd").into();
        file.set_len(512 * SECTORS).expect("a disk");
        Backend::Block(Disk { file, access: Access::ReadWrite, id: "fuzz".into(), room: 0 })
    };
    let mut backends: Vec<_> = (0..shape.disks()).map(|_| disk()).collect();
    backends.extend([Backend::Vsock(VsockHost::unconnected(CID)), Backend::Balloon]);
    ByHand::new(memory::zeroed(), backends).expect("devices")
}

fn run(shape: Shape, states: Vec<DeviceState>) {
    let mut devices = fresh(shape);
    if devices.load(states).is_err() {
        return;
    }
    devices.resume();
    let done = (0..TURNS).any(|_| !devices.turn() && !devices.turn());
    assert!(done, "a device that has something to do for ever");
    devices.suspend();
    devices.load(devices.save()).expect("what was saved can be loaded");
}

pub fn seeds() -> Seeds {
    let file = |shape: Shape, devices| {
        let sections = blank_state(shape, devices).to_sections().expect("a state of ours");
        let sections = sections.into_iter().map(|section| {
            let calve_vmm::Section { name, version, bytes } = section;
            Section { name, version, bytes }
        });
        State::new(Architecture::X86_64, sections.collect()).expect("a state of ours").encode()
    };
    let small = Shape::new(2, 1, 1).expect("a shape");
    let large = Shape::new(4096, 2, 2).expect("a shape");
    let started = |shape| {
        let mut devices = fresh(shape);
        devices.resume();
        for slot in 0..usize::from(small.devices()) {
            start(&devices, slot, 0x1_0000 * slot as u32 % 0x2_0000);
        }
        devices.turn();
        devices.suspend();
        devices.save()
    };
    vec![
        ("power-on", file(small, fresh(small).save())),
        ("running", file(small, started(small))),
        ("two-of-each", file(large, fresh(large).save())),
    ]
}

/// Sets a device up as a driver does.
fn start(devices: &ByHand, slot: usize, base: u32) {
    let transport = devices.transport(slot);
    let write = |register: u64, value: u32| transport.write(register, &value.to_le_bytes());
    for (register, value) in [(0x70, 1), (0x70, 3), (0x24, 1), (0x20, 1), (0x70, 0xb)] {
        write(register, value);
    }
    for queue in 0..transport.kind().queues() as u32 {
        let base = base + 0x1000 * queue;
        for (register, value) in [
            (0x30, queue),
            (0x38, 16),
            (0x80, base),
            (0x90, base + 0x400),
            (0xa0, base + 0x600),
            (0x44, 1),
        ] {
            write(register, value);
        }
    }
    write(0x70, 0xf);
}
