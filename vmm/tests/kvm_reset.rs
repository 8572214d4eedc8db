//! Reset in place: a clone that has done its worst is, bit by bit, what it was when it was thawed.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]
#![allow(unsafe_code, reason = "the guests are assembled into this binary")]

mod common;

use std::fs::File;
use std::slice;

use calve_vmm::memory::{MemoryPlan, Stretch, Touched};
use calve_vmm::{Exit, Hypervisor, Machine, MachineError, MachineState, Shell, ThawMemory};
use common::{Mode, Output, attachments, boot, eventually};
use vm_memory::{Bytes, GuestAddress};

// Waits for a byte at 0x130000 that only a clone's owner writes. Then: counts into 512 pages from
// 2 MiB on, programs the PIT's channel 0 and 2 and the serial port's registers, masks the I/O
// APIC's first pin, sets the local APIC's timer, and goes on counting.
guest!(
    vandal,
    32,
    "xor ecx, ecx",
    "2: inc ecx",
    "mov [0x120000], ecx",
    "cmp byte ptr [0x130000], 1",
    "jne 2b",
    "mov al, 0x34",
    "out 0x43, al",
    "mov al, 0x12",
    "out 0x40, al",
    "out 0x40, al",
    "mov al, 0xb6",
    "out 0x43, al",
    "mov al, 0x77",
    "out 0x42, al",
    "out 0x42, al",
    "mov dx, 0x3ff",
    "mov al, 0x5a",
    "out dx, al",
    "mov dword ptr [0xfec00000], 0x10",
    "mov dword ptr [0xfec00010], 0x00010044",
    "mov dword ptr [0xfee000f0], 0x1ff",
    "mov dword ptr [0xfee00320], 0x20051",
    "mov dword ptr [0xfee00380], 0x1000000",
    "3: mov edi, 0x200000",
    "mov edx, 512",
    "4: inc ecx",
    "mov [edi], ecx",
    "add edi, 4096",
    "dec edx",
    "jnz 4b",
    "mov byte ptr [0x130001], 1",
    "jmp 3b"
);

/// What the tests thaw from.
struct Frozen {
    hypervisor: Hypervisor,
    state: MachineState,
    memory: File,
    plan: MemoryPlan,
}

impl Frozen {
    fn new(vcpus: u8, mib: u32) -> Self {
        let (mut machine, _) = boot(vandal(), Mode::Protected, mib, vcpus);
        machine.resume().unwrap();
        let counted = |m: &Machine| m.memory().read_obj::<u32>(GuestAddress(0x12_0000)).unwrap();
        eventually("the guest counts", || counted(&machine) > 100);
        machine.pause().unwrap();
        Self::of(&machine)
    }

    /// What a paused machine is now.
    fn of(machine: &Machine) -> Self {
        let state = machine.save().unwrap();
        let memory = machine.memory_file().unwrap().try_clone().unwrap();
        let len = memory.metadata().unwrap().len();
        let mut plan = MemoryPlan::whole(len);
        // Some of what the guest writes is known, some is not.
        let at = Stretch { offset: 2 << 20, len: 64 * 4096 };
        plan.touched = vec![Touched { at, written: true }];
        Self { hypervisor: Hypervisor::open().unwrap(), state, memory, plan }
    }

    fn content(&self) -> ThawMemory<'_> {
        ThawMemory {
            files: slice::from_ref(&self.memory),
            plan: &self.plan,
            recorded: false,
            huge_pages: false,
        }
    }

    fn thaw(&self) -> Machine {
        let shell = Shell::new(&self.hypervisor, self.state.shape()).unwrap();
        shell.thaw(&self.state, self.content(), attachments(&Output::default())).unwrap()
    }

    fn reset(&self, machine: &mut Machine) {
        machine.reset(&self.state, self.content(), attachments(&Output::default())).unwrap();
    }
}

/// All guest memory.
fn memory(machine: &Machine) -> Vec<u8> {
    let mut all = Vec::new();
    for region in machine.regions() {
        let mut bytes = vec![0; usize::try_from(region.size).unwrap()];
        machine.memory().read_slice(&mut bytes, GuestAddress(region.gpa)).unwrap();
        all.extend(bytes);
    }
    all
}

