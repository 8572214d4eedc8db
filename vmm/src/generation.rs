//! The VM generation identifier: tells a guest's kernel that it has been cloned.
//!
//! Sixteen bytes in reserved guest memory that differ in every machine, and an interrupt when they
//! change (Microsoft, "Virtual Machine Generation ID"; Linux `drivers/virt/vmgenid.c`, which mixes
//! them into its random pool and reseeds at once).

use std::io;

use vm_memory::{Bytes, GuestAddress};

use crate::irq::{IrqLine as _, Pin};
use crate::layout::VMGENID;
use crate::memory::GuestMemory;

/// Writes a fresh identifier; no interrupt, for a guest that has not read one yet.
pub(crate) fn write_fresh(memory: &GuestMemory) -> io::Result<()> {
    let mut identifier = [0_u8; 16];
    getrandom::fill(&mut identifier).map_err(io::Error::other)?;
    memory.write_slice(&identifier, GuestAddress(VMGENID)).map_err(io::Error::other)
}

/// Writes a fresh identifier and raises the event line.
pub(crate) fn change(memory: &GuestMemory, event: &Pin) -> io::Result<()> {
    write_fresh(memory)?;
    event.raise();
    Ok(())
}
