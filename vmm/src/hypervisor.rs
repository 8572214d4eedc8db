//! What this host's KVM offers, checked once.

use std::io;
use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, Kvm, VmFd};
use thiserror::Error;

use crate::memory::PageTables;

/// The stable KVM API version (Linux `Documentation/virt/kvm/api.rst`, §4.1).
const API_VERSION: i32 = 12;

/// Memory type range registers, which a guest sets and KVM keeps but does not list (Intel SDM vol. 4):
/// eight variable ranges, the fixed ones, and the default type.
const MTRRS: [std::ops::RangeInclusive<u32>; 5] =
    [0x200..=0x20f, 0x250..=0x250, 0x258..=0x259, 0x268..=0x26f, 0x2ff..=0x2ff];

/// `IA32_DEBUGCTL`, which only recent kernels list.
pub(crate) const DEBUG_CONTROL: u32 = 0x1d9;

/// Bytes of `struct kvm_xsave`.
const XSAVE_BYTES: i32 = 4096;
/// Synthetic MSRs of Hyper-V's interface, which our CPUID does not offer: touching one makes KVM
/// allocate a Hyper-V context for the vCPU.
const HYPER_V_MSRS: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x4000_0fff;

/// Extensions without which no machine can run, with the name that a kernel developer searches for.
const REQUIRED: [(Cap, &str); 10] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::SyncRegs, "KVM_CAP_SYNC_REGS"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::PitState2, "KVM_CAP_PIT_STATE2"),
    (Cap::AdjustClock, "KVM_CAP_ADJUST_CLOCK"),
    (Cap::Xsave, "KVM_CAP_XSAVE"),
    (Cap::Xcrs, "KVM_CAP_XCRS"),
];

/// Why this host cannot run machines.
#[derive(Debug, Error)]
pub enum HypervisorError {
    /// `/dev/kvm` is missing or closed to us.
    #[error("cannot open /dev/kvm: load the kvm_intel or kvm_amd module and give this user access")]
    Open(#[source] io::Error),
    /// A KVM from another age.
    #[error("KVM speaks API version {0}, not 12: update the host's kernel")]
    ApiVersion(i32),
    /// An extension is missing.
    #[error("this host's KVM lacks {0}: update the host's kernel")]
    Missing(&'static str),
    /// This process has unlocked processor features whose state does not fit a snapshot.
    #[error(
        "guests of this process may use AMX ({0} bytes of state): do not request ARCH_REQ_XCOMP_GUEST_PERM"
    )]
    Xsave(i32),
    /// A KVM call failed.
    #[error("{0} failed")]
    Call(&'static str, #[source] io::Error),
}

/// An open `/dev/kvm` and the facts that every machine needs from it: all that a machine needs a path for.
#[derive(Debug)]
pub struct Hypervisor {
    kvm: Kvm,
    cpuid: CpuId,
    msrs: Arc<[u32]>,
    tables: PageTables,
}

impl Hypervisor {
    /// Opens `/dev/kvm` and checks that it can run machines.
    ///
    /// # Errors
    ///
    /// Says what is missing and what to do about it.
    pub fn open() -> Result<Self, HypervisorError> {
        let kvm = Kvm::new().map_err(|e| HypervisorError::Open(e.into()))?;
        let version = kvm.get_api_version();
        if version != API_VERSION {
            return Err(HypervisorError::ApiVersion(version));
        }
        if let Some((_, name)) = REQUIRED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            return Err(HypervisorError::Missing(name));
        }
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|e| HypervisorError::Call("KVM_GET_SUPPORTED_CPUID", e.into()))?;
        let msrs = kvm
            .get_msr_index_list()
            .map_err(|e| HypervisorError::Call("KVM_GET_MSR_INDEX_LIST", e.into()))?;
        // KVM_GET_XSAVE2 answers with the size of a guest's state. More than the classic 4096 bytes
        // means that this process has asked for dynamically sized features (AMX) for its guests,
        // which the saved form of a vCPU has no room for.
        let xsave = kvm.check_extension_int(Cap::Xsave2);
        if xsave > XSAVE_BYTES {
            return Err(HypervisorError::Xsave(xsave));
        }
        let msrs = msrs.as_slice().iter().copied().filter(|msr| !HYPER_V_MSRS.contains(msr));
        let mut msrs: Vec<_> = msrs.chain(MTRRS.into_iter().flatten()).collect();
        if !msrs.contains(&DEBUG_CONTROL) {
            msrs.push(DEBUG_CONTROL);
        }
        Ok(Self { cpuid, msrs: msrs.into(), kvm, tables: PageTables::open() })
    }

    /// CPUID leaves that this host can give a guest.
    pub fn cpuid(&self) -> &CpuId {
        &self.cpuid
    }

    /// The page tables of the process that opened this, which is the one that its machines run in.
    pub(crate) fn tables(&self) -> PageTables {
        self.tables.another()
    }

    /// Model-specific registers that make up a vCPU's state on this host.
    pub(crate) fn msrs(&self) -> Arc<[u32]> {
        self.msrs.clone()
    }

    /// Whether the TSC-deadline mode of the local APIC can be offered.
    pub(crate) fn has_tsc_deadline(&self) -> bool {
        self.kvm.check_extension(Cap::TscDeadlineTimer)
    }

    /// Creates an empty VM.
    pub(crate) fn create_vm(&self) -> Result<VmFd, HypervisorError> {
        // An interrupted KVM_CREATE_VM did nothing and may be repeated.
        loop {
            match self.kvm.create_vm() {
                Ok(vm) => return Ok(vm),
                Err(e) if e.errno() == nix::libc::EINTR => {}
                Err(e) => return Err(HypervisorError::Call("KVM_CREATE_VM", e.into())),
            }
        }
    }

    /// Bytes of the `kvm_run` page shared with the kernel.
    pub(crate) fn run_size(&self) -> Result<usize, HypervisorError> {
        self.kvm
            .get_vcpu_mmap_size()
            .map_err(|e| HypervisorError::Call("KVM_GET_VCPU_MMAP_SIZE", e.into()))
    }
}
