//! A stopped machine as bytes: named, versioned sections.
//!
//! Each section has its own version, so that one device can change without the others. Everything
//! here is read back from files that anyone may have touched: decoding is bounded by the input,
//! refuses leftovers, and what comes out is checked again where it is used.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::platform::PlatformState;
use crate::serial::SerialState;
use crate::shape::Shape;
use crate::vcpu::state::VcpuState;
use crate::virtio::DeviceState;

/// Version of the address map and of the parts of a machine; see [`crate::layout`].
pub const MACHINE_VERSION: u16 = 3;
const VCPU_VERSION: u16 = 1;
const PLATFORM_VERSION: u16 = 1;
const SERIAL_VERSION: u16 = 1;
const DEVICE_VERSION: u16 = 1;

/// Longest section that is decoded, bytes; a vCPU's is about 10,000.
const MAX_SECTION: usize = 1 << 20;

/// One component's saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Which component: `machine`, `platform`, `serial`, `vcpu.N`, `device.N`.
    pub name: String,
    /// Version of its encoding.
    pub version: u16,
    /// The encoding.
    pub bytes: Vec<u8>,
}

/// Why saved state is not a machine.
#[derive(Debug, Error)]
pub enum StateError {
    /// A section is not there.
    #[error("the saved state has no section {0}")]
    Missing(String),
    /// A section is of another version than this build writes.
    #[error(
        "section {name} has version {found}, this build reads {wanted}: build the snapshot anew"
    )]
    Version {
        /// Section.
        name: String,
        /// Version in the file.
        found: u16,
        /// Version that can be read.
        wanted: u16,
    },
    /// A section's bytes are not its type.
    #[error("section {name} is damaged")]
    Decode {
        /// Section.
        name: String,
        /// What the decoder met.
        source: postcard::Error,
    },
    /// A section is not as it was written.
    #[error("section {0} is damaged: it is not as it was written")]
    Altered(String),
    /// A section that no machine of this shape has.
    #[error("the saved state has {found} sections, a machine of its shape {wanted}")]
    Count {
        /// Sections in the file.
        found: usize,
        /// Sections of such a machine.
        wanted: usize,
    },
    /// Encoding failed.
    #[error("cannot encode section {name}")]
    Encode {
        /// Section.
        name: String,
        /// The encoder's reason.
        source: postcard::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    shape: Shape,
}

/// A stopped machine, without its memory.
#[derive(Clone, Debug)]
pub struct MachineState {
    pub(crate) shape: Shape,
    pub(crate) platform: PlatformState,
    pub(crate) serial: SerialState,
    pub(crate) vcpus: Vec<Arc<VcpuState>>,
    pub(crate) devices: Vec<DeviceState>,
}

impl MachineState {
    /// The shape of the machine, which the shell that takes the state must have.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// CPUID leaves that the machine's first vCPU saw, as (function, index, [eax, ebx, ecx, edx]):
    /// what a host must be able to offer before the machine may be thawed there.
    pub fn cpuid(&self) -> impl Iterator<Item = (u32, u32, [u32; 4])> + '_ {
        let leaves = self.vcpus.first().map(|vcpu| vcpu.cpuid()).unwrap_or_default();
        leaves.iter().map(|l| (l.function, l.index, [l.eax, l.ebx, l.ecx, l.edx]))
    }

    /// Names every part in which two states differ, but for clocks: those run on while a machine is
    /// saved. For tests that two machines are in one and the same state.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        found.extend((self.shape != other.shape).then(|| "shape".to_owned()));
        found.extend(self.platform.differences(&other.platform).into_iter().map(str::to_owned));
        found.extend((self.serial != other.serial).then(|| "serial".to_owned()));
        for (n, (one, two)) in self.vcpus.iter().zip(&other.vcpus).enumerate() {
            found.extend(one.differences(two).into_iter().map(|what| format!("vcpu.{n}: {what}")));
        }
        for (n, (one, two)) in self.devices.iter().zip(&other.devices).enumerate() {
            found.extend((one != two).then(|| format!("device.{n}")));
        }
        found
    }

    /// Encodes the state.
    ///
    /// # Errors
    ///
    /// Only for values that the encoding cannot hold; none of ours.
    pub fn to_sections(&self) -> Result<Vec<Section>, StateError> {
        let mut sections = vec![
            encode("machine", MACHINE_VERSION, &Header { shape: self.shape })?,
            encode("platform", PLATFORM_VERSION, &self.platform)?,
            encode("serial", SERIAL_VERSION, &self.serial)?,
        ];
        for (n, vcpu) in self.vcpus.iter().enumerate() {
            sections.push(encode(&format!("vcpu.{n}"), VCPU_VERSION, vcpu.as_ref())?);
        }
        for (n, device) in self.devices.iter().enumerate() {
            sections.push(encode(&format!("device.{n}"), DEVICE_VERSION, device)?);
        }
        Ok(sections)
    }
}

impl TryFrom<&[Section]> for MachineState {
    type Error = StateError;

    fn try_from(sections: &[Section]) -> Result<Self, StateError> {
        let Header { shape } = decode(sections, "machine", MACHINE_VERSION)?;
        let (vcpus, devices) = (shape.vcpus(), shape.devices());
        let wanted = 3 + usize::from(vcpus) + usize::from(devices);
        if sections.len() != wanted {
            return Err(StateError::Count { found: sections.len(), wanted });
        }
        Ok(Self {
            shape,
            platform: decode(sections, "platform", PLATFORM_VERSION)?,
            serial: decode(sections, "serial", SERIAL_VERSION)?,
            vcpus: (0..vcpus)
                .map(|n| decode(sections, &format!("vcpu.{n}"), VCPU_VERSION).map(Arc::new))
                .collect::<Result<_, _>>()?,
            devices: (0..devices)
                .map(|n| decode(sections, &format!("device.{n}"), DEVICE_VERSION))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn encode<T: Serialize>(name: &str, version: u16, value: &T) -> Result<Section, StateError> {
    let bytes = postcard::to_stdvec(value)
        .map_err(|source| StateError::Encode { name: name.to_owned(), source })?;
    Ok(Section { name: name.to_owned(), version, bytes })
}

fn decode<T: Serialize + DeserializeOwned>(
    sections: &[Section],
    name: &str,
    wanted: u16,
) -> Result<T, StateError> {
    let section = sections
        .iter()
        .find(|s| s.name == name)
        .ok_or_else(|| StateError::Missing(name.to_owned()))?;
    if section.version != wanted {
        let (name, found) = (name.to_owned(), section.version);
        return Err(StateError::Version { name, found, wanted });
    }
    if section.bytes.len() > MAX_SECTION {
        return Err(StateError::Altered(name.to_owned()));
    }
    let value = postcard::from_bytes(&section.bytes)
        .map_err(|source| StateError::Decode { name: name.to_owned(), source })?;
    // The kernel's structures decode leniently (short ones are padded, long ones cut): only bytes
    // that we would have written ourselves are taken.
    let again = encode(name, wanted, &value)?;
    if again.bytes == section.bytes { Ok(value) } else { Err(StateError::Altered(name.to_owned())) }
}
