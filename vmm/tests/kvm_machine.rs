//! Whole machines around tiny guests, on any `/dev/kvm`.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]
#![allow(unsafe_code, reason = "the guests are assembled into this binary")]

mod common;

use calve_vmm::memory::MemoryPlan;
use calve_vmm::{
    Exit, Hypervisor, MachineError, MachineState, Shape, Shell, ThawMemory, VcpuFault,
};
use common::{Mode, Output, attachments, boot, eventually};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

// Writes "ok" to the serial port, then resets through the ACPI reset register.
guest!(
    hello,
    32,
    "mov dx, 0x3f8",
    "mov al, 'o'",
    "out dx, al",
    "mov al, 'k'",
    "out dx, al",
    "mov dx, 0x602",
    "mov al, 1",
    "out dx, al",
    "2: jmp 2b"
);

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_speaks_and_resets() {
    let (mut machine, output) = boot(hello(), Mode::Protected, 2, 1);
    assert_eq!(machine.entered_ns(), None);
    machine.resume().unwrap();
    assert_eq!(machine.wait(), Exit::Reset);
    assert_eq!(output.text(), "ok");
    assert!(machine.entered_ns().is_some());
}

// Sleep type 5 with the enable bit, to the sleep control register.
guest!(power_off, 32, "mov dx, 0x600", "mov al, 0x34", "out dx, al", "2: jmp 2b");

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_turns_itself_off() {
    let (mut machine, _) = boot(power_off(), Mode::Protected, 2, 1);
    machine.resume().unwrap();
    assert_eq!(machine.wait(), Exit::PowerOff);
}

// Asks the processor who makes it run: leaf 0x40000000 of CPUID, whose EDX ends KVM's signature (Linux
// `Documentation/virt/kvm/x86/cpuid.rst`).
guest!(
    curious,
    32,
    "2: mov eax, 0x40000000",
    "cpuid",
    "mov [0x120000], edx",
    "inc dword ptr [0x120004]",
    "jmp 2b"
);

#[test]
#[ignore = "needs /dev/kvm"]
fn a_clone_has_the_processor_that_it_was_frozen_with() {
    const MIB: u64 = 1 << 20;
    let (booted, _) = boot(curious(), Mode::Protected, 2, 1);
    let mut sections = booted.save().unwrap().to_sections().unwrap();
    // As on a host whose KVM names itself otherwise.
    let vcpu = sections.iter_mut().find(|section| section.name == "vcpu.0").unwrap();
    let signature = vcpu.bytes.windows(12).position(|bytes| bytes == b"KVMKVMKVM\0\0\0").unwrap();
    vcpu.bytes[signature + 8..signature + 12].copy_from_slice(b"Calv");
    let state = MachineState::try_from(&sections[..]).unwrap();
    let files = [booted.memory_file().unwrap().try_clone().unwrap()];
    let plan = MemoryPlan::whole(2 * MIB);
    let memory = ThawMemory { files: &files, plan: &plan, recorded: false, huge_pages: false };
    let shell = Shell::new(&Hypervisor::open().unwrap(), state.shape()).unwrap();
    let mut clone = shell.thaw(&state, memory, attachments(&Output::default())).unwrap();
    assert_eq!(clone.save().unwrap().differences(&state), [""; 0]);
    clone.resume().unwrap();
    let asked = || clone.memory().read_obj::<u32>(GuestAddress(0x12_0004)).unwrap() > 0;
    eventually("it has asked", asked);
    let answer: [u8; 4] = clone.memory().read_obj(GuestAddress(0x12_0000)).unwrap();
    assert_eq!(&answer, b"Calv");
}

// An exception with no table to handle it in.
guest!(triple_fault, 64, "mov esp, 0x110000", "push 0", "push 0", "lidt [rsp]", "ud2", "2: jmp 2b");

#[test]
#[ignore = "needs /dev/kvm"]
fn a_triple_fault_is_a_reset() {
    let (mut machine, _) = boot(triple_fault(), Mode::Long, 2, 1);
    machine.resume().unwrap();
    assert_eq!(machine.wait(), Exit::Reset);
}

