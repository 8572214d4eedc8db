//! Code on its way to the host: a folder becomes a zip file in memory, a zip file stays what it is.
//!
//! The same folder gives the same bytes: names are sorted, times left out. So the host, which keeps packages by their
//! digest, keeps one of them.

use std::fs::{self, File, Metadata};
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::failure::{Failure, Status, line};
use crate::table;

/// The most bytes of a zip file in a request, as with AWS Lambda.
const MOST_ZIPPED: u64 = 50 << 20;
/// The most bytes of what is in it.
const MOST_UNZIPPED: u64 = 250 << 20;
/// How every zip file that has something in it begins (APPNOTE.TXT, section 4.3.7).
const MAGIC: &[u8] = b"PK\x03\x04";

/// The package of a folder or of a zip file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let package = if metadata.is_dir() { zip(path)? } else { zipped(path)? };
    if package.len() as u64 > MOST_ZIPPED {
        return Err(too_large(path, "zipped ", MOST_ZIPPED));
    }
    Ok(package)
}

fn zipped(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // No more than what shows that it is too much.
    let read = File::open(path).and_then(|f| f.take(MOST_ZIPPED + 1).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(path, &error))?;
    if bytes.starts_with(MAGIC) {
        return Ok(bytes);
    }
    let path = path.display();
    Err(Failure::usage(format_args!("{path} is neither a folder nor a zip file with code in it")))
}

fn zip(folder: &Path) -> Result<Vec<u8>, Failure> {
    let mut draft =
        Draft { folder, zip: ZipWriter::new(Cursor::new(Vec::new())), bytes: 0, files: 0 };
    draft.add_folder(folder)?;
    if draft.files == 0 {
        return Err(Failure::usage(format_args!("{} has no files in it", folder.display())));
    }
    let zip = draft.zip.finish().map_err(|error| unzippable(folder, &error))?;
    Ok(zip.into_inner())
}

/// A zip file that is being written.
struct Draft<'a> {
    folder: &'a Path,
    zip: ZipWriter<Cursor<Vec<u8>>>,
    /// Of files' contents.
    bytes: u64,
    files: u64,
}

impl Draft<'_> {
    fn add_folder(&mut self, folder: &Path) -> Result<(), Failure> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(|error| unreadable(folder, &error))?;
        paths.sort();
        paths.iter().try_for_each(|path| self.add(path))
    }

    fn add(&mut self, path: &Path) -> Result<(), Failure> {
        let name = self.name(path)?;
        let metadata = path.symlink_metadata().map_err(|error| unreadable(path, &error))?;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        if metadata.is_dir() {
            let added = self.zip.add_directory(name, options.unix_permissions(0o755));
            added.map_err(|error| unzippable(path, &error))?;
            return self.add_folder(path);
        }
        self.files += 1;
        if metadata.is_symlink() {
            let target = fs::read_link(path).map_err(|error| unreadable(path, &error))?;
            let added = self.zip.add_symlink(name, text(&target)?, options);
            return added.map_err(|error| unzippable(path, &error));
        }
        if !metadata.is_file() {
            let what = "is no file, folder or link: a package cannot have it";
            return Err(Failure::usage(what).about(path.display()));
        }
        self.count(path, metadata.len())?;
        // Of a file's mode only this matters: the host gives code its own owner.
        let mode = if is_executable(&metadata) { 0o755 } else { 0o644 };
        let started = self.zip.start_file(name, options.unix_permissions(mode));
        started.map_err(|error| unzippable(path, &error))?;
        let contents = fs::read(path).map_err(|error| unreadable(path, &error))?;
        self.zip.write_all(&contents).map_err(|error| unreadable(path, &error))
    }

    /// Counts a file before it is read: a folder that was named by mistake may be large.
    fn count(&mut self, path: &Path, bytes: u64) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MOST_UNZIPPED {
            return Err(too_large(self.folder, "", MOST_UNZIPPED).about(path.display()));
        }
        Ok(())
    }

    /// A path as the package has it.
    fn name(&self, path: &Path) -> Result<String, Failure> {
        text(path.strip_prefix(self.folder).unwrap_or(path))
    }
}

fn is_executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o111 != 0
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format_args!("{path:?}: name it in UTF-8")))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format_args!("cannot read {}: {}", path.display(), line(error)))
}

fn unzippable(path: &Path, error: &ZipError) -> Failure {
    Failure::of(Status::Usage, error).about(format_args!("cannot pack {}", path.display()))
}

fn too_large(path: &Path, how: &str, most: u64) -> Failure {
    let (path, most) = (path.display(), table::bytes(most));
    Failure::usage(format_args!("{path} is over {most} {how}large; leave out what no call needs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use zip::ZipArchive;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("lib/deep")).unwrap();
        fs::write(folder.path().join("app.py"), "print(1)\n".repeat(100)).unwrap();
        fs::write(folder.path().join("lib/deep/run"), "#!/bin/sh\n").unwrap();
        let executable = fs::Permissions::from_mode(0o700);
        fs::set_permissions(folder.path().join("lib/deep/run"), executable).unwrap();
        symlink("deep/run", folder.path().join("lib/link")).unwrap();
        folder
    }

    #[test]
    fn a_folder_keeps_its_tree_its_links_and_what_is_executable() {
        let package = read(folder().path()).unwrap();
        let mut zip = ZipArchive::new(Cursor::new(package)).unwrap();
        let mut seen = Vec::new();
        for at in 0..zip.len() {
            let mut entry = zip.by_index(at).unwrap();
            let mut contents = String::new();
            entry.read_to_string(&mut contents).unwrap();
            seen.push((entry.name().unwrap().into_owned(), entry.unix_mode().unwrap(), contents));
        }
        let seen: Vec<(&str, u32, &str)> =
            seen.iter().map(|(name, mode, contents)| (&**name, *mode, &**contents)).collect();
        assert_eq!(
            seen,
            [
                ("app.py", 0o100_644, &*"print(1)\n".repeat(100)),
                ("lib/", 0o40_755, ""),
                ("lib/deep/", 0o40_755, ""),
                ("lib/deep/run", 0o100_755, "#!/bin/sh\n"),
                ("lib/link", 0o120_777, "deep/run"),
            ]
        );
    }

    #[test]
    fn the_same_folder_gives_the_same_bytes() {
        assert_eq!(read(folder().path()).unwrap(), read(folder().path()).unwrap());
    }

    #[test]
    fn a_zip_file_is_sent_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let package = read(folder().path()).unwrap();
        let file = place.path().join("code.zip");
        fs::write(&file, &package).unwrap();
        assert_eq!(read(&file).unwrap(), package);
    }

    #[test]
    fn what_is_no_code_is_named() {
        let place = tempfile::tempdir().unwrap();
        let refused = |path: &Path| read(path).unwrap_err().line().to_owned();
        assert!(refused(place.path()).ends_with("has no files in it"));
        let file = place.path().join("app.py");
        assert!(refused(&file).contains("app.py: No such file"));
        fs::write(&file, "print(1)").unwrap();
        assert!(refused(&file).contains("app.py is neither a folder nor a zip file"));
        let huge = File::create(place.path().join("huge")).unwrap();
        huge.set_len(MOST_UNZIPPED).unwrap();
        assert!(refused(place.path()).contains("is over 250.00 MiB large"));
        fs::remove_file(&file).unwrap();
        fs::remove_file(place.path().join("huge")).unwrap();
        nix::unistd::mkfifo(&place.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refused(place.path()).contains("pipe: is no file, folder or link"));
    }
}
