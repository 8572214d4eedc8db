use super::*;
use nix::sys::stat::Mode;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

/// A folder for one test: `code/` to pack and a place for the image.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(folder.code()).unwrap();
        folder
    }

    fn code(&self) -> PathBuf {
        self.dir.path().join("code")
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.code().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn build(&self) -> Result<CodeImage, CodeError> {
        self.build_within(Limits::default())
    }

    fn build_within(&self, limits: Limits) -> Result<CodeImage, CodeError> {
        let result = build_with(&self.code(), &self.dir.path().join("out"), limits, &mut Silent);
        let mut names: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        match &result {
            Ok(_) => assert_eq!(names, ["code", "out"]),
            Err(_) => assert_eq!(names, ["code"], "a failed build leaves nothing"),
        }
        result
    }

    fn error(&self) -> String {
        self.build().unwrap_err().to_string()
    }
}

#[test]
fn a_folder_becomes_an_image_that_depends_on_its_contents_only() {
    let one = Folder::new();
    one.write("app.py", "def handler(e, c): pass");
    one.write("lib/x.py", "x = 1");
    symlink("../../etc/passwd", one.code().join("climbs")).unwrap();
    let image = one.build().unwrap();
    assert_eq!(image.files, 2);
    assert_eq!(image.bytes, fs::metadata(&image.path).unwrap().len());

    let two = Folder::new();
    symlink("../../etc/passwd", two.code().join("climbs")).unwrap();
    two.write("lib/x.py", "x = 1");
    let app = two.write("app.py", "def handler(e, c): pass");
    fs::set_permissions(app, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(two.code().join("lib"), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(two.build().unwrap().digest, image.digest);

    two.write("lib/x.py", "x = 2");
    assert_ne!(two.build().unwrap().digest, image.digest);
}

#[test]
fn the_executable_bit_counts() {
    let folder = Folder::new();
    let bootstrap = folder.write("bootstrap", "#!/bin/sh\n");
    let plain = folder.build().unwrap().digest;
    fs::set_permissions(bootstrap, Permissions::from_mode(0o700)).unwrap();
    assert_ne!(folder.build().unwrap().digest, plain);
}

#[test]
fn a_missing_folder_is_named() {
    let folder = Folder::new();
    fs::remove_dir(folder.code()).unwrap();
    let error = build(&folder.code(), &folder.dir.path().join("out")).unwrap_err();
    assert!(matches!(&error, CodeError::NotFound(path) if *path == folder.code()), "{error}");
}

#[test]
fn a_file_in_place_of_the_folder_is_refused() {
    let folder = Folder::new();
    let file = folder.write("app.py", "");
    let error = build(&file, &folder.dir.path().join("out")).unwrap_err();
    assert!(error.to_string().contains("app.py is a file"), "{error}");
}

#[test]
fn an_empty_folder_is_refused() {
    let folder = Folder::new();
    assert!(folder.error().contains("is empty"));
    fs::create_dir_all(folder.code().join("only/folders")).unwrap();
    assert!(folder.error().contains("is empty"));
}

#[test]
fn sockets_and_pipes_are_refused_by_name() {
    let folder = Folder::new();
    folder.write("app.py", "");
    let socket = UnixListener::bind(folder.code().join("a.sock")).unwrap();
    assert!(folder.error().contains("a.sock is a socket"));
    drop(socket);
    fs::remove_file(folder.code().join("a.sock")).unwrap();
    nix::unistd::mkfifo(&folder.code().join("p"), Mode::S_IRWXU).unwrap();
    assert!(folder.error().contains("p is a named pipe"));
}

#[test]
fn a_folder_at_the_limit_passes_and_one_byte_more_does_not() {
    let folder = Folder::new();
    folder.write("a", "12345");
    folder.write("b", "67890");
    let limits = Limits { bytes: 10, ..Limits::default() };
    folder.build_within(limits).unwrap();
    fs::remove_file(folder.dir.path().join("out")).unwrap();
    folder.write("b", "678901");
    let error = folder.build_within(limits).unwrap_err();
    assert!(matches!(error, CodeError::TooLarge { limit: 10, .. }), "{error}");
}

#[test]
fn too_many_entries_are_refused() {
    let folder = Folder::new();
    folder.write("a/b/c", "");
    let limits = Limits { entries: 2, ..Limits::default() };
    let error = folder.build_within(limits).unwrap_err();
    assert!(matches!(error, CodeError::TooMany { limit: 2, .. }), "{error}");
}

#[test]
fn unreadable_entries_are_named() {
    // Root reads everything, so a folder that turns up where it cannot be listed stands in for a forbidden one.
    let folder = Folder::new();
    let beyond = folder.write("app.py", "").join("beyond-a-file");
    let error = build(&beyond, &folder.dir.path().join("out")).unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
}

#[test]
fn an_image_in_a_missing_folder_is_refused() {
    let folder = Folder::new();
    folder.write("app.py", "");
    let error = build(&folder.code(), &folder.dir.path().join("no/out")).unwrap_err().to_string();
    assert!(error.contains("no"), "{error}");
}

#[test]
fn an_image_inside_the_folder_it_packs_is_refused() {
    let folder = Folder::new();
    folder.write("app.py", "");
    let error = build(&folder.code(), &folder.code().join("out")).unwrap_err();
    assert!(matches!(error, CodeError::Inside(_)), "{error}");
}
