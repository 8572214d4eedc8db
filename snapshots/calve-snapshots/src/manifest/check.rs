//! Reading a manifest from untrusted bytes: version first, then the fields, then what they must add up to.

use serde::Deserialize;

use super::{
    Blob, Extent, Function, Images, Layer, MANIFEST_VERSION, MAX_LAYERS, MAX_MANIFEST_LEN,
    Manifest, MediaType,
};
use crate::memory::{self, PAGE};
use crate::state::MAX_STATE_LEN;
use crate::workset::MAX_WORKSET_LEN;

/// The longest deadline of a call: a day. What runs longer is not a request, and a wait for it must end.
const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;
/// Bytes of a handler's or a runtime's name, which are shown to people.
const MAX_LABEL: usize = 512;

/// Why bytes are not a manifest of this version.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ManifestError {
    #[error("{0} bytes, over the limit of {MAX_MANIFEST_LEN}")]
    TooLong(usize),
    #[error("not a manifest")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Invalid(&'static str),
}

/// The two fields that decide whether the others can be understood. All versions have them.
#[derive(Debug, Deserialize)]
pub(crate) struct Identity {
    pub(crate) format_version: u32,
    pub(crate) architecture: String,
}

/// Reads the identity alone; unknown fields are no error here.
pub(crate) fn identify(bytes: &[u8]) -> Result<Identity, ManifestError> {
    match bytes.len() {
        n if n > MAX_MANIFEST_LEN => Err(ManifestError::TooLong(n)),
        _ => Ok(serde_json::from_slice(bytes)?),
    }
}

impl Manifest {
    /// The bytes of `manifest.json`; refuses what [`TryFrom`] would refuse to read back.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        match bytes.len() {
            n if n > MAX_MANIFEST_LEN => Err(ManifestError::TooLong(n)),
            _ => Ok(bytes),
        }
    }

    fn check(&self) -> Result<(), ManifestError> {
        let Images { kernel, root, code } = &self.images;
        let size = self.machine.memory.size();
        require(self.format_version == MANIFEST_VERSION, "another format version")?;
        require(self.machine.vcpus > 0, "a machine without a vCPU")?;
        let disks = self.machine.disks;
        require(
            disks == 2 || (disks == 1 && code.is_none()),
            "a machine whose disks are not its root and its code",
        )?;
        require(
            u64::from(self.machine.memory_mib) << 20 == size,
            "`memory_mib` is not the size of the memory layout",
        )?;
        typed(kernel, MediaType::Kernel)?;
        typed(root, MediaType::Root)?;
        code.iter().try_for_each(|code| typed(code, MediaType::Code))?;
        typed(&self.state, MediaType::State)?;
        require(self.state.length <= MAX_STATE_LEN as u64, "`state` over its limit")?;
        if let Some(workset) = &self.workset {
            typed(workset, MediaType::Workset)?;
            require(workset.length <= MAX_WORKSET_LEN, "`workset` over its limit")?;
        }
        let Function { handler, runtime, timeout_ms, .. } = &self.function;
        require(
            (1..=MAX_TIMEOUT_MS).contains(timeout_ms),
            "`timeout_ms` is not between a millisecond and a day",
        )?;
        let short = |text: &str| text.len() <= MAX_LABEL && !text.contains(char::is_control);
        require(short(handler) && short(runtime), "`handler` or `runtime` is no short line")?;
        require(
            (1..=MAX_LAYERS).contains(&self.layers.len()),
            "want at least one memory layer, and not too many",
        )?;
        self.layers.iter().enumerate().try_for_each(|(n, layer)| check_layer(n, layer, size))
    }
}

fn check_layer(number: usize, layer: &Layer, size: u64) -> Result<(), ManifestError> {
    // Fixed, not just checked for slashes: a manifest never gets to choose which file is opened.
    require(
        layer.file == memory::file_name(number),
        "memory layers are not called `memory.0`, `memory.1`, …",
    )?;
    let sound = match &layer.extents {
        None => number == 0,
        Some(extents) => number > 0 && Extent::are_sound(extents, size),
    };
    require(sound, "the extents of a memory layer are missing or out of place")?;
    require(layer.media_type == MediaType::Memory, "a blob has the wrong media type")?;
    require(layer.length == size, "the memory layer is not as long as the memory layout")?;
    require(
        layer.pages <= size / PAGE as u64 && layer.runs <= layer.pages,
        "the memory layer has more pages than memory",
    )
}

fn typed(blob: &Blob, wanted: MediaType) -> Result<(), ManifestError> {
    require(blob.media_type == wanted, "a blob has the wrong media type")
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), ManifestError> {
    if holds { Ok(()) } else { Err(ManifestError::Invalid(otherwise)) }
}

impl TryFrom<&[u8]> for Manifest {
    type Error = ManifestError;

    fn try_from(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_LEN {
            return Err(ManifestError::TooLong(bytes.len()));
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }
}
