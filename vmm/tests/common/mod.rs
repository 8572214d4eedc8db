//! Tiny guests: machine code in an ELF file with a PVH note, and machines around them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in the functions that the tests are made of"
)]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its part")]

use std::fs::File;
use std::io::{self, Write};
use std::slice;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use calve_vmm::memory::MemoryPlan;
use calve_vmm::{
    Attachments, Boot, Hypervisor, Machine, MachineError, MachineState, Shape, Shell, ThawMemory,
    VsockHost,
};

/// Where the guests' code is loaded and entered.
pub const ENTRY: u32 = 0x10_0000;

/// How a guest is entered.
#[derive(Clone, Copy)]
pub enum Mode {
    /// 32-bit protected mode (PVH).
    Protected,
    /// 64-bit long mode, first 4 GiB mapped (Linux boot protocol).
    Long,
}

/// Wraps machine code into the least ELF file that a machine boots.
pub fn elf(code: &[u8], mode: Mode) -> File {
    let note = match mode {
        Mode::Protected => 4_u32,
        Mode::Long => 0,
    };
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    elf.extend(u64::from(ENTRY).to_le_bytes());
    elf.extend(64_u64.to_le_bytes());
    elf.extend([0; 12]);
    elf.extend([64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    for (kind, offset, size) in [(note, 176_u64, 20_u64), (1, 196, code.len() as u64)] {
        elf.extend(kind.to_le_bytes());
        elf.extend([7, 0, 0, 0]);
        for field in [offset, ENTRY.into(), ENTRY.into(), size, size, 4] {
            elf.extend(field.to_le_bytes());
        }
    }
    elf.extend([4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    elf.extend(b"Xen\0");
    elf.extend(ENTRY.to_le_bytes());
    elf.extend(code);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&elf).unwrap();
    file
}

/// Declares a guest: `guest!(name, bits, "assembly", ...)` makes `fn name() -> &'static [u8]`.
#[macro_export]
macro_rules! guest {
    ($name:ident, $bits:literal, $($line:literal),+ $(,)?) => {
        std::arch::global_asm!(
            concat!(".section .rodata.guest_", stringify!($name), ",\"a\""),
            concat!(".code", $bits),
            concat!("guest_", stringify!($name), ":"),
            $($line,)+
            concat!("guest_", stringify!($name), "_end:"),
            ".code64",
            ".text",
        );
        fn $name() -> &'static [u8] {
            unsafe extern "C" {
                #[link_name = concat!("guest_", stringify!($name))]
                static START: u8;
                #[link_name = concat!("guest_", stringify!($name), "_end")]
                static END: u8;
            }
            let (start, end) = (&raw const START, &raw const END);
            // SAFETY: both labels bound the same piece of read-only data, defined right above.
            unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
        }
    };
}

/// Collects what a guest writes to its console.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn attachments(output: &Output) -> Attachments {
    let console = Some(Box::new(output.clone()) as _);
    Attachments { disks: Vec::new(), vsock: VsockHost::unconnected(3), console }
}

/// A machine with a tiny guest, paused at its entry.
pub fn boot(code: &[u8], mode: Mode, memory_mib: u32, vcpus: u8) -> (Machine, Output) {
    let hypervisor = Hypervisor::open().unwrap();
    let shape = Shape::new(memory_mib, vcpus, 0).unwrap();
    let shell = Shell::new(&hypervisor, shape).unwrap();
    let output = Output::default();
    let boot = Boot { kernel: elf(code, mode), initrd: None, cmdline: String::new() };
    (shell.boot(boot, attachments(&output)).unwrap(), output)
}

/// Waits until `condition` holds; panics after half a minute.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::yield_now();
    }
}

/// Thaws a machine from all of a memory file.
pub fn thaw(
    shell: Shell,
    state: &MachineState,
    memory: &File,
    devices: Attachments,
) -> Result<Machine, MachineError> {
    let plan = MemoryPlan::whole(memory.metadata().unwrap().len());
    shell.thaw(
        state,
        ThawMemory {
            files: slice::from_ref(memory),
            plan: &plan,
            recorded: false,
            huge_pages: false,
        },
        devices,
    )
}
