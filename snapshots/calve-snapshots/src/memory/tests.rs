//! Runs, digests and sparseness, also above 3 GiB.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use proptest::prelude::*;

use super::runs::{Run, Runs};
use super::*;
use crate::Digest;
use crate::testing::Ram;

const GIB: u64 = 1 << 30;
const P: u64 = PAGE as u64;

/// The travelling form, from the definition rather than from the tally.
fn pack(source: &dyn MemorySource) -> Vec<u8> {
    let (mut runs, mut out) = (Runs::new(source), Vec::new());
    while let Some(Run { offset, bytes }) = runs.next().unwrap() {
        out.extend(offset.to_le_bytes());
        out.extend((bytes.len() as u64).to_le_bytes());
        out.extend(bytes);
    }
    out
}

fn written(source: &dyn MemorySource) -> (File, Summary) {
    let file = tempfile::tempfile().unwrap();
    let summary = write(&file, source, &mut |_, _| {}).unwrap();
    (file, summary)
}

fn summary_of(file: &File, layout: &MemoryLayout) -> Summary {
    summarise(&FileMemory::new(file, layout).unwrap(), |_| {}).unwrap()
}

#[test]
fn layouts() {
    use LayoutError::*;
    let new = |regions: &[(u64, u64)]| MemoryLayout::new(regions.iter().copied()).map(|l| l.size());
    assert_eq!(new(&[(0, 3 * GIB), (4 * GIB, GIB)]), Ok(4 * GIB));
    assert_eq!(new(&[]), Err(Count(0)));
    assert_eq!(new(&[(0, P); 17]), Err(Count(17)));
    assert_eq!(new(&[(0, 0)]), Err(Unaligned(0)));
    assert_eq!(new(&[(1, P)]), Err(Unaligned(1)));
    assert_eq!(new(&[(0, P + 1)]), Err(Unaligned(0)));
    assert_eq!(new(&[(0, 2 * P), (P, P)]), Err(Order(P)));
    assert_eq!(new(&[(P, P), (0, P)]), Err(Order(0)));
    assert_eq!(new(&[(0, MAX_RAM), (MAX_RAM, P)]), Err(TooLarge));
    assert_eq!(new(&[(u64::MAX - P + 1, P)]), Err(TooLarge));
    let gap = vec![MemoryRegion { gpa: 0, size: P, file_offset: P }];
    assert_eq!(MemoryLayout::try_from(gap), Err(FileOffset(0)));
}

#[test]
fn runs_are_maximal_within_a_window() {
    let ram = Ram::golden();
    let mut runs = Runs::new(&ram);
    let mut found = Vec::new();
    while let Some(run) = runs.next().unwrap() {
        found.push((run.offset / P, run.bytes.len() / PAGE));
    }
    // Pages 63 and 64 touch, but lie on the two sides of a window's end.
    assert_eq!(found, [(1, 2), (63, 1), (64, 1), (200, 1)]);
}

#[test]
fn digest_is_that_of_the_travelling_form() {
    let ram = Ram::golden();
    let packed = pack(&ram);
    let (_, summary) = written(&ram);
    assert_eq!(summary.digest, Digest::of(&packed));
    assert_eq!(summary.packed_len(), packed.len() as u64);
}

#[test]
fn digest_does_not_depend_on_holes() {
    let ram = Ram::golden();
    let (sparse, summary) = written(&ram);
    let dense = tempfile::tempfile().unwrap();
    dense.write_all_at(&ram.bytes(), 0).unwrap();
    assert!(sparse.metadata().unwrap().blocks() < dense.metadata().unwrap().blocks());
    assert_eq!(summary_of(&sparse, &ram.layout), summary);
    assert_eq!(summary_of(&dense, &ram.layout), summary);
}

#[test]
fn nothing_but_zeros_is_nothing() {
    let layout = MemoryLayout::new([(0, 64 << 20)]).unwrap();
    let (file, summary) = written(&Ram { layout, pages: [].into() });
    assert_eq!((summary.pages, summary.runs), (0, 0));
    assert_eq!(summary.digest, Digest::of(b""));
    assert_eq!(file.metadata().unwrap().len(), 64 << 20);
    assert_eq!(file.metadata().unwrap().blocks(), 0);
}

#[test]
fn above_three_gib_every_page_lands_where_it_belongs() {
    let layout = MemoryLayout::new([(0, 3 * GIB), (4 * GIB, 2 * GIB + 3 * P)]).unwrap();
    let last = layout.size() - P;
    let places = [0, P, 3 * GIB - P, 3 * GIB, 4 * GIB - P, 4 * GIB, 4 * GIB + 5 * P, last];
    let page_for = |offset: u64| -> Vec<u8> {
        (offset + 1).to_le_bytes().into_iter().cycle().take(PAGE).collect()
    };
    let original = tempfile::tempfile().unwrap();
    original.set_len(layout.size()).unwrap();
    for offset in places {
        original.write_all_at(&page_for(offset), offset).unwrap();
    }
    let (copy, summary) = written(&FileMemory::new(&original, &layout).unwrap());

    assert_eq!(copy.metadata().unwrap().len(), layout.size());
    assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20, "the copy is sparse");
    assert_eq!((summary.pages, summary.runs), (8, 7)); // pages 0 and 1 touch
    assert_eq!(summary_of(&copy, &layout), summary);
    for offset in places {
        let mut page = vec![0; PAGE];
        copy.read_exact_at(&mut page, offset).unwrap();
        assert_eq!(page, page_for(offset), "{offset:#x}");
    }
}

#[test]
fn a_file_of_another_length_is_no_memory() {
    let layout = MemoryLayout::new([(0, P)]).unwrap();
    let file = tempfile::tempfile().unwrap();
    for len in [0, P - 1, P + 1] {
        file.set_len(len).unwrap();
        assert!(FileMemory::new(&file, &layout).is_err(), "{len}");
    }
}

#[test]
fn progress_ends_at_the_end() {
    let ram = Ram::golden();
    let mut told = Vec::new();
    let file = tempfile::tempfile().unwrap();
    write(&file, &ram, &mut |done, total| told.push((done, total))).unwrap();
    assert!(told.is_sorted());
    assert_eq!(told.last(), Some(&(1 << 20, 1 << 20)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The file has the source's bytes, and the runs cover every page that is not zero.
    #[test]
    fn copies_are_exact(
        numbers in prop::collection::btree_map(0..300u64, 1..=255u8, 0..80),
        below in 1..200u64,
    ) {
        let layout = MemoryLayout::new([(0, below * P), (4 * GIB, (300 - below) * P)]).unwrap();
        let page = |(number, byte)| { let mut p = vec![0; PAGE]; p[usize::from(byte)] = byte; (number, p) };
        let ram = Ram { layout, pages: numbers.into_iter().map(page).collect() };
        let (file, summary) = written(&ram);
        let mut bytes = vec![0; 300 * PAGE];
        file.read_exact_at(&mut bytes, 0).unwrap();
        prop_assert!(bytes == ram.bytes());
        prop_assert_eq!(summary.pages, ram.pages.len() as u64);
        prop_assert_eq!(summary.digest, Digest::of(&pack(&ram)));
        prop_assert_eq!(summary_of(&file, &ram.layout), summary);
    }
}
