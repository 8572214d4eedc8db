//! Everything that makes up a stopped vCPU, and the order in which it must be put back.
//!
//! The registers are kept in the kernel's own structures: their layout is KVM's stable ABI, which
//! outlives any type of ours. Around them stands this type, versioned by the section it is
//! written to.
//!
//! Order matters. Loading: CPUID decides what may follow; SREGS set the APIC base before LAPIC; the
//! TSC and the APIC timer's mode come before the deadline that is measured in the one and armed by
//! the other; events last, so that nothing is injected into a half-built processor. General registers hang on
//! nothing and go with the next entry, and so do events of a state that was loaded before. Saving: MSRs
//! before LAPIC, because a deadline that passes in between leaves the MSR and becomes an interrupt
//! in the LAPIC; seen in this order it is at worst delivered twice, in the other it is lost.

use std::collections::BTreeSet;

use kvm_bindings::{
    CpuId, KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, Msrs, kvm_cpuid_entry2, kvm_debugregs,
    kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
    kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::newborn::Newborn;
use super::{banks, cpuid, entry};

/// Most CPUID leaves; KVM's own bound (`KVM_MAX_CPUID_ENTRIES`).
pub(super) const MAX_CPUID: usize = kvm_bindings::KVM_MAX_CPUID_ENTRIES;
/// `MSR_IA32_TSC_DEADLINE` (Intel SDM vol. 4): armed last.
const TSC_DEADLINE: u32 = 0x6e0;
/// `MSR_IA32_TSC`.
const TSC: u32 = 0x10;
/// `MSR_KVM_SYSTEM_TIME` and `MSR_KVM_SYSTEM_TIME_NEW` (Linux `Documentation/virt/kvm/x86/msr.rst`).
const KVM_SYSTEM_TIME: [u32; 2] = [0x12, 0x4b56_4d01];
/// MSRs that are clocks: the two above, the counters of actual and maximum frequency, and the
/// offset by which KVM has moved the time-stamp counter.
const CLOCKS: [u32; 5] = [TSC, TSC_DEADLINE, 0xe7, 0xe8, 0x3b];
/// Whether an MSR runs on by itself, so that what it was a moment ago says nothing of what it is.
pub(super) fn runs(index: u32) -> bool {
    const RUNNING: [u32; 3] = [TSC, 0xe7, 0xe8];
    RUNNING.contains(&index)
}

/// Differing clocks tolerated before scaling is asked for, parts per million: the default of KVM's
/// own `tsc_tolerance_ppm`.
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
    /// The saved processor could run machines of its own, which ours never can.
    #[error(
        "the saved vCPU has nested virtualisation, which is never offered: the state is forged"
    )]
    Nesting,
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
    pub(super) xcrs: kvm_xcrs,
    pub(super) xsave: kvm_xsave,
    pub(super) debug: kvm_debugregs,
    pub(super) lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    pub(super) mp: kvm_mp_state,
    pub(super) events: kvm_vcpu_events,
}

pub(super) fn call(name: &'static str) -> impl Fn(kvm_ioctls::Error) -> VcpuStateError {
    move |e| VcpuStateError::Call(name, e)
}

