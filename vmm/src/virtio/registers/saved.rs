//! The register file on its way to a saved state, and back with every check.

use super::super::device::{Device, Kind};
use super::super::error::StateError;
use super::super::state::{QueueV1, RegistersV1};
use super::{
    ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, NEEDS_RESET, QueueRegisters, Registers,
};

impl Registers {
    /// The saved form, without interrupt status.
    pub(in super::super) const fn save(&self) -> RegistersV1 {
        RegistersV1 {
            device_features_sel: self.device_features_sel,
            driver_features_sel: self.driver_features_sel,
            driver_features: self.driver_features,
            queue_sel: self.queue_sel,
            status: self.status,
            generation: self.generation,
            interrupt_status: 0,
        }
    }

    /// A register file from a saved one, for a device with its present backend.
    pub(in super::super) fn load(
        kind: Kind,
        device: &dyn Device,
        saved: &RegistersV1,
        queues: &[QueueV1],
    ) -> Result<Self, StateError> {
        let registers = Self {
            device_features_sel: saved.device_features_sel,
            driver_features_sel: saved.driver_features_sel,
            driver_features: saved.driver_features,
            queue_sel: saved.queue_sel,
            status: saved.status,
            generation: saved.generation,
            queues: queues.iter().map(QueueRegisters::from).collect(),
            ..Self::new(kind, device.offer())
        };
        let steps = saved.status & (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        let known = steps | saved.status & (FAILED | NEEDS_RESET);
        if saved.status != known || !matches!(steps, 0x0 | 0x1 | 0x3 | 0xb | 0xf) {
            return Err(StateError::Status(saved.status));
        }
        if saved.status & FEATURES_OK != 0 && !registers.features_fit() {
            return Err(StateError::Features(saved.driver_features & !registers.offered));
        }
        Ok(registers)
    }
}
