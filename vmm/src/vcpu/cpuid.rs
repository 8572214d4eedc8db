//! The CPUID leaves of one vCPU: what the host supports, with identity and topology filled in.
//!
//! KVM reports the leaves of whichever host processor it ran on, so everything that depends on
//! the processor's number must be set (AMD APM vol. 3, appendix E; Intel SDM vol. 2, CPUID).

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaf 1 ECX: TSC-deadline mode of the local APIC timer.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1 ECX: running under a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: more than one logical processor.
const HTT: u32 = 1 << 28;
/// Leaf 1 ECX: VMX; leaf 0x8000_0001 ECX: SVM, whose details are leaf 0x8000_000a. Not offered:
/// nested virtualisation is the riskiest part of KVM, and its state is not part of a snapshot.
const VMX: u32 = 1 << 5;
const SVM: u32 = 1 << 2;
/// KVM's feature leaf (Linux `Documentation/virt/kvm/x86/cpuid.rst`).
const KVM_FEATURES: u32 = 0x4000_0001;
/// Asynchronous page faults, in all three forms. Left out: a token in flight at the freeze would
/// never be answered after the thaw, and copy-on-write faults from the page cache do not sleep.
const KVM_ASYNC_PF: u32 = (1 << 4) | (1 << 10) | (1 << 14);

/// Leaves for processor `index` of `count`.
pub(crate) fn for_vcpu(
    supported: &[kvm_cpuid_entry2],
    index: u8,
    count: u8,
    tsc_deadline: bool,
) -> Vec<kvm_cpuid_entry2> {
    let apic = u32::from(index);
    let count = u32::from(count);
    // KVM gives the topology leaves as many levels as the host processor it asked had, or one
    // empty one: make them anew where there are any.
    let is_topology = |leaf: &kvm_cpuid_entry2| matches!(leaf.function, 0xb | 0x1f);
    let mut cpuid: Vec<_> = supported.iter().filter(|l| !is_topology(l)).copied().collect();
    for function in [0xb, 0x1f] {
        if supported.iter().any(|leaf| leaf.function == function) {
            cpuid.extend((0..3).map(|level| topology(function, level, apic, count)));
        }
    }
    for entry in &mut cpuid {
        match entry.function {
            0x1 => leaf_1(entry, apic, count, tsc_deadline),
            // Deterministic cache parameters: EAX[31:26] cores per package less one, EAX[25:14]
            // processors that share the cache less one. Only the last level is shared.
            0x4 => {
                let shared = if (entry.eax >> 5) & 7 >= 3 { count - 1 } else { 0 };
                entry.eax = (entry.eax & 0x3fff) | ((count - 1) << 26) | (shared << 14);
            }
            0x8000_001d => {
                let shared = if (entry.eax >> 5) & 7 >= 3 { count - 1 } else { 0 };
                entry.eax = (entry.eax & !0x03ff_c000) | (shared << 14);
            }
            KVM_FEATURES => entry.eax &= !KVM_ASYNC_PF,
            0x8000_0001 => entry.ecx &= !SVM,
            0x8000_000a => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            // Size identifiers: ECX[7:0] cores less one, ECX[15:12] bits of the core number.
            0x8000_0008 => {
                entry.ecx = (entry.ecx & !0xf0ff) | (count - 1) | (core_bits(count) << 12);
            }
            // Extended APIC id, one thread a core, one node.
            0x8000_001e => {
                entry.eax = apic;
                entry.ebx = apic & 0xff;
                entry.ecx = 0;
            }
            _ => {}
        }
    }
    cpuid
}

fn leaf_1(entry: &mut kvm_cpuid_entry2, apic: u32, count: u32, tsc_deadline: bool) {
    entry.ebx = (entry.ebx & 0x0000_ffff) | (count << 16) | (apic << 24);
    entry.ecx = (entry.ecx | HYPERVISOR) & !VMX;
    if tsc_deadline {
        entry.ecx |= TSC_DEADLINE;
    } else {
        entry.ecx &= !TSC_DEADLINE;
    }
    if count > 1 {
        entry.edx |= HTT;
    } else {
        entry.edx &= !HTT;
    }
}

/// Extended topology: level 0 is the thread (one a core), level 1 the core, then nothing.
fn topology(function: u32, level: u32, apic: u32, count: u32) -> kvm_cpuid_entry2 {
    let (shift, logical, kind) = match level {
        0 => (0, 1, 1),
        1 => (core_bits(count), count, 2),
        _ => (0, 0, 0),
    };
    kvm_cpuid_entry2 {
        function,
        index: level,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: logical,
        ecx: level | (kind << 8),
        edx: apic,
        ..Default::default()
    }
}

/// Whether a saved processor offers what [`for_vcpu`] never does, so that no snapshot can bring it
/// back.
pub(crate) fn offers_nesting(cpuid: &[kvm_cpuid_entry2]) -> bool {
    cpuid.iter().any(|leaf| match leaf.function {
        0x1 => leaf.ecx & VMX != 0,
        0x8000_0001 => leaf.ecx & SVM != 0,
        _ => false,
    })
}

/// Bits needed to number `count` cores.
fn core_bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(cpuid: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *cpuid.iter().find(|e| e.function == function && e.index == index).unwrap()
    }

    /// A host with every bit set and one level of topology, as KVM often reports.
    fn host() -> Vec<kvm_cpuid_entry2> {
        let entry = |function| kvm_cpuid_entry2 {
            function,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        };
        [0x1, 0xb, KVM_FEATURES, 0x8000_0001, 0x8000_000a].map(entry).into()
    }

    #[test]
    fn each_processor_has_its_own_apic_id() {
        for index in 0..8 {
            let cpuid = for_vcpu(&host(), index, 8, true);
            assert_eq!(leaf(&cpuid, 1, 0).ebx >> 24, u32::from(index));
            assert_eq!(leaf(&cpuid, 0xb, 1).edx, u32::from(index));
        }
    }

    #[test]
    fn topology_counts_the_cores_whatever_the_host_reports() {
        let cpuid = for_vcpu(&host(), 0, 3, true);
        assert_eq!((leaf(&cpuid, 0xb, 1).eax, leaf(&cpuid, 0xb, 1).ebx), (2, 3));
        assert_eq!(leaf(&cpuid, 0xb, 2).ecx, 2, "an invalid level ends the list");
        assert!(!cpuid.iter().any(|leaf| leaf.function == 0x1f), "the host has no leaf 0x1f");
    }

    #[test]
    fn nested_virtualisation_and_asynchronous_page_faults_are_never_offered() {
        assert!(offers_nesting(&host()));
        let cpuid = for_vcpu(&host(), 0, 1, true);
        assert!(!offers_nesting(&cpuid));
        assert_eq!(leaf(&cpuid, 0x8000_000a, 0).edx, 0);
        assert_eq!(leaf(&cpuid, KVM_FEATURES, 0).eax & KVM_ASYNC_PF, 0);
    }

    #[test]
    fn the_deadline_timer_follows_the_host() {
        assert_ne!(leaf(&for_vcpu(&host(), 0, 1, true), 1, 0).ecx & TSC_DEADLINE, 0);
        assert_eq!(leaf(&for_vcpu(&host(), 0, 1, false), 1, 0).ecx & TSC_DEADLINE, 0);
    }
}
