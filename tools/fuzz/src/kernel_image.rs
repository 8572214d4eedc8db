//! Kernel images: ELF files with a PVH note or without, and bzImages, put into a small machine as at a boot.
//!
//! A machine that boots what the loader took is the guest's matter; here nothing outside of guest memory may happen, and
//! what was not taken must be refused.

use std::fs::File;
use std::os::unix::fs::FileExt;

use calve_vmm::fuzzing::{GuestMemory, load_kernel};
use calve_vmm::layout::HIGH_RAM_START;
use calve_vmm::memory::regions;
use calve_vmm::{Boot, Shape};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{Bytes, GuestAddress};

use crate::Seeds;
use crate::input::{Input, Output};

const MIB: u32 = 4;

thread_local! {
    /// Not cleared between inputs: a loader must not care what was there.
    static MEMORY: GuestMemory = {
        let shape = shape();
        let ranges: Vec<_> = regions(&shape)
            .iter()
            .map(|region| (GuestAddress(region.gpa), region.size as usize))
            .collect();
        GuestMemory::from_ranges(&ranges).expect("a host with memory")
    };
}

fn shape() -> Shape {
    Shape::new(MIB, 2, 1).expect("a shape")
}

/// The initrd's length in pages, the command line, and the image.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let (pages, cmdline) = (u64::from(input.u16()), input.bytes());
    let image = input.rest();
    let file = |name, len: u64| -> File {
        let file: File = memfd_create(name, MFdFlags::MFD_CLOEXEC).expect("a memfd").into();
        file.set_len(len).expect("a file");
        file
    };
    let kernel = file("kernel", image.len() as u64);
    kernel.write_all_at(image, 0).expect("a file");
    let initrd = (pages > 0).then(|| file("initrd", 4096 * pages));
    let boot = Boot { kernel, initrd, cmdline: String::from_utf8_lossy(cmdline).into_owned() };
    let memory = MEMORY.with(Clone::clone);
    if let Ok(entry) = load_kernel(&memory, &shape(), boot) {
        assert!(entry >= HIGH_RAM_START, "entered at {entry:#x}, among the boot facts");
        let signature: [u8; 8] = memory
            .read_obj(GuestAddress(calve_vmm::layout::ACPI_TABLES))
            .expect("a machine with low memory");
        assert_eq!(&signature, b"RSD PTR ", "the tables lie over the kernel, not it over them");
    }
}

/// The least ELF file with a PVH note: one header, two program headers, the note, one `hlt`.
fn elf(note: bool) -> Vec<u8> {
    let entry = 0x10_0000_u32;
    let out = Output::new().raw(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let out = out.raw(&[2, 0, 62, 0, 1, 0, 0, 0]).u64(entry.into()).u64(64).raw(&[0; 12]);
    let mut out = out.raw(&[64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let note = if note { 4 } else { 0 };
    for (kind, offset, size) in [(note, 176_u64, 20_u64), (1_u32, 196, 1)] {
        out = out.u32(kind).u32(7);
        for field in [offset, entry.into(), entry.into(), size, size, 4] {
            out = out.u64(field);
        }
    }
    out.raw(&[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]).raw(b"Xen\0").u32(entry).u8(0xf4).done()
}

/// The least bzImage: a setup header (boot.rst, "The Real-Mode Kernel Header") and a page of kernel.
fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 0x400 + 4096];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // one setup sector
    put(0x1f4, &256_u32.to_le_bytes()); // paragraphs of kernel
    put(0x1fe, &0xaa55_u16.to_le_bytes());
    put(0x202, b"HdrS");
    put(0x206, &0x20f_u16.to_le_bytes());
    put(0x211, &[1]); // loaded high
    put(0x214, &0x10_0000_u32.to_le_bytes());
    put(0x230, &0x10_0000_u32.to_le_bytes()); // alignment
    put(0x234, &[1]); // relocatable
    put(0x236, &1_u16.to_le_bytes()); // the 64-bit entry is there
    put(0x258, &0x10_0000_u64.to_le_bytes()); // preferred address
    put(0x260, &0x1_0000_u32.to_le_bytes()); // bytes that it unpacks to
    image
}

pub fn seeds() -> Seeds {
    let boot =
        |pages: u16, image: &[u8]| Output::new().u16(pages).bytes(b"quiet").raw(image).done();
    vec![
        ("pvh", boot(0, &elf(true))),
        ("elf", boot(3, &elf(false))),
        ("bzimage", boot(0, &bzimage())),
        ("bzimage-with-initrd", boot(9, &bzimage())),
        ("large-initrd", boot(0xffff, &elf(true))),
        ("script", boot(0, b"#!/bin/sh\n")),
    ]
}
