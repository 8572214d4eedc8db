//! Recognising a kernel image and loading it.

use std::fs::File;
use std::io::{self, Read, Seek};

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use thiserror::Error;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::layout::HIGH_RAM_START;
use crate::memory::GuestMemory;

/// `0x7f "ELF"` (System V ABI, ch. 4).
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
/// The boot protocol's magic at [`SETUP_HEADER`] (Linux `Documentation/arch/x86/boot.rst`).
const SETUP_MAGIC: [u8; 4] = *b"HdrS";
/// Where the magic of a bzImage lies.
const SETUP_HEADER: usize = 0x202;
/// The 64-bit entry of a loaded bzImage, behind its 32-bit one (boot.rst, "64-bit boot protocol").
const BZIMAGE_ENTRY64: u64 = 0x200;

/// Bit of `xloadflags`: the kernel has the 64-bit entry.
const XLF_KERNEL_64: u16 = 1;

/// Why an image is no kernel for us.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The file cannot be read.
    #[error("cannot read the image")]
    Read(#[source] io::Error),
    /// Neither format.
    #[error(
        "neither an ELF file (vmlinux) nor a bzImage: give an uncompressed x86-64 kernel image"
    )]
    NotAKernel,
    /// A bzImage without the 64-bit entry.
    #[error("the bzImage has no 64-bit entry: give an x86-64 kernel")]
    Not64Bit,
    /// It fits, but what it unpacks to does not.
    #[error("the kernel unpacks itself up to address {0:#x}: give the machine more memory")]
    TooLarge(u64),
    /// It would be entered where no kernel can be: among the boot facts, or outside of memory.
    #[error(
        "the kernel's entry {0:#x} is below 1 MiB or beyond memory: the image is damaged, or the machine too small"
    )]
    Entry(u64),
    /// It looks like a kernel but is broken, or does not fit.
    #[error("the image is damaged or does not fit into guest memory")]
    Load(#[source] linux_loader::loader::Error),
}

/// How the kernel wants to be entered.
#[allow(clippy::large_enum_variant, reason = "lives once, on the stack of a boot")]
pub(super) enum Entry {
    /// 32-bit protected mode at this address.
    Pvh(u64),
    /// Long mode at `rip`, with the image's own setup header where it had one.
    Linux64 { rip: u64, header: setup_header },
}

/// A kernel in guest memory.
pub(super) struct Image {
    pub(super) entry: Entry,
    /// First byte after it.
    pub(super) end: u64,
}

/// Loads `kernel`, whatever its format.
pub(super) fn load(memory: &GuestMemory, kernel: &mut File) -> Result<Image, KernelError> {
    let mut head = Vec::with_capacity(SETUP_HEADER + 4);
    kernel.rewind().map_err(KernelError::Read)?;
    kernel.take(SETUP_HEADER as u64 + 4).read_to_end(&mut head).map_err(KernelError::Read)?;
    if head.starts_with(&ELF_MAGIC) {
        load_elf(memory, kernel)
    } else if head.get(SETUP_HEADER..) == Some(&SETUP_MAGIC) {
        load_bzimage(memory, kernel)
    } else {
        Err(KernelError::NotAKernel)
    }
}

fn load_elf(memory: &GuestMemory, kernel: &mut File) -> Result<Image, KernelError> {
    let loaded = Elf::load(memory, None, kernel, Some(GuestAddress(HIGH_RAM_START)))
        .map_err(KernelError::Load)?;
    let entry = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(address) => Entry::Pvh(check_entry(memory, address.0)?),
        _ => {
            let rip = check_entry(memory, loaded.kernel_load.0)?;
            Entry::Linux64 { rip, header: setup_header::default() }
        }
    };
    Ok(Image { entry, end: loaded.kernel_end })
}

fn load_bzimage(memory: &GuestMemory, kernel: &mut File) -> Result<Image, KernelError> {
    let loaded = BzImage::load(memory, None, kernel, Some(GuestAddress(HIGH_RAM_START)))
        .map_err(KernelError::Load)?;
    let header = loaded.setup_header.unwrap_or_default();
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(KernelError::Not64Bit);
    }
    let load = loaded.kernel_load.0;
    let rip = load.checked_add(BZIMAGE_ENTRY64).ok_or(KernelError::NotAKernel)?;
    let rip = check_entry(memory, rip)?;
    let end = runtime_start(&header, load).saturating_add(u64::from(header.init_size));
    if !memory.address_in_range(GuestAddress(end.saturating_sub(1))) {
        return Err(KernelError::TooLarge(end));
    }
    Ok(Image { entry: Entry::Linux64 { rip, header }, end: end.max(loaded.kernel_end) })
}

/// The note of an ELF file and the header of a bzImage name any address.
fn check_entry(memory: &GuestMemory, entry: u64) -> Result<u64, KernelError> {
    if entry >= HIGH_RAM_START && memory.address_in_range(GuestAddress(entry)) {
        Ok(entry)
    } else {
        Err(KernelError::Entry(entry))
    }
}

/// Where the kernel unpacks itself to, needing `init_size` bytes (boot.rst, "init_size").
fn runtime_start(header: &setup_header, load: u64) -> u64 {
    let alignment = u64::from(header.kernel_alignment);
    if header.relocatable_kernel == 0 || !alignment.is_power_of_two() {
        return header.pref_address;
    }
    let start = load.max(header.pref_address);
    start.checked_next_multiple_of(alignment).unwrap_or(u64::MAX)
}
