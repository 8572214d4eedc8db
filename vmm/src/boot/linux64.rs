//! The 64-bit Linux boot protocol (Linux `Documentation/arch/x86/boot.rst`): long mode, the first
//! 4 GiB mapped one to one, RSI points at the zero page.

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress};

use super::entry::{
    self, CODE, CODE_SELECTOR, CR0_ET, CR0_PE, CR0_PG, CR4_PAE, DATA, DATA_SELECTOR, EFER_LME_LMA,
    EntryState,
};
use super::{BootError, Facts, memory_map};
use crate::layout::{CMDLINE, PAGE_SIZE, PAGE_TABLES, ZERO_PAGE};
use crate::memory::GuestMemory;
use crate::shape::Shape;

/// `boot_flag`, `header` and `type_of_loader` as boot.rst wants them.
const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = 0x5372_6448;
const LOADER_UNDEFINED: u8 = 0xff;
/// Present and writable, in every level of the page tables.
const PRESENT_WRITABLE: u64 = 3;
/// A 2 MiB page in a page directory entry.
const HUGE: u64 = 1 << 7;

/// Writes the zero page and page tables and returns the entry at `rip`.
pub(super) fn prepare(
    memory: &GuestMemory,
    shape: &Shape,
    facts: &Facts,
    rip: u64,
    header: setup_header,
) -> Result<EntryState, BootError> {
    let mut params = boot_params { hdr: header, ..Default::default() };
    params.hdr.boot_flag = BOOT_FLAG;
    params.hdr.header = HEADER_MAGIC;
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = u32::try_from(CMDLINE).unwrap_or(0);
    params.acpi_rsdp_addr = facts.rsdp;
    if let Some(initrd) = facts.initrd {
        // Below the hole, so both fit in 32 bits.
        params.hdr.ramdisk_image = u32::try_from(initrd.start).unwrap_or(0);
        params.hdr.ramdisk_size = u32::try_from(initrd.size).unwrap_or(0);
    }
    let map = memory_map::of(shape);
    params.e820_entries = u8::try_from(map.len()).unwrap_or(0);
    for (slot, (extent, kind)) in params.e820_table.iter_mut().zip(map) {
        *slot = boot_e820_entry { addr: extent.start, size: extent.size, r#type: kind as u32 };
    }
    memory.write_obj(params, GuestAddress(ZERO_PAGE))?;
    write_page_tables(memory)?;

    let mut entry = EntryState::at(rip);
    entry.regs.rsi = ZERO_PAGE;
    entry.code = entry::flat(CODE_SELECTOR, CODE, true);
    entry.data = entry::flat(DATA_SELECTOR, DATA, false);
    entry.task = entry::task();
    entry.cr0 = CR0_PE | CR0_ET | CR0_PG;
    entry.cr3 = PAGE_TABLES;
    entry.cr4 = CR4_PAE;
    entry.efer = EFER_LME_LMA;
    entry::write_gdt(memory, &entry)?;
    Ok(entry)
}

/// One PML4, one PDPT, four page directories: 4 GiB in pages of 2 MiB.
fn write_page_tables(memory: &GuestMemory) -> Result<(), BootError> {
    let pdpt = PAGE_TABLES + PAGE_SIZE;
    let directories = pdpt + PAGE_SIZE;
    memory.write_obj(pdpt | PRESENT_WRITABLE, GuestAddress(PAGE_TABLES))?;
    for gib in 0..4 {
        let directory = directories + gib * PAGE_SIZE;
        memory.write_obj(directory | PRESENT_WRITABLE, GuestAddress(pdpt + gib * 8))?;
        for page in 0..512 {
            let frame = (gib << 30) | (page << 21);
            memory
                .write_obj(frame | PRESENT_WRITABLE | HUGE, GuestAddress(directory + page * 8))?;
        }
    }
    Ok(())
}
