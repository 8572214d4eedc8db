//! Removes what no function reads: documentation, translations, hooks of package managers.

use crate::fsutil::{FileError, in_file, remove};
use std::fs;
use std::path::Path;

/// Whole folders.
const FOLDERS: [&str; 16] = [
    "usr/share/applications",
    "usr/share/bash-completion",
    "usr/share/binfmts",
    "usr/share/bug",
    "usr/share/debconf",
    "usr/share/doc-base",
    "usr/share/gdb",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/perl5",
    "usr/share/pixmaps",
    "usr/share/python3/debpython",
    "var/cache",
];

/// Of the documentation only the licences stay: whoever passes an image on must pass them on.
const DOC: &str = "usr/share/doc";
const LICENCE: &str = "copyright";

/// Removes it all from a tree.
pub(super) fn prune(tree: &Path) -> Result<(), FileError> {
    for folder in FOLDERS {
        remove(&tree.join(folder))?;
    }
    let doc = tree.join(DOC);
    if !doc.is_dir() {
        return Ok(());
    }
    for package in fs::read_dir(&doc).map_err(in_file("read", &doc))? {
        let package = package.map_err(in_file("read", &doc))?;
        // A symlink leads to the folder of another package of the same source.
        if package.file_type().map_err(in_file("read", &doc))?.is_dir() {
            keep_licence(&package.path())?;
        }
    }
    Ok(())
}

fn keep_licence(dir: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(dir).map_err(in_file("read", dir))? {
        let entry = entry.map_err(in_file("read", dir))?;
        if entry.file_name() != LICENCE {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn documentation_goes_and_licences_stay() {
        let tree = tempfile::tempdir().unwrap();
        let path = |name: &str| tree.path().join(name);
        for file in [
            "usr/share/doc/bash/copyright",
            "usr/share/doc/bash/README",
            "usr/share/doc/bash/examples/a",
            "usr/share/man/man1/bash.1.gz",
            "usr/share/zoneinfo/UTC",
        ] {
            fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            fs::write(path(file), "").unwrap();
        }
        symlink("bash", path("usr/share/doc/bash-doc")).unwrap();
        prune(tree.path()).unwrap();
        assert!(path("usr/share/doc/bash/copyright").exists());
        assert!(path("usr/share/zoneinfo/UTC").exists());
        assert!(path("usr/share/doc/bash-doc").is_symlink());
        for gone in ["usr/share/doc/bash/README", "usr/share/doc/bash/examples", "usr/share/man"] {
            assert!(!path(gone).exists(), "{gone}");
        }
    }
}
