//! Which pages a memory layer has, whatever its file stores of them.

use serde::{Deserialize, Serialize};

use crate::memory::PAGE;

/// Most extents of a layer: each is a mapping of every clone.
pub const MAX_EXTENTS: usize = 512;

/// Pages in a row: number of the first, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent(pub u32, pub u32);

impl Extent {
    /// Offset of the first byte in the memory file.
    pub fn offset(self) -> u64 {
        u64::from(self.0) * PAGE as u64
    }

    /// Length in bytes.
    pub fn length(self) -> u64 {
        u64::from(self.1) * PAGE as u64
    }

    /// Whether the extents, at most [`MAX_EXTENTS`], ascend and lie apart in a memory of so many bytes.
    pub(crate) fn are_sound(extents: &[Self], memory: u64) -> bool {
        let mut from = 0;
        extents.len() <= MAX_EXTENTS
            && extents.iter().all(|extent| {
                let sound = extent.1 > 0
                    && extent.offset() >= from
                    && extent.offset() + extent.length() <= memory;
                from = extent.offset() + extent.length();
                sound
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_ascend_within_memory() {
        let sound = |extents: &[(u32, u32)]| {
            let extents: Vec<_> = extents.iter().map(|&(a, b)| Extent(a, b)).collect();
            Extent::are_sound(&extents, 100 * PAGE as u64)
        };
        assert!(sound(&[]) && sound(&[(0, 1), (1, 1), (98, 2)]));
        for bad in
            [&[(0, 0)][..], &[(5, 2), (6, 1)], &[(5, 1), (0, 1)], &[(99, 2)], &[(u32::MAX, 9)]]
        {
            assert!(!sound(bad), "{bad:?}");
        }
        let many: Vec<_> = (0..=MAX_EXTENTS).map(|_| Extent(0, 1)).collect();
        assert!(!Extent::are_sound(&many, u64::MAX));
    }
}
