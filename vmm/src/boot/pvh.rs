//! The PVH protocol: 32-bit protected mode, no paging, EBX points at the start info (Xen
//! `docs/misc/pvh.pandoc`).

use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{Bytes, GuestAddress};

use super::entry::{self, CODE, CODE_SELECTOR, CR0_ET, CR0_PE, DATA, DATA_SELECTOR, EntryState};
use super::{BootError, Facts, memory_map};
use crate::layout::{CMDLINE, PVH_MEMORY_MAP, PVH_MODULES, PVH_START_INFO};
use crate::memory::GuestMemory;
use crate::shape::Shape;

/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;

/// Writes the start info and returns the entry at `rip`.
pub(super) fn prepare(
    memory: &GuestMemory,
    shape: &Shape,
    facts: &Facts,
    rip: u64,
) -> Result<EntryState, BootError> {
    let map = memory_map::of(shape);
    let mut info = hvm_start_info {
        magic: MAGIC,
        version: 1,
        cmdline_paddr: CMDLINE,
        rsdp_paddr: facts.rsdp,
        memmap_paddr: PVH_MEMORY_MAP,
        memmap_entries: u32::try_from(map.len()).unwrap_or(0),
        ..Default::default()
    };
    let mut at = PVH_MEMORY_MAP;
    for (extent, kind) in map {
        let entry = hvm_memmap_table_entry {
            addr: extent.start,
            size: extent.size,
            type_: kind as u32,
            reserved: 0,
        };
        memory.write_obj(entry, GuestAddress(at))?;
        at += size_of::<hvm_memmap_table_entry>() as u64;
    }
    if let Some(initrd) = facts.initrd {
        info.nr_modules = 1;
        info.modlist_paddr = PVH_MODULES;
        let module =
            hvm_modlist_entry { paddr: initrd.start, size: initrd.size, ..Default::default() };
        memory.write_obj(module, GuestAddress(PVH_MODULES))?;
    }
    memory.write_obj(info, GuestAddress(PVH_START_INFO))?;

    let mut entry = EntryState::at(rip);
    entry.regs.rbx = PVH_START_INFO;
    entry.code = entry::flat(CODE_SELECTOR, CODE, false);
    entry.data = entry::flat(DATA_SELECTOR, DATA, false);
    entry.task = entry::task();
    entry.cr0 = CR0_PE | CR0_ET;
    entry::write_gdt(memory, &entry)?;
    Ok(entry)
}
