//! How a snapshot's memory files come under a clone: what of each is mapped, and which pages the clone is
//! known to touch before its first answer.
//!
//! Every file is as long as memory, and an offset means the same in each. A snapshot in layers has several:
//! the plan says of every stretch in which of them its content is, so a clone maps each stretch once,
//! however many layers there are.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most stretches that are mapped: each costs a system call of every thaw and a mapping of every clone.
pub const MAX_MAPPED: usize = 512;
/// Most files that they are of.
pub const MAX_FILES: usize = 16;
/// Most runs of pages that are known to be touched.
pub const MAX_TOUCHED: usize = 1 << 16;
/// The x86 base page.
const PAGE: u64 = 4096;

/// A stretch of memory by its place in a memory file, in bytes; whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Offset of the first byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Stretch {
    /// Offset of the byte after the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// What it has in common with another.
    #[must_use]
    pub fn common(&self, other: &Self) -> Option<Self> {
        let offset = self.offset.max(other.offset);
        let len = self.end().min(other.end()).checked_sub(offset).filter(|len| *len > 0)?;
        Some(Self { offset, len })
    }
}

/// A stretch that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// Which of the files, from 0.
    pub file: u8,
    /// Where, in that file and in memory.
    pub at: Stretch,
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
    pub mapped: Vec<Mapped>,
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
    /// A part is of a file that is not there.
    #[error("a memory plan with a part of file {0}, which is not there")]
    File(u8),
    /// A part is empty, not of whole pages, out of order, or beyond the end of memory.
    #[error("a memory plan whose part at {0:#x} is out of place")]
    Place(u64),
}

impl MemoryPlan {
    /// Maps all of a file of so many bytes and prepares nothing.
    pub fn whole(bytes: u64) -> Self {
        let mapped = vec![Mapped { file: 0, at: Stretch { offset: 0, len: bytes } }];
        Self { mapped, touched: Vec::new() }
    }

    /// This plan with `runs` of another file, ascending and apart, over what it maps there.
    #[must_use]
    pub fn overlay(&self, file: u8, runs: &[Stretch]) -> Self {
        let mut mapped = Vec::with_capacity(self.mapped.len() + 2 * runs.len());
        let mut over = runs.iter().peekable();
        for below in &self.mapped {
            let mut from = below.at.offset;
            while over.next_if(|run| run.end() <= from).is_some() {}
            for run in over.clone().take_while(|run| run.offset < below.at.end()) {
                if run.offset > from {
                    let at = Stretch { offset: from, len: run.offset - from };
                    mapped.push(Mapped { file: below.file, at });
                }
                from = from.max(run.end());
            }
            if from < below.at.end() {
                let at = Stretch { offset: from, len: below.at.end() - from };
                mapped.push(Mapped { file: below.file, at });
            }
        }
        mapped.extend(runs.iter().map(|&at| Mapped { file, at }));
        mapped.sort_unstable_by_key(|mapped| mapped.at.offset);
        Self { mapped, touched: self.touched.clone() }
    }

