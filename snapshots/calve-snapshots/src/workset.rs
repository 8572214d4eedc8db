//! `workset`: the pages of memory that clones touch between their thaw and their first answer.
//!
//! It is advice. A clone that is given all of these pages at once does not stop at each; one that is
//! given none, or the wrong ones, is only slower. So a snapshot need not have it, but one that does
//! vouches for it by digest like for the rest.
//!
//! ```text
//! record    first page u32le · pages u31le, the highest bit: they are written       one per run
//! ```
//!
//! Pages are numbered by their offset in the memory file. Runs ascend and do not touch if they are of
//! one kind.

use crate::memory::PAGE;

/// Most runs.
pub const MAX_RUNS: usize = 1 << 16;
/// Bytes of a record.
const RECORD: usize = 8;
/// Longest file, in bytes.
pub(crate) const MAX_WORKSET_LEN: u64 = (MAX_RUNS * RECORD) as u64;
/// The bit that says that the pages of a run are written.
const WRITTEN: u32 = 1 << 31;

/// Pages in a row that are touched in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// Number of the first.
    pub first: u32,
    /// How many, at least one.
    pub pages: u32,
    /// Whether clones write them.
    pub written: bool,
}

impl PageRun {
    fn end(self) -> u64 {
        u64::from(self.first) + u64::from(self.pages)
    }
}

/// All pages that clones touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workset {
    runs: Vec<PageRun>,
}

/// Bytes that are no working set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum WorksetError {
    #[error("{0} bytes are no whole number of records, or too many")]
    Length(usize),
    #[error("the run at page {0} is empty, out of order or beyond the end of memory")]
    Place(u32),
}

impl Workset {
    /// Joins single pages, which must ascend, to runs. Pages beyond the largest number of runs are
    /// left out: they are touched when they are touched.
    pub fn of_pages(pages: impl IntoIterator<Item = (u32, bool)>) -> Self {
        let mut runs = Vec::<PageRun>::new();
        for (page, written) in pages {
            let full = runs.len() == MAX_RUNS;
            match runs.last_mut() {
                Some(last) if last.end() == u64::from(page) && last.written == written => {
                    last.pages += 1;
                }
                Some(last) if last.end() > u64::from(page) => {}
                _ if full => break,
                _ => runs.push(PageRun { first: page, pages: 1, written }),
            }
        }
        Self { runs }
    }

    /// The runs, ascending.
    pub fn runs(&self) -> &[PageRun] {
        &self.runs
    }

    /// Pages touched, and pages of those that are written.
    pub fn pages(&self) -> (u64, u64) {
        let sum = |runs: &mut dyn Iterator<Item = &PageRun>| runs.map(|r| u64::from(r.pages)).sum();
        (sum(&mut self.runs.iter()), sum(&mut self.runs.iter().filter(|run| run.written)))
    }

    /// The pages that are in both: written where they are in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let mut runs = Vec::<PageRun>::new();
        let (mut ours, mut theirs) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        while let (Some(&&a), Some(&&b)) = (ours.peek(), theirs.peek()) {
            let (first, end) = (a.first.max(b.first), a.end().min(b.end()));
            let pages = u32::try_from(end.saturating_sub(u64::from(first))).unwrap_or(0);
            let written = a.written && b.written;
            let full = runs.len() == MAX_RUNS;
            match runs.last_mut() {
                _ if pages == 0 => {}
                Some(last) if last.end() == u64::from(first) && last.written == written => {
                    last.pages += pages;
                }
                // Fewer pages than there are: those are touched when they are touched.
                _ if full => break,
                _ => runs.push(PageRun { first, pages, written }),
            }
            let _ = if a.end() <= b.end() { ours.next() } else { theirs.next() };
        }
        Self { runs }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.runs.len() * RECORD);
        for run in &self.runs {
            bytes.extend(run.first.to_le_bytes());
            let kind = if run.written { WRITTEN } else { 0 };
            bytes.extend((run.pages | kind).to_le_bytes());
        }
        bytes
    }

    /// Reads the bytes of a file, as those of a machine with so many bytes of memory.
    ///
    /// # Errors
    ///
    /// Names the first run that cannot be.
    pub fn decode(bytes: &[u8], memory: u64) -> Result<Self, WorksetError> {
        if !bytes.len().is_multiple_of(RECORD) || bytes.len() as u64 > MAX_WORKSET_LEN {
            return Err(WorksetError::Length(bytes.len()));
        }
        let (records, _) = bytes.as_chunks::<RECORD>();
        let mut from = 0;
        let run = |record: &[u8; RECORD]| {
            let [a, b, c, d, e, f, g, h] = *record;
            let kind = u32::from_le_bytes([e, f, g, h]);
            let first = u32::from_le_bytes([a, b, c, d]);
            let run = PageRun { first, pages: kind & !WRITTEN, written: kind & WRITTEN != 0 };
            let fits = run.end() <= memory / PAGE as u64;
            if run.pages == 0 || u64::from(first) < from || !fits {
                return Err(WorksetError::Place(first));
            }
            from = run.end();
            Ok(run)
        };
        Ok(Self { runs: records.iter().map(run).collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEMORY: u64 = 1 << 30;

    fn run(first: u32, pages: u32, written: bool) -> PageRun {
        PageRun { first, pages, written }
    }

    #[test]
    fn neighbours_of_one_kind_are_one_run() {
        let pages =
            [(1, false), (2, false), (3, true), (4, true), (9, true), (9, false), (2, true)];
        let set = Workset::of_pages(pages);
        assert_eq!(set.runs(), [run(1, 2, false), run(3, 2, true), run(9, 1, true)]);
        assert_eq!(set.pages(), (5, 3));
        assert_eq!(Workset::decode(&set.encode(), MEMORY), Ok(set));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let of = |runs: &[PageRun]| Workset { runs: runs.to_vec() }.encode();
        for (bad, at) in [
            (of(&[run(5, 0, true)]), 5),
            (of(&[run(5, 2, true), run(6, 1, false)]), 6),
            (of(&[run(5, 2, true), run(1, 1, false)]), 1),
            (of(&[run(u32::MAX, 1, false)]), u32::MAX),
            (of(&[run(0, (1 << 18) + 1, false)]), 0),
        ] {
            assert_eq!(Workset::decode(&bad, MEMORY), Err(WorksetError::Place(at)));
        }
        assert_eq!(Workset::decode(&[0; 7], MEMORY), Err(WorksetError::Length(7)));
        let many: Vec<_> = (0..=u32::try_from(MAX_RUNS).unwrap()).map(|n| (2 * n, true)).collect();
        let set = Workset::of_pages(many);
        assert_eq!(set.runs().len(), MAX_RUNS);
        assert!(Workset::decode(&set.encode(), MEMORY).is_ok());
    }

    proptest! {
        #[test]
        fn what_two_have_in_common_is_in_both(
            a in proptest::collection::btree_map(0..200_u32, any::<bool>(), 0..100),
            b in proptest::collection::btree_map(0..200_u32, any::<bool>(), 0..100),
        ) {
            let both = a.iter().filter_map(|(page, ours)| {
                b.get(page).map(|theirs| (*page, *ours && *theirs))
            });
            let common = Workset::of_pages(a.clone()).common(&Workset::of_pages(b.clone()));
            prop_assert_eq!(common, Workset::of_pages(both));
        }

        #[test]
        fn any_bytes_are_a_set_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(set) = Workset::decode(&bytes, MEMORY) {
                prop_assert_eq!(set.encode(), bytes);
            }
        }
    }
}