impl VcpuState {
    /// One that no vCPU was in, for fuzz targets.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn blank() -> Self {
        Self {
            cpuid: vec![kvm_cpuid_entry2::default()],
            tsc_khz: 0,
            regs: kvm_regs::default(),
            sregs: kvm_sregs::default(),
            xcrs: kvm_xcrs::default(),
            xsave: kvm_xsave::default(),
            debug: kvm_debugregs::default(),
            lapic: kvm_lapic_state::default(),
            msrs: vec![kvm_msr_entry::default()],
            mp: kvm_mp_state::default(),
            events: kvm_vcpu_events::default(),
        }
    }

    /// Reads a vCPU that is out of the guest with no exit half handled.
    pub(crate) fn save(fd: &mut VcpuFd, msr_list: &[u32]) -> Result<Self, VcpuStateError> {
        entry::settle(fd)?;
        // MP state first: reading it makes KVM settle pending INIT and SIPI events.
        let mp = fd.get_mp_state().map_err(call("KVM_GET_MP_STATE"))?;
        // Then events: reading them writes the address or the cause of an exception that waits
        // into CR2 and DR6, which are read below.
        let events = fd.get_vcpu_events().map_err(call("KVM_GET_VCPU_EVENTS"))?;
        let msrs = deadline_last(read_msrs(fd, msr_list)?);
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
            msrs,
            events,
        })
    }

    /// Puts a newborn vCPU `index` into this state. MSRs that are not `allowed`, this host's list, are
    /// refused.
    pub(crate) fn load(
        &self,
        fd: &mut VcpuFd,
        index: u8,
        allowed: &[u32],
        newborn: &Newborn,
    ) -> Result<(), VcpuStateError> {
        let unknown =
            |msr: &&kvm_msr_entry| !newborn.knows(msr.index) && !allowed.contains(&msr.index);
        if let Some(msr) = self.msrs.iter().find(unknown) {
            return Err(VcpuStateError::Msr(msr.index));
        }
        if cpuid::offers_nesting(&self.cpuid) {
            return Err(VcpuStateError::Nesting);
        }
        let same_processor = newborn.has_cpuid(&self.cpuid);
        if !same_processor {
            set_cpuid(fd, &self.cpuid)?;
        }
        self.load_tsc_rate(fd, newborn.tsc_khz())?;
        // With another processor KVM gives some model-specific registers other values.
        let msrs =
            self.msrs.iter().filter(|msr| !(same_processor && newborn.has_msr(msr))).copied();
        self.load_registers(fd, index, msrs, Some(newborn))
    }

    /// Puts vCPU `index`, into which this state was [loaded](Self::load) before, into it again: what
    /// a guest cannot change is left out.
    pub(crate) fn reload(&self, fd: &mut VcpuFd, index: u8) -> Result<(), VcpuStateError> {
        banks::clear(fd)?;
        self.load_registers(fd, index, self.msrs.iter().copied(), None)
    }

    /// Loads all but the processor's identity; of MSRs, these.
    fn load_registers(
        &self,
        fd: &mut VcpuFd,
        index: u8,
        msrs: impl Iterator<Item = kvm_msr_entry>,
        newborn: Option<&Newborn>,
    ) -> Result<(), VcpuStateError> {
        let has = |part: fn(&Newborn, &Self) -> bool| newborn.is_some_and(|n| part(n, self));
        if !has(Newborn::has_mp) {
            fd.set_mp_state(self.mp).map_err(call("KVM_SET_MP_STATE"))?;
        }
        entry::defer_regs(fd, &self.regs);
        fd.set_sregs(&self.sregs).map_err(call("KVM_SET_SREGS"))?;
        if !has(Newborn::has_xcrs) {
            fd.set_xcrs(&self.xcrs).map_err(call("KVM_SET_XCRS"))?;
        }
        if !has(Newborn::has_xsave) {
            load_xsave(fd, &self.xsave)?;
        }
        if !has(Newborn::has_debug) {
            fd.set_debug_regs(&self.debug).map_err(call("KVM_SET_DEBUGREGS"))?;
        }
        if !has(Newborn::has_lapic) {
            fd.set_lapic(&self.lapic).map_err(call("KVM_SET_LAPIC"))?;
        }
        let far_tsc = self.far_tsc().filter(|_| index == 0);
        let all: Vec<_> = far_tsc.into_iter().chain(msrs).collect();
        write_msrs(fd, &all)?;
        match newborn {
            None => entry::defer_events(fd, &self.events),
            Some(newborn) if newborn.has_events(self) => {}
            Some(_) => {
                fd.set_vcpu_events(&self.events).map_err(call("KVM_SET_VCPU_EVENTS"))?;
            }
        }
        if self.has_kvmclock() {
            // The time in the ice was no fault of the guest's: keep its watchdog quiet. EINVAL is a
            // guest that has turned the clock off.
            let _ = fd.kvmclock_ctrl();
        }
        // A processor that waits to be started is given its first registers by KVM, before it takes on what waits
        // for its entry (`kvm_arch_vcpu_ioctl_run` in Linux `arch/x86/kvm/x86.c`).
        let started = matches!(self.mp.mp_state, KVM_MP_STATE_RUNNABLE | KVM_MP_STATE_HALTED);
        if started { Ok(()) } else { entry::settle(fd) }
    }

    /// A TSC far from the saved one, to be written before it. KVM takes a write within a second of what it expects
    /// for an attempt to synchronise and keeps its own value (`kvm_synchronize_tsc` in Linux
    /// `arch/x86/kvm/x86.c`), which would let a young shell's clock win over the snapshot's. After
    /// a write ten seconds off, the saved value that follows counts; later vCPUs then agree with
    /// the first, as they should.
    fn far_tsc(&self) -> Option<kvm_msr_entry> {
        let saved = self.msrs.iter().find(|msr| msr.index == TSC)?;
        let far = saved.data.wrapping_add(u64::from(self.tsc_khz).saturating_mul(10_000));
        Some(kvm_msr_entry { data: far, ..*saved })
    }

    /// Whether the guest has KVM's paravirtual clock, by either of its MSRs.
    fn has_kvmclock(&self) -> bool {
        self.msrs.iter().any(|msr| KVM_SYSTEM_TIME.contains(&msr.index) && msr.data & 1 != 0)
    }

    /// Names the parts in which two states differ, but for clocks: the time-stamp counter, what is
    /// derived from it, and how far the APIC's timer has counted down.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
            postcard::to_stdvec(value).unwrap_or_default()
        }
        let lapic = |state: &Self| {
            let mut lapic = state.lapic;
            // Current count (Intel SDM vol. 3, table 12-1).
            lapic.regs.get_mut(0x390..0x394).into_iter().for_each(|count| count.fill(0));
            bytes(&lapic)
        };
        let parts = [
            ("cpuid", bytes(&self.cpuid) != bytes(&other.cpuid)),
            ("regs", bytes(&self.regs) != bytes(&other.regs)),
            ("sregs", bytes(&self.sregs) != bytes(&other.sregs)),
            ("xcrs", bytes(&self.xcrs) != bytes(&other.xcrs)),
            ("xsave", bytes(&self.xsave) != bytes(&other.xsave)),
            ("debug", bytes(&self.debug) != bytes(&other.debug)),
            ("lapic", lapic(self) != lapic(other)),
            ("mp", bytes(&self.mp) != bytes(&other.mp)),
            ("events", bytes(&self.events) != bytes(&other.events)),
        ];
        let parts = parts.into_iter().filter(|(_, differs)| *differs);
        let mut found: Vec<_> = parts.map(|(name, _)| name.to_owned()).collect();
        let timeless = |state: &Self| {
            let values = state.msrs.iter().map(|msr| (msr.index, msr.data));
            values.filter(|(index, _)| !CLOCKS.contains(index)).collect::<BTreeSet<_>>()
        };
        let (one, two) = (timeless(self), timeless(other));
        let differing: BTreeSet<u32> =
            one.symmetric_difference(&two).map(|(msr, _)| *msr).collect();
        found.extend(differing.into_iter().map(|msr| format!("MSR {msr:#x}")));
        found
    }

    /// CPUID leaves that this vCPU was frozen with.
    pub(crate) fn cpuid(&self) -> &[kvm_cpuid_entry2] {
        &self.cpuid
    }

    /// Asks for time-stamp counter scaling where the host's rate is not the snapshot's.
    fn load_tsc_rate(&self, fd: &VcpuFd, here: u32) -> Result<(), VcpuStateError> {
        let here = u64::from(here);
        let saved = u64::from(self.tsc_khz);
        if saved == 0 || here.abs_diff(saved) * 1_000_000 <= saved * TSC_TOLERANCE_PPM {
            return Ok(());
        }
        fd.set_tsc_khz(self.tsc_khz).map_err(call("KVM_SET_TSC_KHZ"))
    }
}

