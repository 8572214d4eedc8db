use std::io::Write;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::layout::{ACPI_TABLES, PAGE_TABLES, PVH_MEMORY_MAP, PVH_START_INFO, ZERO_PAGE};

fn memory(mib: u32) -> (GuestMemory, Shape) {
    let shape = Shape::new(mib, 2, 1).unwrap();
    let ranges: Vec<_> = crate::memory::regions(&shape)
        .iter()
        .map(|r| (GuestAddress(r.gpa), usize::try_from(r.size).unwrap()))
        .collect();
    (GuestMemory::from_ranges(&ranges).unwrap(), shape)
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn boot(kernel: &[u8]) -> Boot {
    Boot { kernel: file(kernel), initrd: None, cmdline: "quiet".into() }
}

/// The least ELF file with a PVH note: one header, two program headers, the note, one `hlt`.
fn pvh_elf() -> Vec<u8> {
    let entry = 0x10_0000_u32;
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    elf.extend(u64::from(entry).to_le_bytes());
    elf.extend(64_u64.to_le_bytes());
    elf.extend([0; 12]);
    elf.extend([64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    for (kind, offset, size) in [(4_u32, 176_u64, 20_u64), (1, 196, 1)] {
        elf.extend(kind.to_le_bytes());
        elf.extend([7, 0, 0, 0]);
        for field in [offset, entry.into(), entry.into(), size, size, 4] {
            elf.extend(field.to_le_bytes());
        }
    }
    elf.extend([4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    elf.extend(b"Xen\0");
    elf.extend(entry.to_le_bytes());
    elf.push(0xf4);
    elf
}

#[test]
fn an_elf_with_the_note_is_entered_by_pvh() {
    let (memory, shape) = memory(4);
    let entry = load(&memory, &shape, boot(&pvh_elf())).unwrap();
    assert_eq!((entry.regs.rip, entry.regs.rbx), (0x10_0000, PVH_START_INFO));
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x10_0000)).unwrap(), 0xf4);
    assert_eq!(memory.read_obj::<u32>(GuestAddress(PVH_START_INFO)).unwrap(), 0x336e_c578);
    let second: u64 = memory.read_obj(GuestAddress(PVH_MEMORY_MAP + 24)).unwrap();
    assert_eq!(second, crate::layout::LOW_RAM_END);
}

#[test]
fn an_elf_without_the_note_is_entered_in_long_mode() {
    let (memory, shape) = memory(4);
    let mut elf = pvh_elf();
    elf[64] = 0; // PT_NULL in place of PT_NOTE
    let entry = load(&memory, &shape, boot(&elf)).unwrap();
    assert_eq!((entry.regs.rip, entry.regs.rsi, entry.cr3), (0x10_0000, ZERO_PAGE, PAGE_TABLES));
    // The page of the last 2 MiB below 4 GiB maps to itself.
    let last: u64 = memory.read_obj(GuestAddress(PAGE_TABLES + 6 * 4096 - 8)).unwrap();
    assert_eq!(last & !0xfff, 0xffe0_0000);
}

#[test]
fn what_is_no_kernel_is_refused() {
    let (memory, shape) = memory(4);
    for bytes in [&b""[..], b"#!/bin/sh\n", &[0; 4096], b"\x7fELF", &pvh_elf()[..100]] {
        let error = load(&memory, &shape, boot(bytes)).unwrap_err();
        assert!(matches!(error, BootError::Kernel(_)), "{error:?}");
    }
}

#[test]
fn a_kernel_that_does_not_fit_is_refused() {
    let (memory, shape) = memory(4);
    let mut elf = pvh_elf();
    // Physical address of the loaded segment: beyond the last byte of memory.
    elf[64 + 56 + 24..][..8].copy_from_slice(&(4_u64 << 20).to_le_bytes());
    assert!(load(&memory, &shape, boot(&elf)).is_err());
}

/// Found by the fuzz target `kernel_image`.
#[test]
fn an_entry_where_no_kernel_can_be_is_refused() {
    let (memory, shape) = memory(4);
    for entry in [0_u32, 0xf_ffff, 4 << 20, u32::MAX] {
        let mut elf = pvh_elf();
        // The last word of the note.
        elf[176 + 16..][..4].copy_from_slice(&entry.to_le_bytes());
        let error = load(&memory, &shape, boot(&elf)).unwrap_err();
        let refused =
            matches!(error, BootError::Kernel(KernelError::Entry(at)) if at == u64::from(entry));
        assert!(refused, "{error:?}");
    }
}

#[test]
fn the_initrd_lies_at_the_top_of_low_memory() {
    let (memory, shape) = memory(4);
    let mut boot = boot(&pvh_elf());
    boot.initrd = Some(file(&[7; 5000]));
    load(&memory, &shape, boot).unwrap();
    let module: u64 = memory.read_obj(GuestAddress(crate::layout::PVH_MODULES)).unwrap();
    assert_eq!(module, (4 << 20) - 8192);
    assert_eq!(memory.read_obj::<u8>(GuestAddress(module + 4999)).unwrap(), 7);
}

#[test]
fn an_initrd_over_the_kernel_is_refused() {
    let (memory, shape) = memory(4);
    let mut boot = boot(&pvh_elf());
    let initrd = file(&[]);
    initrd.set_len(3 << 20).unwrap();
    boot.initrd = Some(initrd);
    let error = load(&memory, &shape, boot).unwrap_err();
    assert!(matches!(error, BootError::InitrdTooLarge { .. }), "{error:?}");
}

#[test]
fn a_command_line_must_fit_and_be_a_c_string() {
    let (memory, _) = memory(2);
    write_cmdline(&memory, &"x".repeat(CMDLINE_MAX - 1)).unwrap();
    assert!(matches!(write_cmdline(&memory, &"x".repeat(CMDLINE_MAX)), Err(BootError::Cmdline)));
    assert!(matches!(write_cmdline(&memory, "a\0b"), Err(BootError::Cmdline)));
}

fn table(memory: &GuestMemory, at: u64) -> Vec<u8> {
    let length: u32 = memory.read_obj(GuestAddress(at + 4)).unwrap();
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    assert_eq!(bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b)), 0, "checksum");
    bytes
}

#[test]
fn the_acpi_tables_hang_together() {
    let (memory, shape) = memory(4);
    let rsdp = acpi::write(&memory, &shape).unwrap();
    assert_eq!(rsdp, ACPI_TABLES);
    let mut signature = [0; 8];
    memory.read_slice(&mut signature, GuestAddress(rsdp)).unwrap();
    assert_eq!(&signature, b"RSD PTR ");
    let xsdt = table(&memory, memory.read_obj(GuestAddress(rsdp + 24)).unwrap());
    let entries: Vec<_> = xsdt[36..]
        .chunks(8)
        .map(|e| table(&memory, u64::from_le_bytes(e.try_into().unwrap())))
        .collect();
    let names: Vec<_> = entries.iter().map(|t| &t[..4]).collect();
    assert_eq!(names, [b"FACP", b"APIC"]);
    let dsdt = u64::from_le_bytes(entries[0][140..148].try_into().unwrap());
    let dsdt = table(&memory, dsdt);
    for name in [&b"LNRO0005"[..], b"VM_Gen_Counter", b"ACPI0013", b"V002"] {
        assert!(dsdt.windows(name.len()).any(|w| w == name), "{}", String::from_utf8_lossy(name));
    }
    assert!(!dsdt.windows(4).any(|w| w == b"V003"), "one disk, the vsock and the balloon");
}
