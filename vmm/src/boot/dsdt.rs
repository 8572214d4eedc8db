//! The devices of a machine in AML: what ACPI calls its namespace.

use acpi_tables::Aml;
use acpi_tables::aml::{
    Arg, Device, EISAName, Equal, IO, If, Interrupt, Memory32Fixed, Method, Name, Notify,
    ONE, Package, Path, ResourceTemplate, Scope,
};

use crate::bus::SLEEP_TYPE_S5;
use crate::layout::{
    COM1, COM1_GSI, GED_GSI, VIRTIO_BASE, VIRTIO_GSI, VIRTIO_WINDOW, VMGENID,
};
use crate::shape::Shape;

/// Notification value "device check of the identifier": the only one that VMGENID defines
/// (Microsoft, "Virtual Machine Generation ID", §"Notification").
const GENERATION_CHANGED: u8 = 0x80;

/// AML of the whole DSDT behind its header.
pub(super) fn aml(shape: &Shape) -> Vec<u8> {
    let mut bytes = Vec::new();
    for slot in 0..=u32::from(shape.disks()) {
        virtio(slot, &mut bytes);
    }
    serial(&mut bytes);
    generation(&mut bytes);
    let (kind, zero) = (SLEEP_TYPE_S5, 0_u8);
    Name::new("_S5_".into(), &Package::new(vec![&kind, &zero])).to_aml_bytes(&mut bytes);
    bytes
}

/// An edge-triggered, active-high line of the device's own, as an irqfd is.
fn line(gsi: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, gsi)
}

fn system_bus(device: &dyn Aml, bytes: &mut Vec<u8>) {
    Scope::new("\\_SB_".into(), vec![device]).to_aml_bytes(bytes);
}

/// Window `slot`, under the id that Linux's virtio-mmio driver listens to.
fn virtio(slot: u32, bytes: &mut Vec<u8>) {
    #[allow(clippy::cast_possible_truncation, reason = "the hole lies below 4 GiB")]
    let base = VIRTIO_BASE as u32 + slot * VIRTIO_WINDOW as u32;
    let window = Memory32Fixed::new(true, base, 0x1000);
    let interrupt = line(VIRTIO_GSI + slot);
    let resources = ResourceTemplate::new(vec![&window, &interrupt]);
    let device = Device::new(
        Path::new(&format!("V{slot:03}")),
        vec![
            &Name::new("_HID".into(), &"LNRO0005"),
            &Name::new("_UID".into(), &slot),
            &Name::new("_CCA".into(), &ONE),
            &Name::new("_CRS".into(), &resources),
        ],
    );
    system_bus(&device, bytes);
}

fn serial(bytes: &mut Vec<u8>) {
    let interrupt = line(COM1_GSI);
    let ports = IO::new(COM1, COM1, 1, 8);
    let resources = ResourceTemplate::new(vec![&interrupt, &ports]);
    let device = Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &0_u8),
            &Name::new("_CRS".into(), &resources),
        ],
    );
    system_bus(&device, bytes);
}

/// The generation identifier, and the event device whose interrupt says that it changed.
fn generation(bytes: &mut Vec<u8>) {
    #[allow(clippy::cast_possible_truncation, reason = "low memory")]
    let (low, high) = (VMGENID as u32, 0_u32);
    let identifier = Device::new(
        "VGEN".into(),
        vec![
            &Name::new("_HID".into(), &"CLVE0001"),
            &Name::new("_CID".into(), &"VM_Gen_Counter"),
            &Name::new("_DDN".into(), &"VM_Gen_Counter"),
            &Name::new("ADDR".into(), &Package::new(vec![&low, &high])),
        ],
    );
    system_bus(&identifier, bytes);

    let interrupt = line(GED_GSI);
    let resources = ResourceTemplate::new(vec![&interrupt]);
    let path = Path::new("\\_SB_.VGEN");
    let notify = Notify::new(&path, &GENERATION_CHANGED);
    let which = Equal::new(&Arg(0), &GED_GSI);
    let changed = If::new(&which, vec![&notify]);
    let events = Device::new(
        "GED_".into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0013"),
            &Name::new("_UID".into(), &0_u8),
            &Name::new("_CRS".into(), &resources),
            &Method::new("_EVT".into(), 1, true, vec![&changed]),
        ],
    );
    system_bus(&events, bytes);
}
