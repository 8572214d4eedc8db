//! A vCPU as it is born: what a thaw need not set, because it is so already.
//!
//! A call on a vCPU costs its being loaded onto a processor and put off again, which is more than most of
//! them do. So a shell gives its vCPUs the processor that machines on this host usually see, as it is at power-on, reads what
//! they are then, and a thaw leaves out what would change nothing.

use kvm_bindings::{
    kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_vcpu_events,
    kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;

use super::power_on::power_on;
use super::state::{MAX_CPUID, VcpuState, VcpuStateError, call, read_msrs, runs};

/// What a vCPU has before anything was loaded into it.
#[derive(Debug)]
pub(crate) struct Newborn {
    cpuid: Vec<kvm_cpuid_entry2>,
    tsc_khz: u32,
    mp: kvm_mp_state,
    xcrs: kvm_xcrs,
    xsave: Box<kvm_xsave>,
    debug: kvm_debugregs,
    lapic: Box<kvm_lapic_state>,
    events: kvm_vcpu_events,
    /// By index.
    msrs: Vec<kvm_msr_entry>,
}

impl Newborn {
    /// Gives the vCPU these leaves, [powers it on](power_on) and reads what it is then.
    pub(crate) fn new(
        fd: &VcpuFd,
        leaves: &[kvm_cpuid_entry2],
        msr_list: &[u32],
    ) -> Result<Self, VcpuStateError> {
        power_on(fd, leaves)?;
        let mut msrs = read_msrs(fd, msr_list)?;
        msrs.sort_unstable_by_key(|msr| msr.index);
        Ok(Self {
            // Read back, as a saved one was: KVM may answer with other leaves than it was given.
            cpuid: fd.get_cpuid2(MAX_CPUID).map_err(call("KVM_GET_CPUID2"))?.as_slice().to_vec(),
            tsc_khz: fd.get_tsc_khz().unwrap_or(0),
            mp: fd.get_mp_state().map_err(call("KVM_GET_MP_STATE"))?,
            xcrs: fd.get_xcrs().map_err(call("KVM_GET_XCRS"))?,
            xsave: Box::new(fd.get_xsave().map_err(call("KVM_GET_XSAVE"))?),
            debug: fd.get_debug_regs().map_err(call("KVM_GET_DEBUGREGS"))?,
            lapic: Box::new(fd.get_lapic().map_err(call("KVM_GET_LAPIC"))?),
            events: fd.get_vcpu_events().map_err(call("KVM_GET_VCPU_EVENTS"))?,
            msrs,
        })
    }

    /// The rate of its time-stamp counter, kHz; 0 if unknown.
    pub(crate) fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    /// Whether it has the processor that `saved` has seen, but for the bits that follow from a guest's own
    /// registers, which KVM keeps up itself.
    pub(crate) fn has_cpuid(&self, saved: &[kvm_cpuid_entry2]) -> bool {
        self.cpuid.len() == saved.len()
            && self.cpuid.iter().zip(saved).all(|(a, b)| settled(*a) == settled(*b))
    }

    pub(crate) fn has_mp(&self, saved: &VcpuState) -> bool {
        self.mp == saved.mp
    }

    pub(crate) fn has_xcrs(&self, saved: &VcpuState) -> bool {
        self.xcrs == saved.xcrs
    }

    pub(crate) fn has_xsave(&self, saved: &VcpuState) -> bool {
        self.xsave.region == saved.xsave.region
    }

    pub(crate) fn has_lapic(&self, saved: &VcpuState) -> bool {
        self.lapic.regs == saved.lapic.regs
    }

    pub(crate) fn has_events(&self, saved: &VcpuState) -> bool {
        self.events == saved.events
    }

    /// Whether it has a model-specific register, which does not run on by itself, as it was saved.
    pub(crate) fn has_msr(&self, saved: &kvm_msr_entry) -> bool {
        !runs(saved.index) && self.msr(saved.index).is_some_and(|msr| msr.data == saved.data)
    }

    /// Whether it has such a model-specific register.
    pub(crate) fn knows(&self, index: u32) -> bool {
        self.msr(index).is_some()
    }

    fn msr(&self, index: u32) -> Option<&kvm_msr_entry> {
        let at = self.msrs.binary_search_by_key(&index, |msr| msr.index).ok()?;
        self.msrs.get(at)
    }

    pub(crate) fn has_debug(&self, saved: &VcpuState) -> bool {
        self.debug == saved.debug
    }
}

/// A leaf without what KVM derives from CR4, XCR0 and IA32_MISC_ENABLE (`kvm_update_cpuid_runtime` in Linux
/// `arch/x86/kvm/cpuid.c`).
fn settled(mut leaf: kvm_cpuid_entry2) -> kvm_cpuid_entry2 {
    /// Leaf 1, ECX: the guest has enabled XSAVE; MONITOR.
    const OSXSAVE_MONITOR: u32 = 1 << 27 | 1 << 3;
    /// Leaf 7, ECX: the guest has enabled protection keys.
    const OSPKE: u32 = 1 << 4;
    match (leaf.function, leaf.index) {
        (0x1, _) => leaf.ecx &= !OSXSAVE_MONITOR,
        (0x7, 0) => leaf.ecx &= !OSPKE,
        // Bytes of what is enabled.
        (0xd, 0 | 1) => leaf.ebx = 0,
        _ => {}
    }
    leaf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_enables_makes_no_other_processor() {
        let leaf =
            |function, ebx, ecx| kvm_cpuid_entry2 { function, ebx, ecx, ..Default::default() };
        assert_eq!(settled(leaf(1, 0, 1 << 27)), settled(leaf(1, 0, 0)));
        assert_eq!(settled(leaf(0xd, 576, 832)), settled(leaf(0xd, 832, 832)));
        assert_ne!(settled(leaf(1, 0, 1)), settled(leaf(1, 0, 0)));
        assert_ne!(settled(leaf(2, 1, 0)), settled(leaf(2, 0, 0)));
    }
}
