//! Where guest RAM lies, in the guest and in the memory file.

use serde::{Deserialize, Serialize};

use super::PAGE;

/// Most regions of RAM. x86 has two (below and above the hole under 4 GiB).
pub const MAX_REGIONS: usize = 16;
/// Most RAM, in bytes.
pub const MAX_RAM: u64 = 1 << 40;

/// One contiguous piece of guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryRegion {
    /// Guest-physical address.
    pub gpa: u64,
    /// Size in bytes.
    pub size: u64,
    /// Offset in the memory file: the sum of the sizes before it.
    pub file_offset: u64,
}

/// The regions of guest RAM, ascending and apart, whose contents follow each other in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<MemoryRegion>", into = "Vec<MemoryRegion>")]
pub struct MemoryLayout(Vec<MemoryRegion>);

/// Why regions do not make a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum LayoutError {
    #[error("{0} memory regions, want 1 to {MAX_REGIONS}")]
    Count(usize),
    #[error("memory region at {0:#x} is empty or not page-aligned")]
    Unaligned(u64),
    #[error("memory region at {0:#x} overlaps or precedes the one before it")]
    Order(u64),
    #[error("memory region at {0:#x} does not follow the one before it in the file")]
    FileOffset(u64),
    #[error("more than {MAX_RAM} bytes of memory")]
    TooLarge,
}

impl MemoryLayout {
    /// Lays out `regions`, given as (guest-physical address, size in bytes), in ascending order.
    pub fn new(regions: impl IntoIterator<Item = (u64, u64)>) -> Result<Self, LayoutError> {
        let mut file_offset = 0u64;
        let regions = regions.into_iter().map(|(gpa, size)| {
            let region = MemoryRegion { gpa, size, file_offset };
            file_offset = file_offset.saturating_add(size);
            region
        });
        regions.collect::<Vec<_>>().try_into()
    }

    /// The regions, by ascending address.
    pub fn regions(&self) -> &[MemoryRegion] {
        &self.0
    }

    /// Bytes of RAM in all: the length of the memory file.
    pub fn size(&self) -> u64 {
        self.0.iter().map(|r| r.size).sum()
    }
}

impl TryFrom<Vec<MemoryRegion>> for MemoryLayout {
    type Error = LayoutError;

    fn try_from(regions: Vec<MemoryRegion>) -> Result<Self, LayoutError> {
        if !(1..=MAX_REGIONS).contains(&regions.len()) {
            return Err(LayoutError::Count(regions.len()));
        }
        let page = PAGE as u64;
        let (mut next_gpa, mut next_offset) = (0u64, 0u64);
        for r in &regions {
            if r.size == 0 || r.gpa % page != 0 || r.size % page != 0 {
                return Err(LayoutError::Unaligned(r.gpa));
            }
            if r.gpa < next_gpa {
                return Err(LayoutError::Order(r.gpa));
            }
            if r.file_offset != next_offset {
                return Err(LayoutError::FileOffset(r.gpa));
            }
            next_gpa = r.gpa.checked_add(r.size).ok_or(LayoutError::TooLarge)?;
            next_offset = next_offset
                .checked_add(r.size)
                .filter(|total| *total <= MAX_RAM)
                .ok_or(LayoutError::TooLarge)?;
        }
        Ok(Self(regions))
    }
}

impl From<MemoryLayout> for Vec<MemoryRegion> {
    fn from(layout: MemoryLayout) -> Self {
        layout.0
    }
}
