//! The ACPI tables of a machine without a chipset (ACPI 6.5, §4.1: hardware-reduced).
//!
//! RSDP → XSDT → { FADT → DSDT, MADT }. Everything a guest must find that is not on a bus that
//! describes itself stands here: processors, the I/O APIC, the power and reset registers, and in
//! the DSDT the virtio-mmio windows, the serial port and the VM generation identifier.

use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, CREATOR_ID};
use vm_memory::{Bytes, GuestAddress};

use super::{BootError, dsdt};
use crate::layout::{
    ACPI_TABLES, HIGH_RAM_START, IOAPIC_BASE, LAPIC_BASE, RESET, SLEEP_CONTROL, SLEEP_STATUS,
};
use crate::memory::GuestMemory;
use crate::shape::Shape;

const OEM: [u8; 6] = *b"CALVE ";
const OEM_TABLE: [u8; 8] = *b"CALVEVMM";
const OEM_REVISION: u32 = 1;
/// Revision of a DSDT with 64-bit integers (ACPI 6.5, §5.2.11.1).
const DSDT_REVISION: u8 = 2;
/// Bytes of a table's header (ACPI 6.5, table 5.4).
const HEADER_BYTES: u32 = 36;

/// Writes the tables and returns the address of the RSDP.
pub(crate) fn write(memory: &GuestMemory, shape: &Shape) -> Result<u64, BootError> {
    let mut place = Placer { memory, next: ACPI_TABLES + RSDP_ROOM };
    let mut sdt = Sdt::new(*b"DSDT", HEADER_BYTES, DSDT_REVISION, OEM, OEM_TABLE, OEM_REVISION);
    sdt.append_slice(&dsdt::aml(shape));
    let dsdt = place.put(sdt.as_slice())?;
    let fadt = place.put_table(&fadt(dsdt))?;
    let madt = place.put_table(&madt(shape.vcpus()))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place.put_table(&xsdt)?;
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    memory.write_slice(&rsdp, GuestAddress(ACPI_TABLES))?;
    Ok(ACPI_TABLES)
}

/// The RSDP stands first, on the 16-byte boundary where it is searched for.
const RSDP_ROOM: u64 = 64;

struct Placer<'a> {
    memory: &'a GuestMemory,
    next: u64,
}

impl Placer<'_> {
    fn put(&mut self, table: &[u8]) -> Result<u64, BootError> {
        let at = self.next;
        let end = at + table.len() as u64;
        if end > HIGH_RAM_START {
            return Err(BootError::AcpiTooLarge(end - ACPI_TABLES));
        }
        self.memory.write_slice(table, GuestAddress(at))?;
        self.next = end.next_multiple_of(16);
        Ok(at)
    }

    fn put_table(&mut self, table: &dyn Aml) -> Result<u64, BootError> {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        self.put(&bytes)
    }
}

fn fadt(dsdt: u64) -> acpi_tables::fadt::FADT {
    let port =
        |port: u16| GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, port.into());
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.reset_reg = port(RESET);
    fadt.reset_value = 1;
    fadt.sleep_control_reg = port(SLEEP_CONTROL);
    fadt.sleep_status_reg = port(SLEEP_STATUS);
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(OEM_TABLE).into();
    // No VGA, no CMOS clock, no 8042 to probe for (ACPI 6.5, table 5.11).
    fadt.iapc_boot_arch = ((1 << 2) | (1 << 5)).into();
    fadt.creator_id = CREATOR_ID;
    fadt.finalize()
}

fn madt(vcpus: u8) -> MADT {
    let mut madt =
        MADT::new(OEM, OEM_TABLE, OEM_REVISION, LocalInterruptController::Address(LAPIC_BASE));
    for id in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, IOAPIC_BASE, 0));
    madt
}
