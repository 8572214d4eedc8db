//! Processor features: what a frozen guest has seen, what this host can give one.
//!
//! A guest looks at CPUID once, at boot, and goes on using what it found. Thawed on a processor
//! that lacks some of it, it would die of an invalid instruction in the middle of anything. So the
//! features are recorded by name, and a host that lacks one is refused before it thaws.

mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use calve_snapshots::{Architecture, Cpu, Host};
use calve_vmm::{Hypervisor, MachineState};

use crate::host::HostError;
use names::{IGNORED, REGISTERS};

/// A CPUID leaf: function, index, [eax, ebx, ecx, edx].
type Leaf = (u32, u32, [u32; 4]);

/// What a machine needs that was frozen on `host`: the features that its first vCPU was shown.
///
/// Those that the host cannot give are left out: the state comes from a worker, which may claim
/// anything, and from KVM, whose variant without hardware support (PVM) shows a vCPU more than it
/// says it supports.
pub fn required_cpu(state: &MachineState, host: &Host) -> Cpu {
    let leaves: Vec<Leaf> = state.cpuid().collect();
    let features = features(&leaves).intersection(&host.features).cloned().collect();
    Cpu { vendor: host.vendor.clone(), features }
}

/// What this host can give a guest.
///
/// # Errors
///
/// When KVM cannot be asked.
pub fn host_cpu() -> Result<Host, HostError> {
    let hypervisor = Hypervisor::open()?;
    let leaves: Vec<Leaf> = hypervisor
        .cpuid()
        .as_slice()
        .iter()
        .map(|l| (l.function, l.index, [l.eax, l.ebx, l.ecx, l.edx]))
        .collect();
    let (vendor, features) = (vendor(&leaves), features(&leaves));
    Ok(Host { architecture: Architecture::NATIVE, vendor, features })
}

fn register(leaves: &[Leaf], function: u32, index: u32, register: usize) -> u32 {
    let leaf = leaves.iter().find(|(f, i, _)| (*f, *i) == (function, index));
    leaf.and_then(|(_, _, registers)| registers.get(register)).copied().unwrap_or(0)
}

/// The twelve letters in EBX, EDX and ECX of leaf 0 (Intel SDM vol. 2, CPUID; AMD APM vol. 3,
/// appendix E).
fn vendor(leaves: &[Leaf]) -> String {
    let bytes: Vec<u8> =
        [1, 3, 2].into_iter().flat_map(|n| register(leaves, 0, 0, n).to_le_bytes()).collect();
    bytes.iter().filter(|b| b.is_ascii_graphic()).map(|b| char::from(*b)).collect()
}

/// Names of all feature bits that are set. A bit that has no name here is called by its place, so
/// that the next processor's features count, too.
fn features(leaves: &[Leaf]) -> BTreeSet<String> {
    let mut features = BTreeSet::new();
    for names in REGISTERS {
        let value = register(leaves, names.function, names.index, names.register);
        for bit in (0..32_u8).filter(|bit| value & (1 << bit) != 0) {
            let name = match names.bits.iter().find(|(n, _)| *n == bit) {
                Some((_, name)) if IGNORED.contains(name) => continue,
                Some((_, name)) => (*name).to_owned(),
                None if names.only_named => continue,
                None => names.place(bit),
            };
            features.insert(name);
        }
    }
    features
}
