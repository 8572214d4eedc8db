//! Guest memory.

/// Guest memory as devices see it: regions by guest physical address, cheap to clone.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;
