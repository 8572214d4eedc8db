//! What fuzz targets reach of the inside: see `tools/fuzz`. No part of the crate's interface.
#![allow(missing_docs, clippy::missing_errors_doc)]

use std::sync::Arc;

use crate::MachineState;
use crate::boot::{Boot, BootError, load};
pub use crate::memory::GuestMemory;
use crate::platform::PlatformState;
use crate::serial::SerialState;
use crate::shape::Shape;
use crate::vcpu::state::VcpuState;
use crate::virtio::DeviceState;
pub use crate::virtio::{ByHand, Position};

/// Puts a kernel into memory as a machine does; returns where it would be entered.
pub fn load_kernel(memory: &GuestMemory, shape: &Shape, boot: Boot) -> Result<u64, BootError> {
    load(memory, shape, boot).map(|entry| entry.rip())
}

/// The devices of a saved machine.
pub fn devices(state: &MachineState) -> &[DeviceState] {
    &state.devices
}

/// A machine's state that is well-formed, with these devices.
pub fn blank_state(shape: Shape, devices: Vec<DeviceState>) -> MachineState {
    MachineState {
        shape,
        platform: PlatformState::blank(),
        serial: SerialState::default(),
        vcpus: (0..shape.vcpus()).map(|_| Arc::new(VcpuState::blank())).collect(),
        devices,
    }
}
