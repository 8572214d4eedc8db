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

/// What is in a folder, by path: `folder`, `-> way` or a file's text.
fn contents(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap().file_type();
            let what = if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else {
                fs::read_to_string(&path).unwrap()
            };
            found.push((path.strip_prefix(dir).unwrap().display().to_string(), what));
        }
    }
    found.sort();
    found
}

/// Copies folders over each other.
fn merged(layers: &[&Folder]) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let mut silent = Silent;
    let mut stage = Stage::new(Limits::default(), &mut silent);
    for layer in layers {
        stage.copy(&layer.code(), &tree).unwrap();
    }
    contents(&tree)
}

fn expected(entries: &[(&str, &str)]) -> Vec<(String, String)> {
    entries.iter().map(|(path, what)| ((*path).to_owned(), (*what).to_owned())).collect()
}

#[test]
fn of_two_layers_the_later_one_wins_and_folders_are_merged() {
    let (lower, upper) = (Folder::new(), Folder::new());
    lower.write("python/both.py", "lower");
    lower.write("python/lower.py", "lower");
    upper.write("python/both.py", "upper");
    upper.write("python/upper.py", "upper");
    let folder = ("python", "folder");
    let others = [("python/lower.py", "lower"), ("python/upper.py", "upper")];
    let with = |both| expected(&[folder, ("python/both.py", both), others[0], others[1]]);
    assert_eq!(merged(&[&lower, &upper]), with("upper"));
    assert_eq!(merged(&[&upper, &lower]), with("lower"));
}

#[test]
fn what_is_of_another_kind_takes_the_place_of_what_is_there() {
    let (lower, upper) = (Folder::new(), Folder::new());
    lower.write("a/in/it", "lower");
    upper.write("a", "a file");
    lower.write("b", "a file");
    upper.write("b/in", "upper");
    symlink("b", lower.code().join("c")).unwrap();
    upper.write("c", "upper");
    lower.write("d/in", "lower");
    symlink("b", upper.code().join("d")).unwrap();
    let wanted =
        [("a", "a file"), ("b", "folder"), ("b/in", "upper"), ("c", "upper"), ("d", "-> b")];
    assert_eq!(merged(&[&lower, &upper]), expected(&wanted));
}

#[test]
fn no_layer_writes_by_way_of_another_one_s_symlinks() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "unharmed").unwrap();
    let (lower, upper) = (Folder::new(), Folder::new());
    lower.write("any", "");
    symlink(outside.path(), lower.code().join("python")).unwrap();
    symlink(outside.path().join("victim"), lower.code().join("victim")).unwrap();
    upper.write("python/victim", "overwritten");
    upper.write("victim", "overwritten");
    let wanted = [
        ("any", ""),
        ("python", "folder"),
        ("python/victim", "overwritten"),
        ("victim", "overwritten"),
    ];
    assert_eq!(merged(&[&lower, &upper]), expected(&wanted));
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"unharmed");
}

/// Packs the first folder with the others as its layers.
fn layered(code: &Folder, layers: &[&Folder], limits: Limits) -> Result<Vec<u8>, CodeError> {
    let dir = tempfile::tempdir().unwrap();
    let layers: Vec<_> = layers.iter().map(|layer| layer.code()).collect();
    let image = build_layered(&code.code(), &layers, &dir.path().join("out"), limits, &mut Silent)?;
    Ok(fs::read(image.path).unwrap())
}

#[test]
fn an_image_says_whether_it_has_layers() {
    let (code, one, two) = (Folder::new(), Folder::new(), Folder::new());
    code.write("app.py", "");
    one.write("python/x.py", "1");
    two.write("python/x.py", "2");
    let at = usize::try_from(calve_proto::image::UUID_OFFSET).unwrap();
    let pack = |layers: &[&Folder]| layered(&code, layers, Limits::default()).unwrap();
    let plain = pack(&[]);
    assert_eq!(plain[at..at + 16], erofs::UUID);
    let (first, second) = (pack(&[&one, &two]), pack(&[&two, &one]));
    assert_eq!(first[at..at + 16], LAYERED);
    assert_eq!(first, pack(&[&one, &two]), "the same for the same");
    assert_ne!(first, second, "their order matters");
}

#[test]
fn a_function_and_its_layers_share_one_limit() {
    let (code, layer) = (Folder::new(), Folder::new());
    code.write("app.py", "12345");
    layer.write("x", "67890");
    let limits = |bytes| Limits { bytes, ..Limits::default() };
    layered(&code, &[&layer], limits(10)).unwrap();
    let error = layered(&code, &[&layer], limits(9)).unwrap_err();
    assert!(matches!(error, CodeError::TooLargeTogether { limit: 9, .. }), "{error}");
    let error = layered(&code, &[&layer], limits(4)).unwrap_err();
    assert!(matches!(error, CodeError::TooLarge { limit: 4, .. }), "{error}");
    fs::remove_file(layer.code().join("x")).unwrap();
    let error = layered(&code, &[&layer], limits(10)).unwrap_err();
    assert!(matches!(&error, CodeError::Empty(path) if *path == layer.code()), "{error}");
}

#[test]
fn a_function_and_its_layers_share_one_number_of_entries() {
    let (code, layer) = (Folder::new(), Folder::new());
    code.write("app.py", "");
    layer.write("x", "");
    let limits = |entries| Limits { entries, ..Limits::default() };
    layered(&code, &[&layer], limits(2)).unwrap();
    let error = layered(&code, &[&layer], limits(1)).unwrap_err();
    assert!(matches!(error, CodeError::TooManyTogether { limit: 1, .. }), "{error}");
    assert!(error.to_string().contains("its layers hold more than 1 files together"), "{error}");
    let error = layered(&code, &[&layer], limits(0)).unwrap_err();
    assert!(matches!(error, CodeError::TooMany { limit: 0, .. }), "{error}");
}

#[test]
fn symlinks_alone_are_a_layer() {
    let (lower, upper) = (Folder::new(), Folder::new());
    lower.write("libx.so.1", "");
    symlink("libx.so.1", upper.code().join("libx.so")).unwrap();
    let wanted = [("libx.so", "-> libx.so.1"), ("libx.so.1", "")];
    assert_eq!(merged(&[&lower, &upper]), expected(&wanted));
    let image = upper.build().unwrap();
    assert_eq!(image.files, 0);
}