    /// Checks the plan against so many files of so many bytes each.
    ///
    /// # Errors
    ///
    /// Names the first part that does not fit.
    pub fn check(&self, files: usize, bytes: u64) -> Result<(), PlanError> {
        bounded(files, MAX_FILES)?;
        bounded(self.mapped.len(), MAX_MAPPED)?;
        bounded(self.touched.len(), MAX_TOUCHED)?;
        in_place(self.mapped.iter().map(|mapped| mapped.at), bytes)?;
        if let Some(mapped) = self.mapped.iter().find(|m| usize::from(m.file) >= files) {
            return Err(PlanError::File(mapped.file));
        }
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn plan(parts: &[(u64, u64)]) -> MemoryPlan {
        let mapped = |&(offset, len)| Mapped { file: 0, at: Stretch { offset, len } };
        let mapped = parts.iter().map(mapped).collect();
        MemoryPlan { mapped, touched: Vec::new() }
    }

    #[test]
    fn parts_are_pages_in_order_within_memory() {
        assert_eq!(MemoryPlan::whole(MIB).check(1, MIB), Ok(()));
        assert_eq!(plan(&[(0, PAGE), (PAGE, PAGE), (8 * PAGE, PAGE)]).check(1, MIB), Ok(()));
        for (bad, at) in [
            (plan(&[(0, 0)]), 0),
            (plan(&[(1, PAGE)]), 1),
            (plan(&[(0, 5)]), 0),
            (plan(&[(PAGE, PAGE), (0, PAGE)]), 0),
            (plan(&[(0, 2 * PAGE), (PAGE, PAGE)]), PAGE),
            (plan(&[(0, 2 * MIB)]), 0),
            (plan(&[(u64::MAX - PAGE + 1, PAGE)]), u64::MAX - PAGE + 1),
        ] {
            assert_eq!(bad.check(1, MIB), Err(PlanError::Place(at)));
        }
        let touched = bad_touch();
        assert_eq!(touched.check(1, MIB), Err(PlanError::Place(MIB)));
    }

    fn bad_touch() -> MemoryPlan {
        let at = Stretch { offset: MIB, len: PAGE };
        MemoryPlan { mapped: Vec::new(), touched: vec![Touched { at, written: true }] }
    }

    #[test]
    fn what_lies_over_a_plan_hides_it_and_nothing_else() {
        let below = plan(&[(0, 4 * PAGE), (8 * PAGE, 8 * PAGE)]);
        let run = |first: u64, pages: u64| Stretch { offset: first * PAGE, len: pages * PAGE };
        let over = below.overlay(1, &[run(1, 1), run(3, 2), run(6, 1), run(7, 3), run(12, 9)]);
        let found: Vec<_> =
            over.mapped.iter().map(|m| (m.file, m.at.offset / PAGE, m.at.len / PAGE)).collect();
        let wanted = [
            (0, 0, 1),
            (1, 1, 1),
            (0, 2, 1),
            (1, 3, 2),
            (1, 6, 1),
            (1, 7, 3),
            (0, 10, 2),
            (1, 12, 9),
        ];
        assert_eq!(found, wanted);
        assert_eq!(over.check(2, MIB), Ok(()));
        assert_eq!(below.overlay(1, &[]), below);
        assert_eq!(below.overlay(0, &[run(0, 16)]).mapped.len(), 1);
    }

    proptest! {
        /// Page by page, the uppermost file that has it is the one that is mapped.
        #[test]
        fn layers_are_as_if_looked_up_page_by_page(
            layers in prop::collection::vec(prop::collection::btree_set(0..64_u64, 0..40), 1..6),
        ) {
            let runs = |pages: &BTreeSet<u64>| {
                let mut runs = Vec::<Stretch>::new();
                for page in pages {
                    match runs.last_mut() {
                        Some(last) if last.end() == page * PAGE => last.len += PAGE,
                        _ => runs.push(Stretch { offset: page * PAGE, len: PAGE }),
                    }
                }
                runs
            };
            let none = MemoryPlan { mapped: Vec::new(), touched: Vec::new() };
            let plan = layers.iter().zip(0..).fold(none, |plan, (pages, file)| {
                plan.overlay(file, &runs(pages))
            });
            prop_assert_eq!(plan.check(layers.len(), 64 * PAGE), Ok(()));
            for page in 0..64 {
                let top = layers.iter().rposition(|pages| pages.contains(&page));
                let at = page * PAGE;
                let mapped = plan.mapped.iter().find(|m| (m.at.offset..m.at.end()).contains(&at));
                prop_assert_eq!(mapped.map(|m| usize::from(m.file)), top, "page {}", page);
            }
        }
    }

    #[test]
    fn a_part_is_of_a_file_that_is_there() {
        let whole = MemoryPlan::whole(MIB);
        assert_eq!(whole.check(0, MIB), Err(PlanError::File(0)));
        assert_eq!(whole.check(MAX_FILES + 1, MIB), Err(PlanError::TooMany(MAX_FILES + 1)));
        let at = Stretch { offset: 2 * PAGE, len: 2 * PAGE };
        assert_eq!(at.common(&Stretch { offset: 3 * PAGE, len: 9 * PAGE }).unwrap().len, PAGE);
        assert_eq!(at.common(&Stretch { offset: 4 * PAGE, len: PAGE }), None);
        assert_eq!(at.common(&Stretch { offset: 0, len: PAGE }), None);
    }

    #[test]
    fn the_number_of_parts_is_bounded() {
        let many: Vec<_> = (0..=MAX_MAPPED as u64).map(|n| (2 * n * PAGE, PAGE)).collect();
        assert_eq!(plan(&many).check(1, u64::MAX), Err(PlanError::TooMany(MAX_MAPPED + 1)));
    }
}
