//! Virtio devices over the MMIO transport (VIRTIO 1.3, §4.2).
//!
//! ```text
//!  vCPU threads                                device thread (one epoll loop)
//!  ───────────                                 ──────────────────────────────
//!  Transport::read/write ── Request + poke ──► start / reset of a device
//!        ▲   registers only,                        │ owns devices, queues, host files and sockets;
//!        │   a short mutex                          │ the only thread that touches guest memory
//!  guest kick ── ioeventfd ───────────────────────► Device::handle(Event) ──► Effects
//!  guest IRQ  ◄─ line ◄── Interrupt (atomic) ◄──────┘
//! ```
//!
//! Start reading at [`DeviceThread`] (life cycle), then [`Transport`] (what the guest sees) and
//! `device.rs` (what a device is). `block/`, `vsock/` and `balloon/` are the devices.

mod backend;
mod balloon;
mod block;
mod chain;
mod device;
mod error;
mod interrupt;
mod poller;
mod registers;
mod ring;
mod scatter;
mod slot;
mod state;
#[cfg(test)]
mod testing;
mod thread;
mod transport;
mod vsock;

pub use backend::{Access, Backend, Disk, HostPorts, NoPorts, PathPorts, VsockHost};
pub use device::{Kind, Slot};
pub use error::{Error, StateError};
pub use state::DeviceState;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use state::Position;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use thread::ByHand;
pub use thread::DeviceThread;
pub use transport::Transport;

/// Size in bytes of the MMIO window of one device: the register file and its config space.
pub const MMIO_WINDOW: u64 = 0x1000;

/// Offset of the QueueNotify register, where the machine puts one ioeventfd per queue with the
/// queue's index as the 32-bit datamatch.
pub const NOTIFY_OFFSET: u64 = virtio_bindings::virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY as u64;
