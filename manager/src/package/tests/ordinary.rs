//! What people upload.

use super::*;

fn pair(path: &str, what: &str) -> (String, String) {
    (path.to_owned(), what.to_owned())
}

#[test]
fn files_folders_and_symlinks_come_out() {
    let zip = zip(&[
        ("./", FOLDER, b""),
        ("index.js", FILE, b"exports"),
        ("lib/", FOLDER, b""),
        ("lib/./deep//er.js", FILE, b"deep"),
        ("lib/latest", LINK, b"deep"),
        ("bootstrap", 0o100_755, b"#!/bin/sh"),
        ("empty/", FOLDER, b""),
        ("h\u{e4}.txt", FILE, b""),
        ("back\\slash", FILE, b""),
    ]);
    assert_eq!(
        unpacked(&zip),
        [
            pair("back\\slash", "100644 "),
            pair("bootstrap", "100755 #!/bin/sh"),
            pair("empty", "folder"),
            pair("h\u{e4}.txt", "100644 "),
            pair("index.js", "100644 exports"),
            pair("lib", "folder"),
            pair("lib/deep", "folder"),
            pair("lib/deep/er.js", "100644 deep"),
            pair("lib/latest", "-> deep"),
        ]
    );
}

#[test]
fn counts_are_of_files() {
    let zip = zip(&[("a/b", FILE, b"12345"), ("c", LINK, b"a/b"), ("d/", FOLDER, b"")]);
    let (result, _) = unpacked_within(&zip, &Limits::default());
    assert_eq!(result.unwrap(), Unpacked { files: 2, bytes: 8 });
}

#[test]
fn of_modes_the_executable_bit_stays() {
    for (mode, out) in [
        (0o100_000, "100644 "),
        (0o100_010, "100755 "),
        (0o100_001, "100755 "),
        (0o104_755, "100755 "),
        (0o106_666, "100644 "),
        (0o101_777, "100755 "),
    ] {
        // The zip crate writes permissions only: here is all of it.
        let attributes = u32::to_le_bytes(mode << 16);
        let zip = directory_patched(zip(&[("a", FILE, b"")]), 38, &attributes);
        assert_eq!(unpacked(&zip), [pair("a", out)], "{mode:o}");
    }
}

#[test]
fn a_folder_must_be_empty() {
    let outer = tempfile::tempdir().unwrap();
    let zip = zip(&[("a", FILE, b"")]);
    unpack(&zip, outer.path(), &Limits::default()).unwrap();
    let error = unpack(&zip, outer.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, PackageError::Write { .. }) && !error.is_of_package(), "{error}");
    let missing = outer.path().join("no/such");
    let error = unpack(&zip, &missing, &Limits::default()).unwrap_err();
    assert!(matches!(error, PackageError::Write { .. }), "{error}");
}

#[test]
fn a_folder_may_be_said_after_what_is_in_it() {
    let zip = zip(&[("a/b/c", FILE, b""), ("a/b/", FOLDER, b""), ("a/", FOLDER, b"")]);
    assert_eq!(unpacked(&zip).len(), 3);
}

#[test]
fn streamed_and_large_formats_are_read() {
    for large in [false, true] {
        // A stream has lengths after the contents (data descriptors), and `large` is ZIP64.
        let options = SimpleFileOptions::default().large_file(large);
        let mut zip = ZipWriter::new_stream(Vec::new());
        zip.start_file("a", options).unwrap();
        zip.write_all(b"hello").unwrap();
        zip.start_file("b", options.compression_method(CompressionMethod::Stored)).unwrap();
        zip.write_all(b"world").unwrap();
        let zip = zip.finish().unwrap().into_inner();
        assert_eq!(unpacked(&zip), [pair("a", "100644 hello"), pair("b", "100644 world")]);
    }
}