// Pulse of the reset line through the keyboard controller.
guest!(old_reset, 32, "mov al, 0xfe", "out 0x64, al", "2: jmp 2b");

#[test]
#[ignore = "needs /dev/kvm"]
fn the_keyboard_controller_resets_too() {
    let (mut machine, _) = boot(old_reset(), Mode::Protected, 2, 1);
    machine.resume().unwrap();
    assert_eq!(machine.wait(), Exit::Reset);
}

// Magic value of the first virtio window, then an address that nothing answers at.
guest!(
    mmio,
    32,
    "mov eax, [0xd0000000]",
    "mov dx, 0x3f8",
    "mov ecx, 4",
    "2: out dx, al",
    "shr eax, 8",
    "loop 2b",
    "mov al, [0xd0100000]",
    "out dx, al",
    "mov byte ptr [0xd0100000], 7",
    "mov dx, 0x602",
    "out dx, al",
    "3: jmp 3b"
);

#[test]
#[ignore = "needs /dev/kvm"]
fn device_windows_answer_and_empty_ones_float() {
    let (mut machine, output) = boot(mmio(), Mode::Protected, 2, 1);
    machine.resume().unwrap();
    assert_eq!(machine.wait(), Exit::Reset);
    assert_eq!(output.bytes(), b"virt\xff");
}

// Maps two megabytes above 4 GiB (a page directory at 0x10000), stores there and below 3 GiB,
// reads back.
guest!(
    over_the_hole,
    64,
    "mov ebx, 0x10000",
    "mov rax, 0x100000083",
    "mov [rbx], rax",
    "mov ecx, 0xa020",
    "mov eax, 0x10003",
    "mov [rcx], rax",
    "mov rbx, 0x100000040",
    "mov byte ptr [rbx], 'h'",
    "mov ecx, 0xbffffff0",
    "mov byte ptr [rcx], 'l'",
    "mov dx, 0x3f8",
    "mov al, [rbx]",
    "out dx, al",
    "mov al, [rcx]",
    "out dx, al",
    "mov dx, 0x602",
    "out dx, al",
    "2: jmp 2b"
);

#[test]
#[ignore = "needs /dev/kvm"]
fn memory_goes_on_above_the_hole() {
    let (mut machine, output) = boot(over_the_hole(), Mode::Long, 3080, 1);
    machine.resume().unwrap();
    assert_eq!(machine.wait(), Exit::Reset);
    assert_eq!(output.text(), "hl");
    let high: u8 = machine.memory().read_obj(GuestAddress(0x1_0000_0040)).unwrap();
    assert_eq!(high, b'h');
}

// Halts for good.
guest!(halt, 32, "2: hlt", "jmp 2b");

