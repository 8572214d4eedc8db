//! Kernels of a few bytes, for any `/dev/kvm`: an ELF file with a PVH entry, in 32-bit protected mode.

use std::path::{Path, PathBuf};

/// Prints `ok` on the serial port and resets through the ACPI reset register.
pub(crate) const HELLO: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'o', 0xee, // mov al, 'o'; out dx, al
    0xb0, b'k', 0xee, // mov al, 'k'; out dx, al
    0x66, 0xba, 0x02, 0x06, // mov dx, 0x602
    0xb0, 0x01, 0xee, // mov al, 1; out dx, al
    0xeb, 0xfe, // jmp $
];

/// Prints `.` for ever.
pub(crate) const CHATTER: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'.', 0xee, // again: mov al, '.'; out dx, al
    0xeb, 0xfb, // jmp again
];

/// Prints `?`, then halts for ever.
pub(crate) const SILENT: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'?', 0xee, // mov al, '?'; out dx, al
    0xf4, // again: hlt
    0xeb, 0xfd, // jmp again
];

/// Prints `>`, then every byte it is sent; resets at a `q`.
pub(crate) const ECHO: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'>', 0xee, // mov al, '>'; out dx, al
    0x66, 0xba, 0xfd, 0x03, // again: mov dx, 0x3fd (line status)
    0xec, // wait: in al, dx
    0xa8, 0x01, // test al, 1 (data ready)
    0x74, 0xfb, // jz wait
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xec, // in al, dx
    0xee, // out dx, al
    0x3c, b'q', // cmp al, 'q'
    0x75, 0xed, // jne again
    0x66, 0xba, 0x02, 0x06, // mov dx, 0x602
    0xb0, 0x01, 0xee, // mov al, 1; out dx, al
    0xeb, 0xfe, // jmp $
];

/// Where the code is loaded: the first byte of high memory.
const LOAD: u64 = 0x10_0000;
/// Where code and note begin in the file.
const CODE: u64 = 0x1000;
/// See [`CODE`].
const NOTE: u64 = 0xb0;

/// Writes the kernel into `folder`.
pub(crate) fn kernel(folder: &Path, code: &[u8]) -> PathBuf {
    let path = folder.join("kernel");
    std::fs::write(&path, elf(code)).unwrap();
    path
}

/// ELF-64 (System V ABI, ch. 4 and 5) with one PT_LOAD and one PT_NOTE segment; the note is Xen's
/// `XEN_ELFNOTE_PHYS32_ENTRY` (Xen `public/elfnote.h`).
fn elf(code: &[u8]) -> Vec<u8> {
    let length = code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    half(&mut file, &[2, 62]); // ET_EXEC, EM_X86_64
    word(&mut file, &[1]);
    long(&mut file, &[LOAD, 64, 0]); // entry, program headers, no sections
    word(&mut file, &[0]);
    half(&mut file, &[64, 56, 2, 0, 0, 0]);
    word(&mut file, &[1, 5]); // PT_LOAD, readable and executable
    long(&mut file, &[CODE, LOAD, LOAD, length, length, 0x1000]);
    word(&mut file, &[4, 4]); // PT_NOTE, readable
    long(&mut file, &[NOTE, 0, 0, 20, 20, 4]);
    assert_eq!(file.len() as u64, NOTE);
    word(&mut file, &[4, 4, 18]);
    file.extend(b"Xen\0");
    word(&mut file, &[u32::try_from(LOAD).unwrap()]);
    file.resize(usize::try_from(CODE).unwrap(), 0);
    file.extend(code);
    file
}

fn half(file: &mut Vec<u8>, values: &[u16]) {
    values.iter().for_each(|v| file.extend(v.to_le_bytes()));
}

fn word(file: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|v| file.extend(v.to_le_bytes()));
}

fn long(file: &mut Vec<u8>, values: &[u64]) {
    values.iter().for_each(|v| file.extend(v.to_le_bytes()));
}
