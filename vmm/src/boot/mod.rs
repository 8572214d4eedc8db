//! Putting a kernel into memory and the first vCPU at its entry.
//!
//! Two protocols, chosen by the image: PVH where an ELF kernel carries its note, the 64-bit Linux
//! protocol for a bzImage or an ELF kernel without one. Both hand the kernel a memory map, a
//! command line, an initrd and the ACPI tables, and differ in form only.

pub(crate) mod acpi;
mod dsdt;
mod entry;
mod image;
mod linux64;
mod memory_map;
mod pvh;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::layout::{CMDLINE, CMDLINE_MAX, HIGH_RAM_START, HOLE_START, PAGE_SIZE};
use crate::memory::GuestMemory;
use crate::shape::Shape;

pub(crate) use entry::{EntryState, enter};
pub use image::KernelError;

/// What a machine boots.
#[derive(Debug)]
pub struct Boot {
    /// An x86-64 Linux kernel, `vmlinux` (ELF) or `bzImage`, or any ELF file with a PVH entry.
    pub kernel: File,
    /// An initial RAM file system, loaded at the top of low memory.
    pub initrd: Option<File>,
    /// The kernel command line.
    pub cmdline: String,
}

/// Why a machine cannot boot what it was given.
#[derive(Debug, Error)]
pub enum BootError {
    /// The kernel image is unusable.
    #[error("cannot load the kernel")]
    Kernel(#[from] KernelError),
    /// The initrd cannot be read.
    #[error("cannot read the initrd")]
    ReadInitrd(#[source] io::Error),
    /// The initrd does not fit beside the kernel.
    #[error("the initrd of {bytes} bytes does not fit: give the machine more memory")]
    InitrdTooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The command line is too long or has a zero byte in it.
    #[error("the kernel command line must be shorter than {max} bytes, without a zero byte", max = CMDLINE_MAX)]
    Cmdline,
    /// The machine is too small for the boot facts.
    #[error("guest memory is too small for the boot protocol's tables")]
    Memory(#[from] GuestMemoryError),
    /// ACPI tables outgrow their place.
    #[error("the ACPI tables need {0} bytes, more than their region has")]
    AcpiTooLarge(u64),
}

/// A stretch of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    start: u64,
    size: u64,
}

/// Facts that both protocols pass on.
struct Facts {
    initrd: Option<Extent>,
    rsdp: u64,
}

/// Loads everything into memory and returns how the first vCPU must start.
pub(crate) fn load(
    memory: &GuestMemory,
    shape: &Shape,
    boot: Boot,
) -> Result<EntryState, BootError> {
    let Boot { mut kernel, initrd, cmdline } = boot;
    let image = image::load(memory, &mut kernel)?;
    write_cmdline(memory, &cmdline)?;
    let facts = Facts {
        initrd: initrd.map(|file| load_initrd(memory, shape, file, image.end)).transpose()?,
        rsdp: acpi::write(memory, shape)?,
    };
    match image.entry {
        image::Entry::Pvh(rip) => pvh::prepare(memory, shape, &facts, rip),
        image::Entry::Linux64 { rip, header } => {
            linux64::prepare(memory, shape, &facts, rip, header)
        }
    }
}

fn write_cmdline(memory: &GuestMemory, cmdline: &str) -> Result<(), BootError> {
    let len = cmdline.len();
    if len >= CMDLINE_MAX || cmdline.bytes().any(|b| b == 0) {
        return Err(BootError::Cmdline);
    }
    memory.write_slice(cmdline.as_bytes(), GuestAddress(CMDLINE))?;
    memory.write_obj(0_u8, GuestAddress(CMDLINE + len as u64))?;
    Ok(())
}

/// Puts the initrd as high below the hole as it goes, page-aligned, clear of the kernel.
fn load_initrd(
    memory: &GuestMemory,
    shape: &Shape,
    mut file: File,
    kernel_end: u64,
) -> Result<Extent, BootError> {
    let size = file.seek(SeekFrom::End(0)).map_err(BootError::ReadInitrd)?;
    file.rewind().map_err(BootError::ReadInitrd)?;
    let top = shape.memory_bytes().min(HOLE_START);
    let start = top.checked_sub(size).map(|start| start / PAGE_SIZE * PAGE_SIZE);
    let start = start
        .filter(|&s| s >= kernel_end.max(HIGH_RAM_START))
        .ok_or(BootError::InitrdTooLarge { bytes: size })?;
    copy_in(memory, start, size, &mut file).map_err(BootError::ReadInitrd)?;
    Ok(Extent { start, size })
}

fn copy_in(memory: &GuestMemory, start: u64, size: u64, file: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut done = 0;
    while done < size {
        let part = usize::try_from((size - done).min(1 << 16)).map_err(io::Error::other)?;
        let part = &mut buffer[..part];
        file.read_exact(part)?;
        memory.write_slice(part, GuestAddress(start + done)).map_err(io::Error::other)?;
        done += part.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