#[test]
#[ignore = "needs /dev/kvm"]
fn an_ended_machine_can_neither_go_on_nor_be_frozen() {
    let (mut machine, _) = boot(hello(), Mode::Protected, 2, 2);
    machine.resume().unwrap();
    machine.wait();
    machine.pause().unwrap();
    assert!(matches!(machine.resume(), Err(MachineError::Ended(Exit::Reset))));
    assert!(matches!(machine.save(), Err(MachineError::Ended(Exit::Reset))));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_halted_machine_can_be_paused_saved_and_dropped() {
    let (mut machine, _) = boot(halt(), Mode::Protected, 2, 2);
    machine.resume().unwrap();
    assert!(matches!(machine.save(), Err(MachineError::Running)));
    machine.pause().unwrap();
    machine.save().unwrap();
    machine.resume().unwrap();
    assert_eq!(machine.exit(), None);
}

// An instruction that no processor has, with an interrupt table of zeros: ends in a triple fault;
// and an unmapped jump target ends in an emulation failure or a triple fault, never in a hang.
guest!(wild_jump, 32, "mov eax, 0xd8000000", "jmp eax");

#[test]
#[ignore = "needs /dev/kvm"]
fn a_wild_jump_ends_the_machine() {
    let (mut machine, _) = boot(wild_jump(), Mode::Protected, 2, 1);
    machine.resume().unwrap();
    let exit = machine.wait();
    assert!(matches!(exit, Exit::Reset | Exit::Failed(VcpuFault::Emulation { .. })), "{exit:?}");
}

// Counts in a register and writes each number to memory; the two never differ by more than one.
guest!(count, 32, "xor eax, eax", "2: inc eax", "mov [0x120000], eax", "jmp 2b");

const COUNTER: GuestAddress = GuestAddress(0x12_0000);

fn counter(machine: &calve_vmm::Machine) -> u32 {
    machine.memory().read_obj(COUNTER).unwrap()
}

#[test]
#[ignore = "needs /dev/kvm"]
fn clones_go_on_where_the_original_froze() {
    let (mut machine, _) = boot(count(), Mode::Protected, 4, 1);
    machine.resume().unwrap();
    eventually("the guest counts", || counter(&machine) > 1000);
    machine.pause().unwrap();
    let frozen_at = counter(&machine);
    let sections = machine.save().unwrap().to_sections().unwrap();
    let state = MachineState::try_from(&sections[..]).unwrap();
    assert_eq!(counter(&machine), frozen_at, "nothing runs while paused");
    let memory = machine.memory_file().unwrap().try_clone().unwrap();
    drop(machine);

    let hypervisor = Hypervisor::open().unwrap();
    let clones: Vec<_> = (0..10)
        .map(|_| {
            let shell = Shell::new(&hypervisor, state.shape()).unwrap();
            let devices = attachments(&common::Output::default());
            let mut clone = common::thaw(shell, &state, &memory, devices).unwrap();
            assert_eq!(counter(&clone), frozen_at);
            clone.resume().unwrap();
            clone
        })
        .collect();
    for clone in &clones {
        eventually("the clone counts on", || counter(clone) > frozen_at + 1000);
    }
    drop(clones);
    let mut bytes = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&memory, &mut bytes, COUNTER.0).unwrap();
    assert_eq!(u32::from_le_bytes(bytes), frozen_at, "clones never write to the snapshot");
}

#[test]
#[ignore = "needs /dev/kvm"]
fn pausing_in_the_middle_of_a_loop_loses_nothing() {
    let (mut machine, _) = boot(count(), Mode::Protected, 2, 1);
    let mut last = 0;
    for _ in 0..200 {
        machine.resume().unwrap();
        eventually("progress", || counter(&machine) > last);
        machine.pause().unwrap();
        let now = counter(&machine);
        assert!(now > last);
        last = now;
    }
}

// Reads a device register in a loop, so that pauses meet half-finished MMIO exits.
guest!(
    mmio_loop,
    32,
    "xor ecx, ecx",
    "2: mov eax, [0xd0000000]",
    "cmp eax, 0x74726976",
    "jne 3f",
    "inc ecx",
    "mov [0x120000], ecx",
    "jmp 2b",
    "3: mov dx, 0x602",
    "out dx, al",
    "4: jmp 4b"
);

#[test]
#[ignore = "needs /dev/kvm"]
fn a_pause_in_the_middle_of_a_device_access_completes_it() {
    let (mut machine, _) = boot(mmio_loop(), Mode::Protected, 2, 1);
    let mut last = 0;
    for _ in 0..200 {
        machine.resume().unwrap();
        eventually("progress", || counter(&machine) > last || machine.exit().is_some());
        machine.pause().unwrap();
        let state = machine.save().unwrap();
        drop(state);
        assert_eq!(machine.exit(), None, "the guest read something else than the magic value");
        last = counter(&machine);
    }
}

// The boot processor wakes the others (INIT, SIPI to page 8); each adds one under a bus lock.
guest!(
    many,
    32,
    "mov esp, 0x110000",
    "call 3f",
    // The 16-bit part; its address is what the call has pushed.
    ".code16",
    "xor ax, ax",
    "mov ds, ax",
    "lock inc dword ptr [0x9000]",
    "2: hlt",
    "jmp 2b",
    ".code32",
    "3: pop esi",
    "mov edi, 0x8000",
    "mov ecx, 64",
    "cld",
    "rep movsb",
    "mov ebx, 0xfee00000",
    "mov dword ptr [ebx + 0xf0], 0x1ff",
    "mov dword ptr [ebx + 0x300], 0xc4500",
    "mov dword ptr [ebx + 0x300], 0xc4608",
    "lock inc dword ptr [0x9000]",
    "4: pause",
    "jmp 4b"
);

