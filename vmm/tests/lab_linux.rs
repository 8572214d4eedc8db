//! Linux on a machine with nothing attached: what the kernel says about the platform it finds.
//!
//! `CALVE_TEST_KERNEL` is a folder with `vmlinux` and `bzImage`; `cargo xtask test` sets it.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]
#![allow(unsafe_code, reason = "the guests of the shared helpers are assembled into the binary")]

mod common;

use std::fs::File;
use std::path::PathBuf;

use calve_vmm::{Boot, Exit, Hypervisor, Machine, MachineState, Shape, Shell};
use common::{Output, attachments, eventually};

fn kernel(name: &str) -> File {
    let folder = std::env::var_os("CALVE_TEST_KERNEL").expect("CALVE_TEST_KERNEL is not set");
    let path = PathBuf::from(folder).join(name);
    File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A machine without a root file system: it boots, says so, and resets.
fn boot(kernel: File, memory_mib: u32, vcpus: u8, cmdline: &str) -> (Machine, Output) {
    let hypervisor = Hypervisor::open().unwrap();
    let shell = Shell::new(&hypervisor, Shape::new(memory_mib, vcpus, 0).unwrap()).unwrap();
    let output = Output::default();
    let cmdline = format!("console=ttyS0 reboot=t panic=-1 {cmdline}");
    let boot = Boot { kernel, initrd: None, cmdline };
    let mut machine = shell.boot(boot, attachments(&output)).unwrap();
    machine.resume().unwrap();
    (machine, output)
}

fn expect(output: &Output, words: &[&str]) {
    let text = output.text();
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

const NO_ROOT: &str = "Kernel panic - not syncing: VFS: Unable to mount root fs";

#[test]
#[ignore = "needs the lab"]
fn the_elf_kernel_finds_its_platform() {
    let (machine, output) = boot(kernel("vmlinux"), 128, 1, "");
    assert_eq!(machine.wait(), Exit::Reset);
    expect(
        &output,
        &["kvm-clock", "ACPI: Using IOAPIC for interrupt routing", "is a 16550A", NO_ROOT],
    );
}

#[test]
#[ignore = "needs the lab"]
fn the_compressed_kernel_boots_by_the_64_bit_protocol() {
    let (machine, output) = boot(kernel("bzImage"), 128, 1, "quiet");
    assert_eq!(machine.wait(), Exit::Reset);
    expect(&output, &[NO_ROOT]);
}

#[test]
#[ignore = "needs the lab"]
fn four_processors_and_memory_over_the_hole() {
    let (machine, output) = boot(kernel("vmlinux"), 3584, 4, "");
    assert_eq!(machine.wait(), Exit::Reset);
    expect(
        &output,
        &["Brought up 1 node, 4 CPUs", "0x0000000100000000-0x000000011fffffff] usable"],
    );
}

#[test]
#[ignore = "needs the lab"]
fn a_booting_kernel_can_be_frozen_at_any_moment() {
    let (mut machine, output) = boot(kernel("vmlinux"), 64, 2, "");
    let hypervisor = Hypervisor::open().unwrap();
    let after = Output::default();
    // Freeze at three moments of the boot and go on in another machine each time.
    for milestone in ["Linux version", "ACPI: Interpreter enabled", "NET: Registered PF_UNIX"] {
        let seen = |o: &Output| o.text().contains(milestone);
        eventually(milestone, || seen(&output) || seen(&after));
        machine.pause().unwrap();
        let sections = machine.save().unwrap().to_sections().unwrap();
        let state = MachineState::try_from(&sections[..]).unwrap();
        let memory = tempfile::tempfile().unwrap();
        copy_memory(&machine, &memory);
        drop(machine);
        let shell = Shell::new(&hypervisor, state.shape()).unwrap();
        machine = common::thaw(shell, &state, &memory, attachments(&after)).unwrap();
        machine.resume().unwrap();
    }
    assert_eq!(machine.wait(), Exit::Reset);
    expect(&after, &[NO_ROOT]);
}

/// Writes all RAM into a file, as a snapshot would.
fn copy_memory(machine: &Machine, file: &File) {
    use std::os::unix::fs::FileExt;
    use vm_memory::{Bytes, GuestAddress};
    let mut page = vec![0; 1 << 20];
    for region in machine.regions() {
        for offset in (0..region.size).step_by(page.len()) {
            machine.memory().read_slice(&mut page, GuestAddress(region.gpa + offset)).unwrap();
            file.write_all_at(&page, region.file_offset + offset).unwrap();
        }
    }
}
