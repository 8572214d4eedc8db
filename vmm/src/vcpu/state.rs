//! Everything that makes up a stopped vCPU, and the order in which it must be put back.
//!
//! The registers are kept in the kernel's own structures: their layout is KVM's stable ABI, which
//! outlives any type of ours. Around them stands this type, versioned by the section it is
//! written to.
//!
//! Order matters: CPUID decides what may follow; SREGS set the APIC base before LAPIC; the TSC
//! and the APIC timer's mode come before the deadline that is measured in the one and armed by
//! the other; events last, so that nothing is injected into a half-built processor.

use kvm_bindings::{
    CpuId, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry,
    kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most MSRs that a saved vCPU may bring; Linux lists about 150.
const MAX_MSRS: usize = 512;
/// Most CPUID leaves; KVM's own bound (`KVM_MAX_CPUID_ENTRIES`).
const MAX_CPUID: usize = kvm_bindings::KVM_MAX_CPUID_ENTRIES;
/// `MSR_IA32_TSC_DEADLINE` (Intel SDM vol. 4): armed last.
const TSC_DEADLINE: u32 = 0x6e0;
/// Differing clocks tolerated before scaling is asked for, parts per million: what NTP corrects
/// (Linux `Documentation/virt/kvm/api.rst`, `KVM_SET_TSC_KHZ`, uses the same bound).
const TSC_TOLERANCE_PPM: u64 = 250;

/// A step of saving or loading that the kernel refused.
#[derive(Debug, Error)]
pub enum VcpuStateError {
    /// A KVM call failed.
    #[error("{0} failed on a vCPU")]
    Call(&'static str, #[source] kvm_ioctls::Error),
    /// The kernel stopped at one MSR.
    #[error("this host cannot load MSR {0:#x}: the snapshot is from another kind of processor")]
    Msr(u32),
    /// A list is longer than any host makes it.
    #[error("the saved vCPU has {0} {1}, more than any processor")]
    TooMany(usize, &'static str),
}

/// One vCPU, stopped.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VcpuState {
    cpuid: Vec<kvm_cpuid_entry2>,
    tsc_khz: u32,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xcrs: kvm_xcrs,
    xsave: kvm_xsave,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    mp: kvm_mp_state,
    events: kvm_vcpu_events,
}

fn call(name: &'static str) -> impl Fn(kvm_ioctls::Error) -> VcpuStateError {
    move |e| VcpuStateError::Call(name, e)
}

impl VcpuState {
    /// Reads a vCPU that is out of the guest with no exit half handled.
    pub(crate) fn save(fd: &VcpuFd, msr_list: &[u32]) -> Result<Self, VcpuStateError> {
        // MP state first: reading it makes KVM settle pending INIT and SIPI events.
        let mp = fd.get_mp_state().map_err(call("KVM_GET_MP_STATE"))?;
        let cpuid = fd.get_cpuid2(MAX_CPUID).map_err(call("KVM_GET_CPUID2"))?;
        Ok(Self {
            mp,
            cpuid: cpuid.as_slice().to_vec(),
            tsc_khz: fd.get_tsc_khz().unwrap_or(0),
            regs: fd.get_regs().map_err(call("KVM_GET_REGS"))?,
            sregs: fd.get_sregs().map_err(call("KVM_GET_SREGS"))?,
            xcrs: fd.get_xcrs().map_err(call("KVM_GET_XCRS"))?,
            xsave: fd.get_xsave().map_err(call("KVM_GET_XSAVE"))?,
            debug: fd.get_debug_regs().map_err(call("KVM_GET_DEBUGREGS"))?,
            lapic: fd.get_lapic().map_err(call("KVM_GET_LAPIC"))?,
            msrs: read_msrs(fd, msr_list)?,
            events: fd.get_vcpu_events().map_err(call("KVM_GET_VCPU_EVENTS"))?,
        })
    }

    /// Puts a vCPU into this state.
    pub(crate) fn load(&self, fd: &VcpuFd) -> Result<(), VcpuStateError> {
        let cpuid = CpuId::from_entries(&self.cpuid)
            .map_err(|_| VcpuStateError::TooMany(self.cpuid.len(), "CPUID leaves"))?;
        fd.set_cpuid2(&cpuid).map_err(call("KVM_SET_CPUID2"))?;
        self.load_tsc_rate(fd)?;
        fd.set_mp_state(self.mp).map_err(call("KVM_SET_MP_STATE"))?;
        fd.set_regs(&self.regs).map_err(call("KVM_SET_REGS"))?;
        fd.set_sregs(&self.sregs).map_err(call("KVM_SET_SREGS"))?;
        fd.set_xcrs(&self.xcrs).map_err(call("KVM_SET_XCRS"))?;
        load_xsave(fd, &self.xsave)?;
        fd.set_debug_regs(&self.debug).map_err(call("KVM_SET_DEBUGREGS"))?;
        fd.set_lapic(&self.lapic).map_err(call("KVM_SET_LAPIC"))?;
        let (last, first): (Vec<_>, Vec<_>) =
            self.msrs.iter().copied().partition(|m| m.index == TSC_DEADLINE);
        write_msrs(fd, &first)?;
        write_msrs(fd, &last)?;
        fd.set_vcpu_events(&self.events).map_err(call("KVM_SET_VCPU_EVENTS"))
    }

    /// CPUID leaves that this vCPU was frozen with.
    pub(crate) fn cpuid(&self) -> &[kvm_cpuid_entry2] {
        &self.cpuid
    }

    /// Asks for time-stamp counter scaling where the host's rate is not the snapshot's.
    fn load_tsc_rate(&self, fd: &VcpuFd) -> Result<(), VcpuStateError> {
        let here = u64::from(fd.get_tsc_khz().unwrap_or(0));
        let saved = u64::from(self.tsc_khz);
        if saved == 0 || here.abs_diff(saved) * 1_000_000 <= saved * TSC_TOLERANCE_PPM {
            return Ok(());
        }
        fd.set_tsc_khz(self.tsc_khz).map_err(call("KVM_SET_TSC_KHZ"))
    }
}

/// Reads every MSR of the list that this kernel can read; the list names some that it cannot.
fn read_msrs(fd: &VcpuFd, list: &[u32]) -> Result<Vec<kvm_msr_entry>, VcpuStateError> {
    let mut found = Vec::with_capacity(list.len());
    let mut rest = list;
    while !rest.is_empty() {
        let wanted: Vec<_> =
            rest.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
        let mut batch = Msrs::from_entries(&wanted)
            .map_err(|_| VcpuStateError::TooMany(wanted.len(), "MSRs"))?;
        let read = fd.get_msrs(&mut batch).map_err(call("KVM_GET_MSRS"))?;
        found.extend_from_slice(batch.as_slice().get(..read).unwrap_or_default());
        // The kernel stops at the first it cannot read: skip that one.
        rest = rest.get(read + 1..).unwrap_or_default();
    }
    Ok(found)
}

fn write_msrs(fd: &VcpuFd, msrs: &[kvm_msr_entry]) -> Result<(), VcpuStateError> {
    if msrs.is_empty() {
        return Ok(());
    }
    if msrs.len() > MAX_MSRS {
        return Err(VcpuStateError::TooMany(msrs.len(), "MSRs"));
    }
    let batch =
        Msrs::from_entries(msrs).map_err(|_| VcpuStateError::TooMany(msrs.len(), "MSRs"))?;
    let written = fd.set_msrs(&batch).map_err(call("KVM_SET_MSRS"))?;
    match msrs.get(written) {
        None => Ok(()),
        Some(refused) => Err(VcpuStateError::Msr(refused.index)),
    }
}

#[allow(unsafe_code)]
fn load_xsave(fd: &VcpuFd, xsave: &kvm_xsave) -> Result<(), VcpuStateError> {
    // SAFETY: the kernel reads 4096 bytes from the structure, more only after user space has
    // asked it (`arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM)`) for dynamically sized features such as
    // AMX tiles; no code of ours does, so `kvm_xsave` is the whole of what is read.
    unsafe { fd.set_xsave(xsave) }.map_err(call("KVM_SET_XSAVE"))
}
