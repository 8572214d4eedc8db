//! Bits and lengths drawn at random, in every file that a snapshot is made of: refused, by whichever way it is opened.
//! Stamps are the exception: what is wrong with one only has a file read once more.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::store::Stamp;
use crate::testing::*;
use crate::*;

use super::lifecycle::Upper;

/// Bits flipped in each file, one at a time.
const FLIPS: usize = 1000;
/// Lengths to which each file is cut.
const CUTS: usize = 200;

/// Numbers that look random and are the same in every run (splitmix64, from its seed on).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) % end
    }
}

/// A snapshot with everything that one can have: two layers, code, a working set.
fn build(f: &Fixture) -> Digest {
    f.build("runtime");
    let base = f.open("runtime").unwrap();
    let mut draft = f.draft("py");
    draft.add_image(Role::Code, &f.input("code", b"golden code\n")).unwrap();
    draft.stand_on(&base).unwrap();
    let layout = base.manifest().machine.memory.clone();
    draft.write_layer(&Upper(layout), vec![Extent(2, 2)], &mut |_, _| {}).unwrap();
    draft.write_workset(&Workset::of_pages([(1, true), (2, false), (64, true)])).unwrap();
    draft.commit(recipe_with_code()).unwrap()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Every file that the snapshot is made of, writable from now on.
fn parts(f: &Fixture, id: Digest) -> Vec<PathBuf> {
    let mut parts = files_in(&f.path("snapshots").join(id.hex()));
    parts.extend(files_in(&f.path("images")));
    for part in &parts {
        fs::set_permissions(part, fs::Permissions::from_mode(0o600)).unwrap();
    }
    parts
}

fn open_by(f: &Fixture, verify: Verify) -> Result<Snapshot, Error> {
    f.store.snapshot("py", &host(), verify)
}

/// Opens it until every file that can have a stamp has one.
fn stamp(f: &Fixture, parts: &[PathBuf]) {
    let settled = |part: &PathBuf| Stamp::of(&File::open(part).unwrap()).unwrap().settled();
    while !parts.iter().all(settled) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    open_by(f, Verify::Stamped).unwrap();
    // Two layers and three images.
    assert_eq!(files_in(&f.path("stamps")).len(), 5);
}

/// Damages a file in every way, one after the other, and has each looked at; it is whole afterwards.
fn damage(path: &Path, mut look: impl FnMut(&str)) {
    let length = fs::metadata(path).unwrap().len();
    let mut numbers = Numbers(length);
    let file = File::options().read(true).write(true).open(path).unwrap();
    for _ in 0..FLIPS {
        let (offset, bit) = (numbers.below(length), numbers.below(8));
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << bit)], offset).unwrap();
        look(&format!("bit {bit} of byte {offset} of {}", path.display()));
        file.write_all_at(&byte, offset).unwrap();
    }
    let whole = fs::read(path).unwrap();
    for _ in 0..CUTS {
        let left = numbers.below(length);
        file.set_len(left).unwrap();
        look(&format!("{} cut to {left} bytes", path.display()));
        let from = usize::try_from(left).unwrap();
        file.write_all_at(&whole[from..], left).unwrap();
    }
}

#[test]
fn whatever_bit_or_length_is_wrong_is_refused() {
    let f = Fixture::new();
    let id = build(&f);
    let parts = parts(&f, id);
    assert_eq!(parts.len(), 8, "{parts:?}");
    stamp(&f, &parts);
    for part in &parts {
        damage(part, |what| {
            for verify in [Verify::Stamped, Verify::Full] {
                let opened = open_by(&f, verify);
                assert!(matches!(opened, Err(Error::Damaged { .. })), "{what}: {opened:?}");
            }
        });
        open_by(&f, Verify::Full).unwrap();
    }
}

#[test]
fn whatever_is_wrong_with_a_stamp_is_harmless() {
    let f = Fixture::new();
    let id = build(&f);
    let parts = parts(&f, id);
    stamp(&f, &parts);
    let stamps = files_in(&f.path("stamps"));
    let texts: Vec<_> = stamps.iter().map(|stamp| fs::read(stamp).unwrap()).collect();
    for (stamp, text) in stamps.iter().zip(&texts) {
        // A stamp that is found wrong is replaced: each damage is done to a whole one.
        let mut numbers = Numbers(1);
        for n in 0..FLIPS + CUTS {
            let mut wrong = text.clone();
            let at = usize::try_from(numbers.below(text.len() as u64)).unwrap();
            if n < FLIPS {
                wrong[at] ^= 1 << numbers.below(8);
            } else {
                wrong.truncate(at);
            }
            fs::write(stamp, wrong).unwrap();
            open_by(&f, Verify::Stamped).unwrap();
        }
        fs::write(stamp, text).unwrap();
    }
    // Nor does a stamp of before hide what came after.
    let memory = parts.iter().find(|part| part.ends_with("memory.1")).unwrap();
    let file = File::options().read(true).write(true).open(memory).unwrap();
    file.write_all_at(&[8], 2 * 4096).unwrap();
    assert!(open_by(&f, Verify::Stamped).is_err());
}
