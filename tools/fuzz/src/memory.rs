//! Guest memory that is used again for every input.

use calve_vmm::fuzzing::GuestMemory;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// Regions by guest address and bytes: two that touch, so that a buffer can lie in both, and one behind a hole.
pub(crate) const REGIONS: [(u64, usize); 3] =
    [(0, 0x1_0000), (0x1_0000, 0x8000), (0x2_0000, 0x8000)];

thread_local! {
    static MEMORY: GuestMemory = {
        let ranges = REGIONS.map(|(at, len)| (GuestAddress(at), len));
        GuestMemory::from_ranges(&ranges).expect("a host with memory")
    };
}

/// The memory, all zeros. Only one value of it is in use at a time.
pub(crate) fn zeroed() -> GuestMemory {
    let memory = MEMORY.with(Clone::clone);
    for (at, len) in REGIONS {
        memory.write_slice(&vec![0; len], GuestAddress(at)).expect("a region");
    }
    memory
}

/// All of its bytes, region after region.
pub(crate) fn contents(memory: &GuestMemory) -> Vec<u8> {
    let len: u64 = memory.iter().map(GuestMemoryRegion::len).sum();
    let mut bytes = vec![0; usize::try_from(len).expect("a small memory")];
    let mut done = 0;
    for (at, len) in REGIONS {
        memory.read_slice(&mut bytes[done..done + len], GuestAddress(at)).expect("a region");
        done += len;
    }
    bytes
}

/// The guest address of a byte of [`contents`].
pub(crate) fn address(mut offset: usize) -> u64 {
    for (at, len) in REGIONS {
        if offset < len {
            return at + offset as u64;
        }
        offset -= len;
    }
    unreachable!("a byte of memory")
}
