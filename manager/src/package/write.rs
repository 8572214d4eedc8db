//! Writes a plan down.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zip::ZipArchive;

use super::error::{PackageError, damaged, in_path, shown};
use super::links::{self, MOST_WAY, Ways};
use super::tree::{Kind, Tree};
use super::{Limits, Unpacked};

/// Bytes that are inflated at a time.
const CHUNK: usize = 64 << 10;

/// Writes everything in `tree` into `folder`.
pub(super) fn write<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    tree: &Tree,
    folder: &Path,
    limits: &Limits,
) -> Result<Unpacked, PackageError> {
    prepare(folder).map_err(in_path(folder))?;
    let mut inflater = Inflater { archive, chunk: vec![0; CHUNK], limit: limits.bytes, total: 0 };
    let (mut files, mut ways) = (0, Ways::new());
    for (id, kind) in tree.nodes() {
        let name = tree.path(id);
        let path = folder.join(OsStr::from_bytes(&name));
        match kind {
            Kind::Folder => {
                make_folder(&path).map_err(in_path(&path))?;
                continue;
            }
            Kind::File { entry, executable } => {
                let mut file = create(&path).map_err(in_path(&path))?;
                inflater
                    .inflate(entry, &name, |chunk| file.write_all(chunk).map_err(in_path(&path)))?;
                // By the open file, and despite the umask.
                let mode = if executable { 0o755 } else { 0o644 };
                file.set_permissions(Permissions::from_mode(mode)).map_err(in_path(&path))?;
            }
            Kind::Link { entry } => {
                let mut way = Vec::new();
                inflater.inflate(entry, &name, |chunk| {
                    way.extend_from_slice(chunk);
                    let fits = way.len() as u64 <= MOST_WAY;
                    if fits { Ok(()) } else { Err(PackageError::Link(shown(&name))) }
                })?;
                ways.insert(id, way);
            }
        }
        files += 1;
    }
    let bytes = inflater.total;
    links::link_all(tree, &ways, folder)?;
    Ok(Unpacked { files, bytes })
}

/// Makes `folder`, or finds it empty.
fn prepare(folder: &Path) -> io::Result<()> {
    match make_folder(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_dir(folder)?.next().is_some() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Ok(())
        }
        made => made,
    }
}

/// Makes a folder where there is nothing.
fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)
}

/// Makes a file where there is nothing, not even a symlink.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Reads entries, and counts.
struct Inflater<'a, R> {
    archive: &'a mut ZipArchive<R>,
    chunk: Vec<u8>,
    limit: u64,
    total: u64,
}

impl<R: Read + Seek> Inflater<'_, R> {
    /// Reads an entry to its end, which is where its checksum is compared. What it says about its length counts for
    /// nothing until then.
    fn inflate(
        &mut self,
        entry: usize,
        name: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), PackageError>,
    ) -> Result<(), PackageError> {
        let mut source = self.archive.by_index(entry).map_err(|error| damaged(name, error))?;
        let before = self.total;
        loop {
            let read = source.read(&mut self.chunk).map_err(|error| damaged(name, error))?;
            if read == 0 {
                break;
            }
            self.total += read as u64;
            if self.total > self.limit {
                return Err(PackageError::TooLarge(self.limit));
            }
            sink(&self.chunk[..read])?;
        }
        if self.total - before == source.size() {
            return Ok(());
        }
        Err(damaged(name, "its length is not what it says"))
    }
}
