//! What a device is to the rest: ten methods at most, effects as values.
//!
//! ```text
//!          attach              start(Rings)             notice, work -> Effects
//!  new ──────────────► at rest ──────────────► running ───────┐
//!             load, reset │ ▲ ▲                  │  ▲─────────┘
//!                         └─┘ └── stop -> Rings ─┘
//! ```
//!
//! Starting moves the queues into the device; stopping returns them as plain state, so that
//! pause, save and reset fall out of ownership. A device touches guest memory only between the
//! two. It holds no interrupt, no registers and no locks.

use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::backend::Backend;
use super::error::{Error, StateError};
use super::ring::Ring;
use super::state::PartState;
use crate::irq::IrqLine;

/// Kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// A disk (VIRTIO 1.3, §5.2).
    Block,
    /// A socket device (VIRTIO 1.3, §5.10).
    Vsock,
    /// A memory balloon (VIRTIO 1.3, §5.5).
    Balloon,
}

impl Kind {
    /// Number of queues, hence of ioeventfds.
    #[must_use]
    pub const fn queues(self) -> usize {
        match self {
            Self::Block => 1,
            Self::Vsock | Self::Balloon => 3,
        }
    }

    /// Virtio device id (VIRTIO 1.3, §5).
    #[must_use]
    pub const fn id(self) -> u32 {
        match self {
            Self::Block => virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK,
            Self::Vsock => virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK,
            Self::Balloon => virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON,
        }
    }

    /// Largest size of queue `index`.
    pub(super) const fn queue_max(self, index: usize) -> u16 {
        match (self, index) {
            (Self::Block, _) => super::block::QUEUE_MAX,
            (Self::Balloon, _) => super::balloon::QUEUE_MAX,
            (Self::Vsock, super::vsock::EVENT_QUEUE) => super::vsock::EVENT_QUEUE_MAX,
            (Self::Vsock, _) => super::vsock::QUEUE_MAX,
        }
    }
}

/// A place for a device, with its wires: known before anything is behind it.
#[derive(Debug)]
pub struct Slot {
    /// What will be there.
    pub kind: Kind,
    /// The device's interrupt line.
    pub irq: Box<dyn IrqLine>,
    /// ioeventfd of each queue's notifications; [`Kind::queues`] of them.
    pub kicks: Vec<EventFd>,
}

/// Most queues any kind has.
pub(super) const MAX_QUEUES: usize = 3;

/// The rings of a running device, by queue index; a queue the driver left alone is `None`.
pub(super) type Rings = [Option<Ring>; MAX_QUEUES];

/// What a device offers to its driver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<'a> {
    /// Feature bits of the device type; the transport adds its own.
    pub(super) features: u64,
    /// The config space.
    pub(super) config: &'a [u8],
}

/// What the loop shall do for a device after a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Tell the driver that buffers were used.
    pub(super) interrupt: bool,
    /// Give the device another turn, after the others had theirs.
    pub(super) more: bool,
}

/// The driver broke the rules of a ring: only a reset helps (VIRTIO 1.3, §2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// A device, as the device thread drives it.
pub(super) trait Device: Send {
    /// Replaces what is behind the device. Called while stopped; forgets everything of before.
    fn attach(&mut self, backend: Backend) -> Result<(), Error>;
    /// What the device offers with its present backend.
    fn offer(&self) -> Offer<'_>;
    /// Takes the rings; `features` are those the driver accepted. Work follows at once, since no
    /// kick tells of what came before.
    fn start(&mut self, rings: Rings, features: u64);
    /// Remembers that a host descriptor, watched under this token, has news. Work follows.
    fn notice(&mut self, token: u32, what: EventSet);
    /// Takes one turn of bounded length: looks at every queue and at everything noticed. One turn
    /// answers a whole batch of events, so that the driver is interrupted once for all of them.
    fn work(&mut self) -> Result<Effects, Broken>;
    /// Gives the rings back; afterwards guest memory is not touched until the next start.
    fn stop(&mut self) -> Rings;
    /// The driver reset the device: nothing it set up survives, the backend does.
    fn reset(&mut self);
    /// The device's own part of the saved state.
    fn save(&self) -> PartState;
    /// Checks a saved part against the backend, without effect.
    fn check(&self, part: &PartState) -> Result<(), StateError>;
    /// Takes over a saved part that passed [`Device::check`].
    fn load(&mut self, part: PartState);
}