/// Gives the vCPU its CPUID leaves.
pub(crate) fn set_cpuid(fd: &VcpuFd, leaves: &[kvm_cpuid_entry2]) -> Result<(), VcpuStateError> {
    let cpuid = CpuId::from_entries(leaves)
        .map_err(|_| VcpuStateError::TooMany(leaves.len(), "CPUID leaves"))?;
    fd.set_cpuid2(&cpuid).map_err(call("KVM_SET_CPUID2"))
}

/// Moves the deadline to the end, where loading needs it.
fn deadline_last(mut msrs: Vec<kvm_msr_entry>) -> Vec<kvm_msr_entry> {
    msrs.sort_by_key(|msr| msr.index == TSC_DEADLINE);
    msrs
}

/// Reads every MSR of the list that this kernel can read; the list names some that it cannot.
pub(crate) fn read_msrs(fd: &VcpuFd, list: &[u32]) -> Result<Vec<kvm_msr_entry>, VcpuStateError> {
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

/// Writes MSRs in order.
pub(crate) fn write_msrs(fd: &VcpuFd, msrs: &[kvm_msr_entry]) -> Result<(), VcpuStateError> {
    // The wrapper type refuses more than the kernel takes in one call (256).
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
    // SAFETY: the kernel reads as many bytes as KVM_CAP_XSAVE2 says; `Hypervisor::open` refuses a
    // process for which that is more than the 4096 of `kvm_xsave`.
    unsafe { fd.set_xsave(xsave) }.map_err(call("KVM_SET_XSAVE"))
}
