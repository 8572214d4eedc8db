//! The shape of a machine: everything that is fixed before it has any content.
//!
//! A shell is built for a shape and can take any snapshot of the same shape, so a pool of shells
//! is keyed by it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::layout::MAX_DEVICES;

/// Size, processors and devices of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Shape {
    memory_mib: u32,
    vcpus: u8,
    disks: u8,
}

/// The unchecked form in which a shape travels.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Fields {
    memory_mib: u32,
    vcpus: u8,
    disks: u8,
}

/// A shape that no machine can have.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ShapeError {
    /// Memory out of bounds.
    #[error("memory of {0} MiB: give {min} to {max} MiB", min = Shape::MIN_MEMORY_MIB, max = Shape::MAX_MEMORY_MIB)]
    Memory(u32),
    /// Number of vCPUs out of bounds.
    #[error("{0} vCPUs: give 1 to {max}", max = Shape::MAX_VCPUS)]
    Vcpus(u8),
    /// Too many disks.
    #[error("{0} disks: give at most {max}", max = Shape::MAX_DISKS)]
    Disks(u8),
}

impl Shape {
    /// Least memory, MiB: the reserved low megabyte and a small kernel.
    pub const MIN_MEMORY_MIB: u32 = 2;
    /// Most memory, MiB.
    pub const MAX_MEMORY_MIB: u32 = 1 << 20;
    /// Most vCPUs.
    pub const MAX_VCPUS: u8 = 8;
    /// Devices besides disks: the vsock and the balloon.
    const OTHER_DEVICES: u8 = 2;
    /// Most disks; the other device windows are the vsock's and the balloon's.
    #[allow(clippy::cast_possible_truncation, reason = "a small constant")]
    pub const MAX_DISKS: u8 = MAX_DEVICES as u8 - Self::OTHER_DEVICES;

    /// A machine of `memory_mib` MiB, `vcpus` processors, `disks` block devices, a vsock and a balloon.
    ///
    /// # Errors
    ///
    /// Names the first number that is out of bounds.
    pub fn new(memory_mib: u32, vcpus: u8, disks: u8) -> Result<Self, ShapeError> {
        if !(Self::MIN_MEMORY_MIB..=Self::MAX_MEMORY_MIB).contains(&memory_mib) {
            return Err(ShapeError::Memory(memory_mib));
        }
        if !(1..=Self::MAX_VCPUS).contains(&vcpus) {
            return Err(ShapeError::Vcpus(vcpus));
        }
        if disks > Self::MAX_DISKS {
            return Err(ShapeError::Disks(disks));
        }
        Ok(Self { memory_mib, vcpus, disks })
    }

    /// Memory in MiB.
    pub fn memory_mib(&self) -> u32 {
        self.memory_mib
    }

    /// Memory in bytes.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }

    /// Number of processors.
    pub fn vcpus(&self) -> u8 {
        self.vcpus
    }

    /// Number of block devices.
    pub fn disks(&self) -> u8 {
        self.disks
    }

    /// Number of all virtio devices.
    pub fn devices(&self) -> u8 {
        self.disks + Self::OTHER_DEVICES
    }
}

impl TryFrom<Fields> for Shape {
    type Error = ShapeError;

    fn try_from(f: Fields) -> Result<Self, ShapeError> {
        Self::new(f.memory_mib, f.vcpus, f.disks)
    }
}

impl From<Shape> for Fields {
    fn from(s: Shape) -> Self {
        Self { memory_mib: s.memory_mib, vcpus: s.vcpus, disks: s.disks }
    }
}
