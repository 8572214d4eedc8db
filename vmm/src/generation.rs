//! The VM generation identifier: tells a guest's kernel that it has been cloned.
//!
//! Sixteen bytes of guest memory that differ in every machine, and an interrupt when they change
//! (Microsoft, "Virtual Machine Generation ID"; Linux `drivers/virt/vmgenid.c`, which mixes them into
//! its random pool and reseeds at once).
//!
//! They lie in a page of their own, beside RAM and in no snapshot, which has a fresh identifier from
//! birth: a thaw writes none. Nor does it interrupt by a call of its own: the I/O APIC, which it
//! loads anyway, is loaded with the interrupt pending (`platform.rs`).
#![allow(unsafe_code)]

use std::io;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder};
use vm_memory::{Bytes, VolatileMemory};

use crate::irq::{IrqLine as _, Pin};
use crate::layout::VMGENID;

/// Bytes of an identifier.
const LEN: usize = 16;
/// Bytes of the page that it begins.
const PAGE: usize = 4096;

/// The identifier of one machine.
#[derive(Debug)]
pub(crate) struct Generation {
    /// What says that it changed.
    event: Pin,
    page: MmapRegion<()>,
}

impl Generation {
    /// Makes a page and draws its first identifier; `event` is the line that announces later ones.
    pub(crate) fn draw(event: Pin) -> io::Result<Self> {
        let page = MmapRegionBuilder::new(PAGE)
            .with_mmap_prot(nix::libc::PROT_READ | nix::libc::PROT_WRITE)
            .with_mmap_flags(nix::libc::MAP_PRIVATE | nix::libc::MAP_ANONYMOUS)
            .build()
            .map_err(io::Error::other)?;
        let generation = Self { event, page };
        generation.redraw()?;
        Ok(generation)
    }

    /// Shows the page to the guest, as memslot `slot`.
    pub(crate) fn show(&self, vm: &VmFd, slot: u32) -> Result<(), kvm_ioctls::Error> {
        let memslot = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: VMGENID,
            memory_size: PAGE as u64,
            userspace_addr: self.page.as_ptr() as u64,
        };
        // SAFETY: the page is mapped, of this size, and owned by `self`, which `Parts` drops after the
        // VM; it overlaps no RAM, which leaves the hole out (`memory::regions`).
        unsafe { vm.set_user_memory_region(memslot) }
    }

    /// The identifier. The guest can write to it, too.
    pub(crate) fn read(&self) -> io::Result<[u8; LEN]> {
        let mut identifier = [0; LEN];
        let page = self.page.as_volatile_slice();
        page.read_slice(&mut identifier, 0).map_err(io::Error::other)?;
        Ok(identifier)
    }

    /// Draws another identifier, for a guest that is told in another way, or has not read one yet. Nothing else is on
    /// the page then, whatever a guest has left there.
    pub(crate) fn redraw(&self) -> io::Result<()> {
        let mut page = [0; PAGE];
        let (identifier, _) = page.split_at_mut(LEN);
        getrandom::fill(identifier).map_err(io::Error::other)?;
        self.page.as_volatile_slice().write_slice(&page, 0).map_err(io::Error::other)
    }

    /// Draws another identifier and tells the guest.
    pub(crate) fn change(&self) -> io::Result<()> {
        self.redraw()?;
        // An I/O APIC that was loaded with the interrupt pending holds the line high, and a line that
        // is high has no edge.
        self.event.lower();
        self.event.raise();
        Ok(())
    }
}
