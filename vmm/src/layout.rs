//! The guest-physical address map.
//!
//! ```text
//! 0x0000_0000  ┌ RAM ──────────────────────────────┐
//! 0x0000_6000  │ boot facts (PVH start info, maps)  │
//! 0x0002_0000  │ kernel command line                │
//! 0x0009_fc00  ├ reserved ─────────────────────────┤
//! 0x000e_0000  │ ACPI tables                        │
//! 0x0010_0000  ├ RAM: kernel, initrd, everything ──┤
//! 0xc000_0000  ├ hole: 1 GiB ──────────────────────┤
//! 0xc000_0000  │ VM generation identifier           │
//! 0xd000_0000  │ virtio-mmio windows, 4 KiB each    │
//! 0xfec0_0000  │ I/O APIC                           │
//! 0xfee0_0000  │ local APIC                         │
//! 0xfffb_c000  │ pages KVM needs on Intel           │
//! 0x1_0000_0000├ RAM: what does not fit below ─────┤
//! ```
//!
//! The map is part of the snapshot format: a machine frozen with one map cannot be thawed with
//! another. Changing a constant here means raising [`crate::state::MACHINE_VERSION`].

/// Bytes in a page of guest memory.
pub const PAGE_SIZE: u64 = 4096;

/// First byte of the hole below 4 GiB that device windows live in.
pub const HOLE_START: u64 = 0xc000_0000;
/// First byte after the hole; RAM that does not fit below [`HOLE_START`] goes on here.
pub const HOLE_END: u64 = 0x1_0000_0000;

/// The 16-byte VM generation identifier: a page of its own, which is no RAM and in no snapshot.
pub const VMGENID: u64 = HOLE_START;

/// The first virtio-mmio window; window *n* starts `n * VIRTIO_WINDOW` bytes higher.
pub const VIRTIO_BASE: u64 = 0xd000_0000;
/// Bytes of one virtio-mmio window.
pub const VIRTIO_WINDOW: u64 = 0x1000;
/// Most virtio devices of one machine; bounded by the I/O APIC's free pins.
pub const MAX_DEVICES: usize = 7;

/// I/O APIC registers; where every PC has them (Intel 82093AA, §3).
pub const IOAPIC_BASE: u32 = 0xfec0_0000;
/// Local APIC registers at their reset address (Intel SDM vol. 3, §11.4.1).
pub const LAPIC_BASE: u32 = 0xfee0_0000;
/// Three pages that KVM needs on Intel without unrestricted guest (Linux
/// `Documentation/virt/kvm/api.rst`, `KVM_SET_TSS_ADDR`).
pub const KVM_TSS: u64 = 0xfffb_d000;
/// One page for the identity map that KVM needs beside the TSS (`KVM_SET_IDENTITY_MAP_ADDR`).
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// PVH start info (`hvm_start_info`, Xen `public/arch-x86/hvm/start_info.h`).
pub const PVH_START_INFO: u64 = 0x6000;
/// PVH module list: one entry for the initrd.
pub const PVH_MODULES: u64 = 0x6040;
/// PVH memory map.
pub const PVH_MEMORY_MAP: u64 = 0x6100;
/// The "zero page" of the 64-bit Linux boot protocol (`Documentation/arch/x86/zero-page.rst`).
pub const ZERO_PAGE: u64 = 0x7000;
/// Identity-mapping page tables of the 64-bit Linux boot protocol: PML4, PDPT, four page
/// directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// Global descriptor table for either protocol.
pub const GDT: u64 = 0x500;
/// Kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line in bytes, terminating zero included (`COMMAND_LINE_SIZE` of x86 Linux).
pub const CMDLINE_MAX: usize = 2048;

/// Low memory that the memory map calls usable ends here, as below an EBDA.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// RSDP and tables; inside 0xe0000–0xfffff, where an OS without other hints searches for the
/// RSDP (ACPI 6.5, §5.2.5.1).
pub const ACPI_TABLES: u64 = 0xe_0000;
/// End of reserved low memory; RAM goes on.
pub const HIGH_RAM_START: u64 = 0x10_0000;

/// First I/O port of the first serial port.
pub const COM1: u16 = 0x3f8;
/// ACPI sleep control and sleep status registers (ACPI 6.5, §4.8.3.7), one byte each.
pub const SLEEP_CONTROL: u16 = 0x600;
/// See [`SLEEP_CONTROL`].
pub const SLEEP_STATUS: u16 = 0x601;
/// ACPI reset register (ACPI 6.5, §4.8.3.6): any write resets.
pub const RESET: u16 = 0x602;
/// Keyboard controller command port, through which older kernels reset.
pub const I8042_COMMAND: u16 = 0x64;

/// Interrupt line of the first serial port.
pub const COM1_GSI: u32 = 4;
/// Interrupt line of the generic event device, through which VMGENID changes are announced: the
/// last pin of the I/O APIC. Lines below 16 also reach the PIC, which a guest under
/// hardware-reduced ACPI never programs.
pub const GED_GSI: u32 = 23;
/// Interrupt line of the first virtio device; device *n* has line `VIRTIO_GSI + n`.
pub const VIRTIO_GSI: u32 = 16;

const _: () = assert!(VIRTIO_GSI as usize + MAX_DEVICES <= GED_GSI as usize, "one pin each");
const _: () =
    assert!(PVH_MEMORY_MAP < ZERO_PAGE && ZERO_PAGE < PAGE_TABLES && PAGE_TABLES < CMDLINE);
