//! The register state in which a kernel is entered, and setting it.

use kvm_bindings::{kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use crate::layout::GDT;
use crate::memory::GuestMemory;
use crate::vcpu::state::VcpuStateError;

/// Control register bits (Intel SDM vol. 3, §2.5; AMD APM vol. 2, §3.1).
pub(super) const CR0_PE: u64 = 1;
pub(super) const CR0_ET: u64 = 1 << 4;
pub(super) const CR0_PG: u64 = 1 << 31;
pub(super) const CR4_PAE: u64 = 1 << 5;
/// Extended feature enable register: long mode enabled and active.
pub(super) const EFER_LME_LMA: u64 = (1 << 8) | (1 << 10);
/// RFLAGS bit 1 is always set.
const RFLAGS_RESERVED: u64 = 1 << 1;

/// How the boot processor starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryState {
    pub(super) regs: kvm_regs,
    pub(super) code: kvm_segment,
    pub(super) data: kvm_segment,
    pub(super) task: kvm_segment,
    pub(super) cr0: u64,
    pub(super) cr3: u64,
    pub(super) cr4: u64,
    pub(super) efer: u64,
}

impl EntryState {
    /// Registers at `rip` with interrupts off.
    pub(super) fn at(rip: u64) -> Self {
        let regs = kvm_regs { rip, rflags: RFLAGS_RESERVED, ..Default::default() };
        Self { regs, ..Default::default() }
    }

    #[cfg(feature = "fuzzing")]
    pub(crate) fn rip(&self) -> u64 {
        self.regs.rip
    }
}

/// Gives the first vCPU its entry state; the others wait for SIPI.
pub(crate) fn enter(fd: &VcpuFd, entry: &EntryState) -> Result<(), VcpuStateError> {
    let call = |name| move |e| VcpuStateError::Call(name, e);
    let mut sregs = fd.get_sregs().map_err(call("KVM_GET_SREGS"))?;
    sregs.cs = entry.code;
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *segment = entry.data;
    }
    sregs.tr = entry.task;
    sregs.gdt.base = GDT;
    sregs.gdt.limit = GDT_BYTES - 1;
    sregs.cr0 = entry.cr0;
    sregs.cr3 = entry.cr3;
    sregs.cr4 = entry.cr4;
    sregs.efer = entry.efer;
    fd.set_sregs(&sregs).map_err(call("KVM_SET_SREGS"))?;
    fd.set_regs(&entry.regs).map_err(call("KVM_SET_REGS"))
}

/// Entries: null, unused, code, data, task; selectors 0x10 and 0x18 are those that the 64-bit
/// protocol asks for (boot.rst: `__BOOT_CS`, `__BOOT_DS`).
const GDT_BYTES: u16 = 5 * 8;
pub(super) const CODE_SELECTOR: u16 = 0x10;
pub(super) const DATA_SELECTOR: u16 = 0x18;
pub(super) const TASK_SELECTOR: u16 = 0x20;

/// A present segment over all 4 GiB.
pub(super) fn flat(selector: u16, type_: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    }
}

/// Code: execute, read, accessed.
pub(super) const CODE: u8 = 0xb;
/// Data: read, write, accessed.
pub(super) const DATA: u8 = 0x3;

/// A busy task segment of its least size, which processors want to find.
pub(super) fn task() -> kvm_segment {
    kvm_segment {
        limit: 0x67,
        selector: TASK_SELECTOR,
        type_: 0xb,
        present: 1,
        ..Default::default()
    }
}

/// Writes the table that matches the segments above.
pub(super) fn write_gdt(memory: &GuestMemory, entry: &EntryState) -> Result<(), BootError> {
    let table = [0, 0, descriptor(&entry.code), descriptor(&entry.data), descriptor(&entry.task)];
    for (slot, value) in (0_u64..).zip(table) {
        memory.write_obj(value, GuestAddress(GDT + slot * 8))?;
    }
    Ok(())
}

/// The descriptor of a segment (Intel SDM vol. 3, figure 3-8).
fn descriptor(s: &kvm_segment) -> u64 {
    let limit = u64::from(if s.g == 1 { s.limit >> 12 } else { s.limit });
    let access = u64::from(s.type_)
        | u64::from(s.s) << 4
        | u64::from(s.dpl) << 5
        | u64::from(s.present) << 7;
    let flags = u64::from(s.avl) | u64::from(s.l) << 1 | u64::from(s.db) << 2 | u64::from(s.g) << 3;
    (limit & 0xffff)
        | (s.base & 0xff_ffff) << 16
        | access << 40
        | (limit >> 16 & 0xf) << 48
        | flags << 52
        | (s.base >> 24 & 0xff) << 56
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_that_linux_itself_uses() {
        // Linux arch/x86/include/asm/desc_defs.h: flat 64-bit code, flat 32-bit code, flat data.
        assert_eq!(descriptor(&flat(CODE_SELECTOR, CODE, true)), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(&flat(CODE_SELECTOR, CODE, false)), 0x00cf_9b00_0000_ffff);
        assert_eq!(descriptor(&flat(DATA_SELECTOR, DATA, false)), 0x00cf_9300_0000_ffff);
    }
}
