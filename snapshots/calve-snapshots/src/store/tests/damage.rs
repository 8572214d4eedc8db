//! A bit, a byte or a file less is noticed, named, and never a panic.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::testing::*;
use crate::*;

/// Inverts one bit of the byte at `offset`.
pub(super) fn flip(path: &Path, offset: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0] ^= 1 << (offset % 8);
    file.write_all_at(&byte, offset).unwrap();
}

/// The files of a snapshot, images included, each with the name an error gives it.
fn parts(f: &Fixture, id: Digest) -> Vec<(String, PathBuf)> {
    let dir = f.path("snapshots").join(id.hex());
    let mut parts: Vec<_> =
        ["manifest.json", "state", "memory.0"].map(|n| (n.to_owned(), dir.join(n))).into();
    for image in [KERNEL, ROOT] {
        let name = Digest::of(image).hex();
        parts.push((name.clone(), f.path("images").join(name)));
    }
    parts
}

fn damaged_file(f: &Fixture) -> String {
    match f.store.verify("py", &mut |_, _| {}) {
        Err(Error::Damaged { name, file, .. }) if name == "py" => file,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flipped_bit_in_any_file() {
    let f = Fixture::new();
    let id = f.build("py");
    for (name, path) in parts(&f, id) {
        let length = fs::metadata(&path).unwrap().len();
        // Every byte of small files, 101 places of the memory file, holes among them.
        let step = usize::try_from(length / 100).unwrap().max(1);
        for offset in (0..length).step_by(if length < 4096 { 1 } else { step }) {
            flip(&path, offset);
            assert_eq!(damaged_file(&f), name, "bit flipped at {offset}");
            flip(&path, offset);
        }
        f.open("py").unwrap();
    }
}

#[test]
fn a_file_cut_or_grown() {
    let f = Fixture::new();
    let id = f.build("py");
    for (name, path) in parts(&f, id) {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let original = fs::read(&path).unwrap();
        let all = original.len();
        for length in [0, 1, all / 2, all - 1, all + 1] {
            let mut bytes = original.clone();
            bytes.resize(length, 0);
            fs::write(&path, bytes).unwrap();
            assert_eq!(damaged_file(&f), name, "{length} bytes");
            // Lengths are checked at every level.
            let host = host();
            assert!(f.store.snapshot("py", &host, Verify::Structure).is_err(), "{name} {length}");
        }
        fs::write(&path, original).unwrap();
        f.open("py").unwrap();
    }
}

#[test]
fn a_file_missing_or_of_another_kind() {
    let f = Fixture::new();
    let id = f.build("py");
    for (name, path) in parts(&f, id) {
        let aside = f.dir.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        assert_eq!(damaged_file(&f), name);
        fs::create_dir(&path).unwrap();
        assert_eq!(damaged_file(&f), name);
        fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(damaged_file(&f), name);
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        f.open("py").unwrap();
    }
    fs::remove_dir_all(f.path("snapshots").join(id.hex())).unwrap();
    assert_eq!(damaged_file(&f), "manifest.json");
}

#[test]
fn messages_name_the_snapshot_the_file_and_the_remedy() {
    let f = Fixture::new();
    let id = f.build("py");
    flip(&f.path("snapshots").join(id.hex()).join("memory.0"), 9000);
    let error = f.open("py").unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        error.to_string(),
        "snapshot `py`: memory.0 is damaged; rebuild it with `calve snapshot build`"
    );
    assert!(source.starts_with("its digest is sha256:"), "{source}");
}
