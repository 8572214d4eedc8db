//! A vCPU as firmware would leave it: this machine has none.

use kvm_bindings::{kvm_cpuid_entry2, kvm_lapic_state, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::state::{VcpuStateError, call, read_msrs, set_cpuid, write_msrs};

/// `IA32_MTRR_DEF_TYPE`: enabled, write-back. Without it Linux maps all memory uncached.
const MTRR_DEF_TYPE: u32 = 0x2ff;
const MTRR_ENABLED_WRITE_BACK: u64 = (1 << 11) | 6;
/// LINT0 of the local APIC (Intel SDM vol. 3, §11.5.1), the PIC's line. KVM leaves it open on the
/// boot processor (`KVM_X86_QUIRK_LINT0_REENABLED`); it must be masked, because a guest under
/// hardware-reduced ACPI leaves the PIC unprogrammed, whose interrupts then arrive as exceptions.
const LINT0: usize = 0x350;
const MASKED: u32 = 1 << 16;
/// LINT1, which delivers NMIs, as a BIOS leaves it.
const LINT1: usize = 0x360;
const DELIVER_NMI: u32 = 4 << 8;
/// `IA32_MISC_ENABLE` and its bit for fast string operations, set by a BIOS. Where Linux finds it
/// clear on Intel, it gives up `rep movsb` for clearing and copying pages.
const MISC_ENABLE: u32 = 0x1a0;
const FAST_STRINGS: u64 = 1;

/// Gives a vCPU that was just made its processor's identity, and what every kernel expects to find set.
pub(super) fn power_on(fd: &VcpuFd, cpuid: &[kvm_cpuid_entry2]) -> Result<(), VcpuStateError> {
    set_cpuid(fd, cpuid)?;
    let misc_enable = read_msr(fd, MISC_ENABLE)? | FAST_STRINGS;
    write_msrs(fd, &[msr(MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK), msr(MISC_ENABLE, misc_enable)])?;
    let mut lapic = fd.get_lapic().map_err(call("KVM_GET_LAPIC"))?;
    set_lvt(&mut lapic, LINT0, MASKED);
    set_lvt(&mut lapic, LINT1, DELIVER_NMI);
    fd.set_lapic(&lapic).map_err(call("KVM_SET_LAPIC"))
}

fn msr(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry { index, data, ..Default::default() }
}

fn read_msr(fd: &VcpuFd, index: u32) -> Result<u64, VcpuStateError> {
    Ok(read_msrs(fd, &[index])?.first().map_or(0, |entry| entry.data))
}

/// Writes one 32-bit register of the local vector table.
fn set_lvt(lapic: &mut kvm_lapic_state, register: usize, value: u32) {
    for (byte, value) in lapic.regs.iter_mut().skip(register).zip(value.to_le_bytes()) {
        *byte = value.cast_signed();
    }
}
