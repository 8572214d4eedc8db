//! The registers of machine-check banks: a guest can write to most of them, and KVM keeps what it wrote, but does not count
//! them among what makes up a vCPU (Linux `arch/x86/kvm/x86.c`, `set_msr_mce` and `msrs_to_save_base`).
//!
//! So no snapshot has them, and every clone is born with zeros in them. Nothing that matters to a guest lies there; but what one
//! request has written, the next one of the same machine must not read. `IA32_DEBUGCTL`, which older snapshots lack, goes with
//! them; where a snapshot has it, it is loaded after this.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::state::{VcpuStateError, call};
use crate::hypervisor::DEBUG_CONTROL;

/// `IA32_MC0_CTL` (Intel SDM vol. 4), with which the first bank begins.
const FIRST: u32 = 0x400;
/// Banks of a vCPU that was asked for no other number (`KVM_MAX_MCE_BANKS`), and registers of each.
const BANKS: u32 = 32;
const REGISTERS: u32 = 4;

/// Makes the registers what they are in a vCPU that was just made. What the kernel refuses, a guest has not got either.
pub(super) fn clear(fd: &VcpuFd) -> Result<(), VcpuStateError> {
    let registers = (FIRST..FIRST + BANKS * REGISTERS).chain([DEBUG_CONTROL]);
    let zeros: Vec<_> =
        registers.map(|index| kvm_msr_entry { index, ..Default::default() }).collect();
    let mut rest = &zeros[..];
    while !rest.is_empty() {
        let batch = Msrs::from_entries(rest)
            .map_err(|_| VcpuStateError::TooMany(rest.len(), "machine-check registers"))?;
        let written = fd.set_msrs(&batch).map_err(call("KVM_SET_MSRS"))?;
        // The kernel stops at the first that it refuses: skip that one.
        rest = rest.get(written + 1..).unwrap_or_default();
    }
    Ok(())
}
