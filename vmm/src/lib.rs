//! One micro-VM: guest memory, vCPUs, devices, boot, and the saving and loading of its state.

pub mod memory;
pub mod virtio;
