//! Names and kinds that nobody means well with.

use super::*;

#[test]
fn names_stay_inside() {
    for name in [
        "../evil",
        "a/../../evil",
        "a/..",
        "..",
        "/etc/evil",
        "//evil",
        "a/../b",
        "..\\evil",
        "a\\..\\..\\evil",
        "\\evil",
        "C:\\evil",
        "a/..\\evil",
        "nul\0l",
        "/",
    ] {
        // The zip crate does not write some of these: they are put in afterwards.
        let placeholder = "x".repeat(name.len());
        let zip = patched(
            zip(&[(&placeholder, FILE, b"evil"), ("z", FILE, b"")]),
            placeholder.as_bytes(),
            name.as_bytes(),
        );
        let error = refused(&zip);
        assert!(matches!(error, PackageError::Outside(_)), "{name:?}: {error}");
    }
}

#[test]
fn names_are_not_too_long() {
    let name = "n".repeat(256);
    let path = "n/".repeat(512) + "n";
    for name in [name, path] {
        let error = refused(&zip(&[(&name, FILE, b"")]));
        assert!(matches!(error, PackageError::Long { .. }), "{error}");
        assert!(error.to_string().len() < 300, "{error}");
    }
    let longest = "n".repeat(255);
    assert_eq!(unpacked(&zip(&[(&longest, FILE, b"")])).len(), 1);
}

#[test]
fn no_place_is_taken_twice() {
    let same = patched(zip(&[("aa", FILE, b"1"), ("ab", FILE, b"2")]), b"ab", b"aa");
    let zips = [
        same,
        zip(&[("a", FILE, b"1"), ("./a", FILE, b"2")]),
        zip(&[("d/a", FILE, b"1"), ("d//a", LINK, b"x")]),
        zip(&[("a/", FOLDER, b""), ("a", FILE, b"2")]),
        zip(&[("a/b", FILE, b""), ("a", LINK, b"/tmp")]),
        zip(&[("a", FILE, b"2"), ("a/", FOLDER, b"")]),
    ];
    for (number, zip) in zips.iter().enumerate() {
        let error = refused(zip);
        assert!(matches!(error, PackageError::Twice(_)), "{number}: {error}");
    }
}

#[test]
fn only_folders_have_something_in_them() {
    for kind in [FILE, LINK] {
        let error = refused(&zip(&[("a", kind, b"b"), ("a/x", FILE, b"evil")]));
        assert!(matches!(error, PackageError::NoFolder(_)), "{error}");
    }
}

#[test]
fn special_files_are_refused() {
    for mode in [0o060_644_u32, 0o020_644, 0o010_644, 0o140_644] {
        let attributes = u32::to_le_bytes(mode << 16);
        let error = refused(&directory_patched(zip(&[("a", FILE, b"")]), 38, &attributes));
        assert!(matches!(error, PackageError::Special(_)), "{mode:o}: {error}");
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let plain = || zip(&[("a", FILE, b"hello")]);
    let encrypted = refused(&directory_patched(plain(), 8, &[1, 0]));
    assert!(matches!(encrypted, PackageError::Encrypted(_)), "{encrypted}");
    // bzip2, LZMA, Zstandard.
    for method in [12, 14, 93] {
        let error = refused(&directory_patched(plain(), 10, &[method, 0]));
        assert!(matches!(error, PackageError::Compression(_)), "{error}");
        assert_eq!(
            error.to_string(),
            "\"a\" is compressed in an unusual way: use deflate, as zip does by itself"
        );
    }
    let checksum = refused(&directory_patched(plain(), 16, &[0; 4]));
    assert!(matches!(checksum, PackageError::Damaged { .. }), "{checksum}");
}

#[test]
fn what_is_no_zip_is_refused() {
    for bytes in [&b""[..], b"PK", b"hello, world, this is no zip file at all", &[0; 1000]] {
        let error = refused(bytes);
        assert!(matches!(error, PackageError::NotAZip(_)), "{error}");
    }
    for entries in [&[][..], &[("a/", FOLDER, &b""[..])]] {
        let error = refused(&zip(entries));
        assert!(matches!(error, PackageError::Empty), "{error}");
    }
    let whole = zip(&[("a", FILE, b"hello")]);
    let error = refused(&whole[..whole.len() - 10]);
    assert!(matches!(error, PackageError::NotAZip(_)), "{error}");
}

#[test]
fn messages_hide_what_is_in_names() {
    let error = refused(&zip(&[("../\u{1b}[31m\n\u{202e}", FILE, b"")]));
    assert!(!error.to_string().chars().any(char::is_control), "{error}");
}
