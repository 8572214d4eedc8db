//! The saved state of one device: its own versioned types, apart from every runtime type.
//!
//! A state may come from anywhere, so nothing in it is believed: [`Loadable`] is the only way from
//! here to a device, and it is made by checks alone. Building one has no effect, so that a state
//! that is refused leaves the machine as it was.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{QueueState, QueueT};

use super::device::{Device, Kind, MAX_QUEUES, Rings};
use super::error::StateError;
use super::interrupt;
use super::registers::{QueueRegisters, Registers};
use super::ring::Ring;
use crate::memory::GuestMemory;

/// The saved state of one device, transport included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceState {
    /// First version.
    V1(DeviceV1),
}

/// Version 1 of [`DeviceState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceV1 {
    pub(super) kind: Kind,
    pub(super) registers: RegistersV1,
    pub(super) queues: Vec<QueueV1>,
    pub(super) part: PartState,
}

/// The register file of the transport (VIRTIO 1.3, §4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RegistersV1 {
    pub(super) device_features_sel: u32,
    pub(super) driver_features_sel: u32,
    pub(super) driver_features: u64,
    pub(super) queue_sel: u32,
    pub(super) status: u32,
    pub(super) generation: u32,
    pub(super) interrupt_status: u32,
}

/// One queue: what the driver set up, and how far the device got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QueueV1 {
    pub(super) size: u16,
    pub(super) ready: bool,
    pub(super) descriptors: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
    pub(super) next_avail: u16,
    pub(super) next_used: u16,
    /// The driver has been asked to kick; the request itself lies in guest memory.
    pub(super) armed: bool,
}

/// What belongs to the device itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PartState {
    /// A disk: its size, so that another image is noticed.
    Block { sectors: u64 },
    /// A vsock: streams do not survive, but the guest must be told which ones died.
    Vsock {
        cid: u32,
        /// Next port to use on the host's side; never one that the guest might still know.
        next_port: u32,
        /// Ports (host, guest) of the connections that were open.
        open: Vec<(u32, u32)>,
    },
    /// A balloon: nothing of its own.
    Balloon,
}

impl PartState {
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Block { .. } => Kind::Block,
            Self::Vsock { .. } => Kind::Vsock,
            Self::Balloon => Kind::Balloon,
        }
    }
}

/// A saved state that passed every check against one device.
#[derive(Debug)]
pub(super) struct Loadable {
    pub(super) registers: Registers,
    pub(super) interrupt_status: u32,
    /// `None` where the driver had not started the device.
    pub(super) rings: Option<Rings>,
    pub(super) part: PartState,
}

impl TryFrom<(DeviceState, &dyn Device, Kind, &GuestMemory)> for Loadable {
    type Error = StateError;

    fn try_from(
        (DeviceState::V1(state), device, kind, memory): (
            DeviceState,
            &dyn Device,
            Kind,
            &GuestMemory,
        ),
    ) -> Result<Self, StateError> {
        for got in [state.kind, state.part.kind()] {
            if got != kind {
                return Err(StateError::Kind { wanted: kind, got });
            }
        }
        if state.queues.len() != kind.queues() {
            return Err(StateError::Queues { wanted: kind.queues(), got: state.queues.len() });
        }
        device.check(&state.part)?;
        let registers = Registers::load(kind, device, &state.registers, &state.queues)?;
        let rings = if registers.running() {
            Some(rings(kind, registers.driver_features(), &state.queues, memory)?)
        } else {
            None
        };
        let interrupt_status = state.registers.interrupt_status & interrupt::STATUS_BITS;
        Ok(Self { registers, interrupt_status, rings, part: state.part })
    }
}

/// Rings at the positions where they were saved.
fn rings(
    kind: Kind,
    features: u64,
    queues: &[QueueV1],
    memory: &GuestMemory,
) -> Result<Rings, StateError> {
    let mut rings = [const { None }; MAX_QUEUES];
    for (index, saved) in queues.iter().enumerate().filter(|(_, saved)| saved.ready) {
        let state = QueueState {
            next_avail: saved.next_avail,
            next_used: saved.next_used,
            ..QueueRegisters::from(saved).queue_state(kind.queue_max(index), features)
        };
        let ring = Ring::at(state, saved.armed, memory);
        rings[index] = Some(ring.ok_or(StateError::Queue(index))?);
    }
    Ok(rings)
}

/// Whether the driver accepted `VIRTIO_F_RING_EVENT_IDX`.
pub(super) const fn event_idx(features: u64) -> bool {
    features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0
}

impl QueueV1 {
    /// Joins what the driver set up with how far the device got.
    pub(super) fn new(registers: &QueueRegisters, ring: Option<&Ring>) -> Self {
        let queue = ring.map(Ring::queue);
        Self {
            size: registers.size,
            ready: registers.ready,
            descriptors: registers.descriptors,
            driver: registers.driver,
            device: registers.device,
            next_avail: queue.map_or(0, QueueT::next_avail),
            next_used: queue.map_or(0, QueueT::next_used),
            armed: ring.is_none_or(Ring::is_armed),
        }
    }
}

/// How far a queue has come.
#[cfg(feature = "fuzzing")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Position {
    pub size: u16,
    pub ready: bool,
    pub next_avail: u16,
    pub next_used: u16,
}

#[cfg(feature = "fuzzing")]
impl DeviceState {
    pub(super) fn positions(&self) -> Vec<Position> {
        let Self::V1(state) = self;
        let position = |&QueueV1 { size, ready, next_avail, next_used, .. }: &QueueV1| Position {
            size,
            ready,
            next_avail,
            next_used,
        };
        state.queues.iter().map(position).collect()
    }
}
