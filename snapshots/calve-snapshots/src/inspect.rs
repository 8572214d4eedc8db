//! What `calve snapshot inspect` shows.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use serde::Serialize;

use crate::{Digest, Manifest, Snapshot};

/// A snapshot in figures. Serialises as one object, the manifest in it as it is on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The name it was found by.
    pub name: String,
    /// Its id.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its files, and the images it was booted from.
    pub files: Vec<FileSize>,
    /// The sections of its machine state.
    pub sections: Vec<SectionSize>,
}

/// How large a file is.
#[derive(Clone, Debug, Serialize)]
pub struct FileSize {
    /// What it is: `state`, `memory.0` and so on, `kernel`, `root` or `code`.
    pub name: String,
    /// Length in bytes, holes included.
    pub length: u64,
    /// Bytes it takes on disk.
    pub on_disk: u64,
    /// Whether other snapshots may use the same file.
    pub shared: bool,
}

/// How large a section of machine state is.
#[derive(Clone, Debug, Serialize)]
pub struct SectionSize {
    /// The component.
    pub name: String,
    /// Version of its encoding.
    pub version: u16,
    /// Length in bytes.
    pub length: usize,
}

impl Inspection {
    pub(crate) fn of(snapshot: &Snapshot) -> io::Result<Self> {
        let mut files = vec![
            size("state", snapshot.state_file(), false)?,
            size("kernel", snapshot.kernel(), true)?,
            size("root", snapshot.root(), true)?,
        ];
        for (layer, file) in snapshot.manifest().layers.iter().zip(snapshot.memory()) {
            // A layer that others have, too, is a link to the same bytes.
            files.push(size(&layer.file, file, file.metadata()?.nlink() > 1)?);
        }
        if let Some(code) = snapshot.code() {
            files.push(size("code", code, true)?);
        }
        let sections = snapshot.state().sections().iter().map(|section| SectionSize {
            name: section.name.clone(),
            version: section.version,
            length: section.bytes.len(),
        });
        Ok(Self {
            name: snapshot.name().into(),
            id: snapshot.id(),
            manifest: snapshot.manifest().clone(),
            files,
            sections: sections.collect(),
        })
    }
}

fn size(name: &str, file: &File, shared: bool) -> io::Result<FileSize> {
    /// Unit of `st_blocks`, whatever the file system's block (stat(2)).
    const SECTOR: u64 = 512;
    let metadata = file.metadata()?;
    let on_disk = metadata.blocks() * SECTOR;
    Ok(FileSize { name: name.to_owned(), length: metadata.len(), on_disk, shared })
}
