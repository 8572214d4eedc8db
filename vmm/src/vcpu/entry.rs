//! Registers that go into a vCPU with its next entry, not by calls of their own.
//!
//! A call on a vCPU costs its being loaded onto a processor and put off again. What lies in the page that the
//! vCPU shares with the kernel, marked as changed, is taken at the start of `KVM_RUN` (Linux
//! `Documentation/virt/kvm/api.rst`, §6.74, KVM_CAP_SYNC_REGS; registers first, events last), whether the guest
//! is then entered or not.

use kvm_bindings::{KVM_SYNC_X86_EVENTS, KVM_SYNC_X86_REGS, kvm_regs, kvm_vcpu_events};
use kvm_ioctls::{SyncReg, VcpuFd};

use super::state::{VcpuStateError, call};

/// Has the vCPU take on general registers when it is entered next. KVM refuses none.
pub(super) fn defer_regs(fd: &mut VcpuFd, regs: &kvm_regs) {
    fd.sync_regs_mut().regs = *regs;
    fd.set_sync_dirty_reg(SyncReg::Register);
}

/// Has the vCPU take on events when it is entered next: those that this host's KVM has taken before, since
/// nobody hears of a refusal but by the end of the machine.
pub(super) fn defer_events(fd: &mut VcpuFd, events: &kvm_vcpu_events) {
    fd.sync_regs_mut().events = *events;
    fd.set_sync_dirty_reg(SyncReg::VcpuEvents);
}

/// Gives the vCPU at once what waits for its next entry, for whoever reads its state before that.
pub(super) fn settle(fd: &mut VcpuFd) -> Result<(), VcpuStateError> {
    let waiting = fd.get_kvm_run().kvm_dirty_regs;
    let values = fd.sync_regs();
    if waiting & u64::from(KVM_SYNC_X86_REGS) != 0 {
        fd.set_regs(&values.regs).map_err(call("KVM_SET_REGS"))?;
        fd.clear_sync_dirty_reg(SyncReg::Register);
    }
    if waiting & u64::from(KVM_SYNC_X86_EVENTS) != 0 {
        fd.set_vcpu_events(&values.events).map_err(call("KVM_SET_VCPU_EVENTS"))?;
        fd.clear_sync_dirty_reg(SyncReg::VcpuEvents);
    }
    Ok(())
}
