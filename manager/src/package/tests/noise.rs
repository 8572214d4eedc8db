//! Random bytes, and zip files with random errors: nothing panics, and nothing is written elsewhere.

use proptest::prelude::*;

use super::*;

/// What there is in a zip file, in one.
fn sample() -> Vec<u8> {
    zip(&[
        ("index.js", FILE, b"exports.handler = async () => 1"),
        ("lib/", FOLDER, b""),
        ("lib/run", 0o100_755, b"#!/bin/sh\nexec true\n"),
        ("lib/link", LINK, b"../index.js"),
        ("\u{e4}/a", FILE, b"x"),
    ])
}

/// Nothing in a folder leads out of it.
fn look(zip: &[u8]) {
    let limits = Limits { bytes: 1 << 20, entries: 100, path: 100 };
    let (_, found) = unpacked_within(zip, &limits);
    for (path, what) in found {
        if let Some(way) = what.strip_prefix("-> ") {
            assert!(!way.starts_with('/'), "{path:?} {what}");
        }
    }
}

#[test]
fn without_errors_all_is_well() {
    assert_eq!(unpacked(&sample()).len(), 6);
}

proptest! {
    #[test]
    fn bytes_at_random(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        look(&bytes);
    }

    #[test]
    fn bytes_at_random_with_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut zip = bytes;
        zip.extend(&sample()[sample().len() - 22..]);
        look(&zip);
    }

    #[test]
    fn bits_flipped(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..12)) {
        let mut zip = sample();
        for (at, bit) in flips {
            let at = at.index(zip.len());
            zip[at] ^= 1 << bit;
        }
        look(&zip);
    }

    #[test]
    fn bytes_cut_out(from in any::<prop::sample::Index>(), length in 1..200_usize) {
        let mut zip = sample();
        let from = from.index(zip.len());
        zip.drain(from..(from + length).min(zip.len()));
        look(&zip);
    }

    #[test]
    fn names_at_random(names in prop::collection::vec("[a./\\\\]{1,6}", 1..8), link in any::<bool>(), way in "[a./]{1,8}") {
        let kind = if link { LINK } else { FILE };
        let mut seen = std::collections::BTreeSet::new();
        let entries: Vec<_> = names.iter().filter(|name| seen.insert(*name)).enumerate()
            .map(|(n, name)| (name.as_str(), if n % 2 == 0 { kind } else { FILE }, way.as_bytes()))
            .collect();
        look(&zip(&entries));
    }
}
