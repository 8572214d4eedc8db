//! Fork: a machine goes on, and so do others from the same moment.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]
#![allow(unsafe_code, reason = "the guests are assembled into this binary")]

mod common;

use std::fs::File;

use calve_vmm::memory::{Branch, MemoryPlan};
use calve_vmm::{Hypervisor, Machine, MachineState, Shell, ThawMemory};
use common::{Mode, Output, attachments, boot, eventually};
use vm_memory::{Bytes, GuestAddress};

// Counts at 0x120000, and writes the count into one of 512 pages from 2 MiB on after the other.
guest!(
    counter,
    32,
    "xor ecx, ecx",
    "2: mov edi, 0x200000",
    "mov edx, 512",
    "3: inc ecx",
    "mov [0x120000], ecx",
    "mov [edi], ecx",
    "add edi, 4096",
    "dec edx",
    "jnz 3b",
    "jmp 2b"
);

fn count(machine: &Machine) -> u32 {
    machine.memory().read_obj(GuestAddress(0x12_0000)).unwrap()
}

/// The count in the file of a branch.
fn count_of(file: &File) -> u32 {
    let mut found = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut found, 0x12_0000).unwrap();
    u32::from_le_bytes(found)
}

fn runs_on(machine: &mut Machine) {
    machine.resume().unwrap();
    let before = count(machine);
    eventually("the guest counts on", || count(machine) > before + 2000);
}

struct Family {
    hypervisor: Hypervisor,
    files: Vec<File>,
    plan: MemoryPlan,
}

impl Family {
    fn child(&self, state: &MachineState) -> Machine {
        let shell = Shell::new(&self.hypervisor, state.shape()).unwrap();
        let memory =
            ThawMemory { files: &self.files, plan: &self.plan, recorded: false, huge_pages: false };
        shell.thaw(state, memory, attachments(&Output::default())).unwrap()
    }
}

/// Pauses a machine that runs, branches it, and lets it go on at once.
fn branch(machine: &mut Machine) -> (MachineState, Branch, u32) {
    machine.pause().unwrap();
    let at = count(machine);
    let (state, memory) = machine.branch().unwrap();
    machine.reconnect(attachments(&Output::default())).unwrap();
    machine.resume().unwrap();
    (state, memory, at)
}

fn family_of(mib: u32, vcpus: u8) {
    let (mut parent, _) = boot(counter(), Mode::Protected, mib, vcpus);
    runs_on(&mut parent);
    let (state, memory, at) = branch(&mut parent);
    let Branch::Whole(file) = memory else { panic!("a booted machine leaves its file") };
    let whole = u64::from(mib) << 20;
    let plan = MemoryPlan::whole(whole);
    let mut family = Family { hypervisor: Hypervisor::open().unwrap(), files: vec![file], plan };
    let mut children: Vec<_> = (0..3).map(|_| family.child(&state)).collect();
    for child in &mut children {
        assert_eq!(count(child), at, "a child begins where its parent was");
        runs_on(child);
    }
    eventually("the parent counts on", || count(&parent) > at + 2000);
    assert_eq!(count_of(&family.files[0]), at, "nobody writes to what all go on from");

    // A child of a child, and one of the parent again: both differ from the file by what they wrote.
    let (state, memory, at) = branch(&mut children[0]);
    let Branch::Written(copying) = memory else { panic!("a clone's pages are copied") };
    eventually("the child counts on", || count(&children[0]) > at + 2000);
    let written = copying.wait().unwrap();
    assert_eq!(count_of(&written.file), at, "copied as it was, whatever ran meanwhile");
    let pages: u64 = written.runs.iter().map(|run| run.len / 4096).sum();
    // All of them where the kernel cannot tell (Linux before 6.7).
    assert!((513..=whole / 4096).contains(&pages), "{pages} pages");
    family.plan = family.plan.overlay(1, &written.runs);
    family.files.push(written.file);
    let mut grandchild = family.child(&state);
    assert_eq!(count(&grandchild), at);
    for page in 0..512 {
        let number = |machine: &Machine| -> u32 {
            machine.memory().read_obj(GuestAddress(0x20_0000 + page * 4096)).unwrap()
        };
        let found = number(&grandchild);
        assert!(found.abs_diff(at) <= 512, "page {page} is of another time: {found}, {at}");
    }
    runs_on(&mut grandchild);
    let (_, memory, at) = branch(&mut parent);
    let Branch::Written(copying) = memory else { panic!("it is a clone of its own file by now") };
    assert_eq!(count_of(&copying.wait().unwrap().file), at);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_machine_and_its_children_go_on_apart() {
    family_of(16, 1);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn so_do_those_of_several_processors_and_two_regions() {
    family_of(3200, 2);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_running_machine_is_not_branched() {
    let (mut machine, _) = boot(counter(), Mode::Protected, 16, 1);
    runs_on(&mut machine);
    assert!(matches!(machine.branch(), Err(calve_vmm::MachineError::Running)));
    let error = machine.reconnect(attachments(&Output::default()));
    assert!(matches!(error, Err(calve_vmm::MachineError::Running)));
}
