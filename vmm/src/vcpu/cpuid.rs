//! The CPUID leaves of one vCPU: what the host supports, with identity and topology filled in.
//!
//! KVM reports the leaves of whichever host processor it ran on, so everything that depends on
//! the processor's number must be set (AMD APM vol. 3, appendix E; Intel SDM vol. 2, CPUID).

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Leaf 1 ECX: TSC-deadline mode of the local APIC timer.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1 ECX: running under a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: more than one logical processor.
const HTT: u32 = 1 << 28;
/// KVM's feature leaf (Linux `Documentation/virt/kvm/x86/cpuid.rst`).
const KVM_FEATURES: u32 = 0x4000_0001;
/// Asynchronous page faults, in all three forms. Left out: a token in flight at the freeze would
/// never be answered after the thaw, and copy-on-write faults from the page cache do not sleep.
const KVM_ASYNC_PF: u32 = (1 << 4) | (1 << 10) | (1 << 14);

/// Leaves for processor `index` of `count`.
pub(crate) fn for_vcpu(supported: &CpuId, index: u8, count: u8, tsc_deadline: bool) -> CpuId {
    let mut cpuid = supported.clone();
    let apic = u32::from(index);
    let count = u32::from(count);
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            0x1 => leaf_1(entry, apic, count, tsc_deadline),
            // Deterministic cache parameters, cores per package in EAX[31:26].
            0x4 => entry.eax = (entry.eax & !0xfc00_0000) | ((count - 1) << 26),
            0xb | 0x1f => topology(entry, apic, count),
            KVM_FEATURES => entry.eax &= !KVM_ASYNC_PF,
            // Size identifiers: ECX[7:0] cores less one, ECX[15:12] bits of the core number.
            0x8000_0008 => {
                entry.ecx = (entry.ecx & !0xf0ff) | (count - 1) | (core_bits(count) << 12)
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
    entry.ecx |= HYPERVISOR;
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
fn topology(entry: &mut kvm_cpuid_entry2, apic: u32, count: u32) {
    let level = entry.index;
    let (shift, logical, kind) = match level {
        0 => (0, 1, 1),
        1 => (core_bits(count), count, 2),
        _ => (0, 0, 0),
    };
    entry.eax = shift;
    entry.ebx = logical;
    entry.ecx = level | (kind << 8);
    entry.edx = apic;
}

/// Bits needed to number `count` cores.
fn core_bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        *cpuid.as_slice().iter().find(|e| e.function == function && e.index == index).unwrap()
    }

    fn host() -> CpuId {
        let entry = |function, index| kvm_cpuid_entry2 {
            function,
            index,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        };
        let leaves =
            [entry(1, 0), entry(0xb, 0), entry(0xb, 1), entry(0xb, 2), entry(KVM_FEATURES, 0)];
        CpuId::from_entries(&leaves).unwrap()
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
    fn topology_counts_the_cores() {
        let cpuid = for_vcpu(&host(), 0, 3, true);
        assert_eq!((leaf(&cpuid, 0xb, 1).eax, leaf(&cpuid, 0xb, 1).ebx), (2, 3));
        assert_eq!(leaf(&cpuid, 0xb, 2).ecx, 2, "an invalid level ends the list");
    }

    #[test]
    fn asynchronous_page_faults_are_never_offered() {
        let cpuid = for_vcpu(&host(), 0, 1, true);
        assert_eq!(leaf(&cpuid, KVM_FEATURES, 0).eax & KVM_ASYNC_PF, 0);
    }

    #[test]
    fn the_deadline_timer_follows_the_host() {
        assert_ne!(leaf(&for_vcpu(&host(), 0, 1, true), 1, 0).ecx & TSC_DEADLINE, 0);
        assert_eq!(leaf(&for_vcpu(&host(), 0, 1, false), 1, 0).ecx & TSC_DEADLINE, 0);
    }
}
