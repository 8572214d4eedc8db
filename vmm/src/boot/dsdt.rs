//! The devices of a machine in AML: what ACPI calls its namespace.

use acpi_tables::Aml;
use acpi_tables::aml::{
    Arg, Device, EISAName, Equal, IO, If, Interrupt, Memory32Fixed, Method, Name, Notify, ONE,
    Package, Path, ResourceTemplate, Scope,
};

use crate::bus::SLEEP_TYPE_S5;
use crate::layout::{COM1, COM1_GSI, GED_GSI, VIRTIO_BASE, VIRTIO_GSI, VIRTIO_WINDOW, VMGENID};
use crate::shape::Shape;

/// Notification value "the identifier has changed", the only one that VMGENID defines (Microsoft,
/// "Virtual Machine Generation ID").
const GENERATION_CHANGED: u8 = 0x80;

/// AML of the whole DSDT behind its header.
pub(super) fn aml(shape: &Shape) -> Vec<u8> {
    let mut bytes = Vec::new();
    for slot in 0..u32::from(shape.devices()) {
        virtio(slot, &mut bytes);
    }
    serial(&mut bytes);
    generation(&mut bytes);
    let (kind, zero) = (SLEEP_TYPE_S5, 0_u8);
    Name::new("_S5_".into(), &Package::new(vec![&kind, &zero])).to_aml_bytes(&mut bytes);
    bytes
}

/// An edge-triggered, active-high line of the device's own.
fn line(gsi: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, gsi)
}

/// Writes a device below the system bus: its named objects, and perhaps a method.
fn device(path: &str, objects: &[(&str, &dyn Aml)], method: Option<&dyn Aml>, bytes: &mut Vec<u8>) {
    let names: Vec<_> =
        objects.iter().map(|(name, value)| Name::new((*name).into(), *value)).collect();
    let children = names.iter().map(|name| name as &dyn Aml).chain(method).collect();
    let device = Device::new(path.into(), children);
    Scope::new("\\_SB_".into(), vec![&device]).to_aml_bytes(bytes);
}

/// Window `slot`, under the id that Linux's virtio-mmio driver listens to.
fn virtio(slot: u32, bytes: &mut Vec<u8>) {
    #[allow(clippy::cast_possible_truncation, reason = "the hole lies below 4 GiB")]
    let base = VIRTIO_BASE as u32 + slot * VIRTIO_WINDOW as u32;
    let window = Memory32Fixed::new(true, base, 0x1000);
    let interrupt = line(VIRTIO_GSI + slot);
    let resources = ResourceTemplate::new(vec![&window, &interrupt]);
    let objects: [(&str, &dyn Aml); 4] =
        [("_HID", &"LNRO0005"), ("_UID", &slot), ("_CCA", &ONE), ("_CRS", &resources)];
    device(&format!("V{slot:03}"), &objects, None, bytes);
}

fn serial(bytes: &mut Vec<u8>) {
    let interrupt = line(COM1_GSI);
    let ports = IO::new(COM1, COM1, 1, 8);
    let resources = ResourceTemplate::new(vec![&interrupt, &ports]);
    let id = EISAName::new("PNP0501");
    device("COM1", &[("_HID", &id), ("_UID", &0_u8), ("_CRS", &resources)], None, bytes);
}

/// The generation identifier, and the event device whose interrupt says that it changed.
fn generation(bytes: &mut Vec<u8>) {
    #[allow(clippy::cast_possible_truncation, reason = "below 4 GiB")]
    let (low, high) = (VMGENID as u32, 0_u32);
    let address = Package::new(vec![&low, &high]);
    let objects: [(&str, &dyn Aml); 4] = [
        ("_HID", &"CLVE0001"),
        ("_CID", &"VM_Gen_Counter"),
        ("_DDN", &"VM_Gen_Counter"),
        ("ADDR", &address),
    ];
    device("VGEN", &objects, None, bytes);

    let interrupt = line(GED_GSI);
    let resources = ResourceTemplate::new(vec![&interrupt]);
    let identifier = Path::new("\\_SB_.VGEN");
    let notify = Notify::new(&identifier, &GENERATION_CHANGED);
    let ours = Equal::new(&Arg(0), &GED_GSI);
    let changed = If::new(&ours, vec![&notify]);
    let event = Method::new("_EVT".into(), 1, true, vec![&changed]);
    let objects: [(&str, &dyn Aml); 3] =
        [("_HID", &"ACPI0013"), ("_UID", &0_u8), ("_CRS", &resources)];
    device("GED_", &objects, Some(&event), bytes);
}
