//! Small zip files that would become large folders.

use std::io::Read;

use super::*;

/// A file of `size` zeros.
fn zeros(size: u64) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    zip.start_file("zeros", options).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(size), &mut zip).unwrap();
    zip.finish().unwrap().into_inner()
}

/// The bytes on disk of what was left behind.
fn left(zip: &[u8], limits: &Limits) -> (PackageError, u64) {
    let outer = tempfile::tempdir().unwrap();
    let error = unpack(zip, outer.path(), limits).unwrap_err();
    let sizes = fs::read_dir(outer.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len());
    (error, sizes.sum())
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let bomb = zeros(64 << 20);
    assert!(bomb.len() < 100 << 10);
    let (error, size) = left(&bomb, &limits);
    assert!(matches!(error, PackageError::TooLarge(_)), "{error}");
    assert!(size <= limits.bytes, "{size}");
    assert_eq!(
        error.to_string(),
        "the package holds more than 1 MiB when unpacked: leave out what the function does not need"
    );
    unpack(&zeros(1 << 20), &tempfile::tempdir().unwrap().path().join("a"), &limits).unwrap();
}

#[test]
fn a_large_bomb_stops_at_lambdas_limit() {
    let bomb = zeros(260 << 20);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    assert!(matches!(refused(&bomb), PackageError::TooLarge(limit) if limit == 250 << 20));
}

#[test]
fn many_files_count_together() {
    let limits = Limits { bytes: 2500, ..Limits::default() };
    let thousand = [7; 1000];
    let zip = zip(&[("a", FILE, &thousand), ("b", FILE, &thousand), ("c", FILE, &thousand)]);
    assert!(matches!(unpacked_within(&zip, &limits).0, Err(PackageError::TooLarge(2500))));
}

#[test]
fn lies_about_the_length_do_not_help() {
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    // Uncompressed size: in the directory, and in both headers.
    let small = directory_patched(zeros(64 << 20), 24, &[1, 0, 0, 0]);
    let both = patched(zeros(64 << 20), &u32::to_le_bytes(64 << 20), &[1, 0, 0, 0]);
    for bomb in [small, both] {
        let (error, size) = left(&bomb, &limits);
        let expected = matches!(error, PackageError::TooLarge(_) | PackageError::Damaged { .. });
        assert!(expected && size <= limits.bytes, "{error}");
    }
    for said in [0_u32, 4, 6, u32::MAX - 1] {
        let lie = directory_patched(zip(&[("a", FILE, b"hello")]), 24, &said.to_le_bytes());
        assert!(matches!(refused(&lie), PackageError::Damaged { .. }), "{said}");
    }
}

#[test]
fn entries_are_counted_with_the_folders_they_need() {
    let limits = Limits { entries: 5, ..Limits::default() };
    let try_it = |entries: &[(&str, u32, &[u8])]| unpacked_within(&zip(entries), &limits).0;
    try_it(&[("a/b/c/d/e", FILE, b"")]).unwrap();
    try_it(&[("a/b", FILE, b""), ("a/c", FILE, b""), ("a/d", FILE, b""), ("a/e", FILE, b"")])
        .unwrap();
    let many = ["a", "b", "c", "d", "e", "f"].map(|name| (name, FILE, &b""[..]));
    for entries in [&[("a/b/c/d/e/f", FILE, &b""[..])][..], &many] {
        assert!(matches!(try_it(entries), Err(PackageError::TooMany(5))));
    }
}