fn do_damage(machine: &mut Machine) {
    machine.memory().write_obj(1_u8, GuestAddress(0x13_0000)).unwrap();
    machine.resume().unwrap();
    let done = |m: &Machine| m.memory().read_obj::<u8>(GuestAddress(0x13_0001)).unwrap() == 1;
    eventually("the guest has done its worst", || done(machine));
    machine.pause().unwrap();
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_reset_machine_is_what_was_thawed_bit_by_bit() {
    let frozen = Frozen::new(1, 16);
    let mut machine = frozen.thaw();
    let (fresh, fresh_memory) = (machine.save().unwrap(), memory(&machine));
    assert_eq!(fresh.differences(&frozen.state), [""; 0], "a thaw leaves something out");
    for round in 0..5 {
        do_damage(&mut machine);
        let damaged = machine.save().unwrap().differences(&fresh);
        for part in ["serial", "timer", "interrupt controllers", "vcpu.0: regs", "vcpu.0: lapic"] {
            assert!(damaged.iter().any(|found| found == part), "{part} is as before: {damaged:?}");
        }
        assert!(memory(&machine) != fresh_memory);
        frozen.reset(&mut machine);
        assert_eq!(machine.save().unwrap().differences(&fresh), [""; 0], "round {round}");
        assert!(memory(&machine) == fresh_memory, "round {round}: memory differs");
    }
    // And it runs.
    machine.resume().unwrap();
    let count = machine.memory().read_obj::<u32>(GuestAddress(0x12_0000)).unwrap();
    eventually("the guest counts on", || {
        machine.memory().read_obj::<u32>(GuestAddress(0x12_0000)).unwrap() > count + 100
    });
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_running_machine_with_several_processors_and_two_regions_is_reset() {
    let frozen = Frozen::new(4, 3200);
    let mut machine = frozen.thaw();
    let fresh = machine.save().unwrap();
    machine.memory().write_obj(7_u64, GuestAddress((4 << 30) + 64)).unwrap();
    do_damage(&mut machine);
    machine.resume().unwrap();
    frozen.reset(&mut machine);
    assert_eq!(machine.save().unwrap().differences(&fresh), [""; 0]);
    let high: u64 = machine.memory().read_obj(GuestAddress((4 << 30) + 64)).unwrap();
    assert_eq!(high, 0);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn each_reset_makes_another_machine() {
    let frozen = Frozen::new(1, 8);
    let mut machine = frozen.thaw();
    let mut seen = vec![machine.generation().unwrap()];
    for _ in 0..10 {
        frozen.reset(&mut machine);
        seen.push(machine.generation().unwrap());
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

// When told: reads what may have been left for it beside RAM, in the generation identifier's page and in a machine-check bank
// (Intel SDM vol. 4, IA32_MC2_ADDR; IA32_MC2_STATUS of AMD's can be written where HWCR says so), and leaves something there.
guest!(
    hoarder,
    32,
    "2: cmp byte ptr [0x130000], 1",
    "jne 2b",
    "mov eax, [0xc0000ff8]",
    "mov [0x120000], eax",
    "mov ecx, 0x40a",
    "rdmsr",
    "mov [0x120004], eax",
    "mov dword ptr [0xc0000ff8], 0x5ec2e7",
    "mov ecx, 0x40a",
    "mov eax, 0x5ec2e7",
    "xor edx, edx",
    "wrmsr",
    "mov byte ptr [0x130001], 1",
    "3: jmp 3b"
);

#[test]
#[ignore = "needs /dev/kvm"]
fn nothing_is_left_for_the_next_request_beside_memory() {
    let (booted, _) = boot(hoarder(), Mode::Protected, 4, 1);
    let frozen = Frozen::of(&booted);
    let mut machine = frozen.thaw();
    for round in 0..3 {
        do_damage(&mut machine);
        let found: [u32; 2] =
            [0x12_0000, 0x12_0004].map(|at| machine.memory().read_obj(GuestAddress(at)).unwrap());
        assert_eq!(found, [0, 0], "round {round}: the page, the register");
        frozen.reset(&mut machine);
    }
}

// Turns itself off when told.
guest!(
    mortal,
    32,
    "2: cmp byte ptr [0x130000], 1",
    "jne 2b",
    "mov dx, 0x600",
    "mov al, 0x34",
    "out dx, al",
    "3: jmp 3b"
);

#[test]
#[ignore = "needs /dev/kvm"]
fn the_dead_and_the_never_thawed_are_not_reset() {
    let (mut booted, _) = boot(mortal(), Mode::Protected, 2, 1);
    let state = booted.save().unwrap();
    let memory = booted.memory_file().unwrap().try_clone().unwrap();
    let plan = MemoryPlan::whole(2 << 20);
    let content = || ThawMemory {
        files: slice::from_ref(&memory),
        plan: &plan,
        recorded: false,
        huge_pages: false,
    };
    let refused = booted.reset(&state, content(), attachments(&Output::default()));
    assert!(matches!(refused, Err(MachineError::Booted)));

    let hypervisor = Hypervisor::open().unwrap();
    let shell = Shell::new(&hypervisor, state.shape()).unwrap();
    let mut clone = shell.thaw(&state, content(), attachments(&Output::default())).unwrap();
    clone.memory().write_obj(1_u8, GuestAddress(0x13_0000)).unwrap();
    clone.resume().unwrap();
    assert_eq!(clone.wait(), Exit::PowerOff);
    let refused = clone.reset(&state, content(), attachments(&Output::default()));
    assert!(matches!(refused, Err(MachineError::Ended(Exit::PowerOff))));
}