#[test]
#[ignore = "needs /dev/kvm"]
fn eight_processors_start() {
    let (mut machine, _) = boot(many(), Mode::Protected, 2, 8);
    machine.resume().unwrap();
    let started =
        |m: &calve_vmm::Machine| m.memory().read_obj::<u32>(GuestAddress(0x9000)).unwrap();
    eventually("all processors count", || started(&machine) == 8);
    machine.pause().unwrap();
    assert_eq!(machine.save().unwrap().shape().vcpus(), 8);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn processors_that_were_frozen_before_their_start_start() {
    let (frozen, _) = boot(many(), Mode::Protected, 2, 3);
    let state = frozen.save().unwrap();
    let memory = frozen.memory_file().unwrap().try_clone().unwrap();
    let shell = Shell::new(&Hypervisor::open().unwrap(), state.shape()).unwrap();
    let devices = attachments(&common::Output::default());
    let mut machine = common::thaw(shell, &state, &memory, devices).unwrap();
    machine.resume().unwrap();
    let started = || machine.memory().read_obj::<u32>(GuestAddress(0x9000)).unwrap();
    eventually("all processors count", || started() == 3);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn memory_may_lie_in_huge_pages() {
    let (frozen, _) = boot(halt(), Mode::Protected, 64, 1);
    let state = frozen.save().unwrap();
    let files = [frozen.memory_file().unwrap().try_clone().unwrap()];
    let plan = MemoryPlan::whole(64 << 20);
    let hypervisor = Hypervisor::open().unwrap();
    for huge_pages in [false, true] {
        let shell = Shell::new(&hypervisor, state.shape()).unwrap();
        let memory = ThawMemory { files: &files, plan: &plan, recorded: false, huge_pages };
        let devices = attachments(&common::Output::default());
        let mut machine = shell.thaw(&state, memory, devices).unwrap();
        machine.resume().unwrap();
        assert_eq!(advised(&machine), huge_pages);
    }
}

/// Whether the mapping under a machine's memory has the flag `hg` (proc(5), `VmFlags` of `smaps`).
fn advised(machine: &calve_vmm::Machine) -> bool {
    let at = machine.memory().get_host_address(GuestAddress(0)).unwrap() as usize;
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let start = smaps.find(&format!("\n{at:x}-")).unwrap();
    let flags = smaps[start..].lines().find_map(|line| line.strip_prefix("VmFlags: ")).unwrap();
    flags.split_whitespace().any(|flag| flag == "hg")
}

#[test]
#[ignore = "needs /dev/kvm"]
fn state_of_another_shape_is_refused() {
    let (machine, _) = boot(halt(), Mode::Protected, 2, 1);
    let state = machine.save().unwrap();
    let memory = machine.memory_file().unwrap().try_clone().unwrap();
    let hypervisor = Hypervisor::open().unwrap();
    let shell = Shell::new(&hypervisor, Shape::new(4, 1, 0).unwrap()).unwrap();
    let devices = attachments(&common::Output::default());
    let error = common::thaw(shell, &state, &memory, devices).err().unwrap();
    assert!(matches!(error, MachineError::Shape { .. }), "{error}");
}

#[test]
#[ignore = "needs /dev/kvm"]
fn damaged_state_is_refused_not_run() {
    let (machine, _) = boot(halt(), Mode::Protected, 2, 1);
    let sections = machine.save().unwrap().to_sections().unwrap();
    for (index, section) in sections.iter().enumerate() {
        let mut cut = sections.clone();
        cut[index].bytes.pop();
        assert!(MachineState::try_from(&cut[..]).is_err(), "{} cut", section.name);
        let mut longer = sections.clone();
        longer[index].bytes.push(0);
        assert!(MachineState::try_from(&longer[..]).is_err(), "{} longer", section.name);
        let mut newer = sections.clone();
        newer[index].version += 1;
        assert!(MachineState::try_from(&newer[..]).is_err(), "{} newer", section.name);
        let mut fewer = sections.clone();
        fewer.remove(index);
        assert!(MachineState::try_from(&fewer[..]).is_err(), "{} missing", section.name);
    }
}
