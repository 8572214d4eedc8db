//! How a snapshot's memory file comes under a clone: what of it is mapped, and which pages the clone is
//! known to touch before its first answer.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most stretches that are mapped: each costs a system call of every thaw and a mapping of every clone.
pub const MAX_MAPPED: usize = 64;
/// Most runs of pages that are known to be touched.
pub const MAX_TOUCHED: usize = 1 << 16;
/// The x86 base page.
const PAGE: u64 = 4096;

/// A stretch of a memory file, in bytes; whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Offset of the first byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Stretch {
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// Pages that clones touch between their thaw and their first answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Where.
    pub at: Stretch,
    /// Whether they are written, so that a clone needs copies of its own.
    pub written: bool,
}

/// What of a memory file a clone maps, and what it prepares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// What is mapped, ascending and apart. Everything else stays as it was reserved, zeros, which
    /// is cheaper than a hole of the file: there a first write makes a page of the file and then
    /// a copy of it.
    pub mapped: Vec<Stretch>,
    /// What is made ready before the clone runs, ascending and apart. It may lie outside of what is
    /// mapped.
    pub touched: Vec<Touched>,
}

/// A plan that does not fit its memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Too many parts.
    #[error("a memory plan of {0} parts")]
    TooMany(usize),
    /// A part is empty, not of whole pages, out of order, or beyond the end of memory.
    #[error("a memory plan whose part at {0:#x} is out of place")]
    Place(u64),
}

impl MemoryPlan {
    /// Maps all of a file of so many bytes and prepares nothing.
    pub fn whole(bytes: u64) -> Self {
        Self { mapped: vec![Stretch { offset: 0, len: bytes }], touched: Vec::new() }
    }

    /// Checks the plan against a file of so many bytes.
    ///
    /// # Errors
    ///
    /// Names the first part that does not fit.
    pub fn check(&self, bytes: u64) -> Result<(), PlanError> {
        bounded(self.mapped.len(), MAX_MAPPED)?;
        bounded(self.touched.len(), MAX_TOUCHED)?;
        in_place(self.mapped.iter().copied(), bytes)?;
        in_place(self.touched.iter().map(|touched| touched.at), bytes)
    }
}

fn bounded(found: usize, most: usize) -> Result<(), PlanError> {
    if found <= most { Ok(()) } else { Err(PlanError::TooMany(found)) }
}

fn in_place(parts: impl Iterator<Item = Stretch>, bytes: u64) -> Result<(), PlanError> {
    let mut from = 0;
    for part in parts {
        let whole = part.offset % PAGE == 0 && part.len % PAGE == 0 && part.len > 0;
        let end = part.offset.checked_add(part.len).filter(|end| *end <= bytes);
        from = end.filter(|_| whole && part.offset >= from).ok_or(PlanError::Place(part.offset))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn plan(parts: &[(u64, u64)]) -> MemoryPlan {
        let mapped = parts.iter().map(|&(offset, len)| Stretch { offset, len }).collect();
        MemoryPlan { mapped, touched: Vec::new() }
    }

    #[test]
    fn parts_are_pages_in_order_within_memory() {
        assert_eq!(MemoryPlan::whole(MIB).check(MIB), Ok(()));
        assert_eq!(plan(&[(0, PAGE), (PAGE, PAGE), (8 * PAGE, PAGE)]).check(MIB), Ok(()));
        for (bad, at) in [
            (plan(&[(0, 0)]), 0),
            (plan(&[(1, PAGE)]), 1),
            (plan(&[(0, 5)]), 0),
            (plan(&[(PAGE, PAGE), (0, PAGE)]), 0),
            (plan(&[(0, 2 * PAGE), (PAGE, PAGE)]), PAGE),
            (plan(&[(0, 2 * MIB)]), 0),
            (plan(&[(u64::MAX - PAGE + 1, PAGE)]), u64::MAX - PAGE + 1),
        ] {
            assert_eq!(bad.check(MIB), Err(PlanError::Place(at)));
        }
        let touched = bad_touch();
        assert_eq!(touched.check(MIB), Err(PlanError::Place(MIB)));
    }

    fn bad_touch() -> MemoryPlan {
        let at = Stretch { offset: MIB, len: PAGE };
        MemoryPlan { mapped: Vec::new(), touched: vec![Touched { at, written: true }] }
    }

    #[test]
    fn the_number_of_parts_is_bounded() {
        let many: Vec<_> = (0..=MAX_MAPPED as u64).map(|n| (2 * n * PAGE, PAGE)).collect();
        assert_eq!(plan(&many).check(u64::MAX), Err(PlanError::TooMany(MAX_MAPPED + 1)));
    }
}
