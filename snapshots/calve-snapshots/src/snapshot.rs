//! A snapshot held open: the handles that were verified, for mapping and for passing to a worker.

use std::fs::File;

use crate::{Digest, Manifest, State, Workset};

mod open;

pub(crate) use open::{Found, open};

/// How much of a snapshot is read back before it is trusted.
///
/// At every level the manifest is checked against the id, the state against the manifest, and every
/// file for its kind and exact length. The levels differ in memory and images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// All bytes are digested, every time.
    #[default]
    Full,
    /// Bytes are digested unless a stamp says that this very file, unchanged since, was found right
    /// before. Leaves stamps. For opening one snapshot again and again.
    Stamped,
    /// Nothing more.
    Structure,
}

/// A snapshot that can be thawed any number of times.
///
/// Everything is open and was verified through the handles held here; no path is looked up again.
#[derive(Debug)]
pub struct Snapshot {
    name: String,
    id: Digest,
    manifest: Manifest,
    state: State,
    state_file: File,
    memory: Vec<File>,
    workset: Workset,
    kernel: File,
    root: File,
    code: Option<File>,
}

impl Snapshot {
    /// The name it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id: the digest of its manifest.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// What it is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The machine's state, decoded into sections.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The file it was decoded from.
    pub fn state_file(&self) -> &File {
        &self.state_file
    }

    /// The layers of the machine's memory, read-only and lowest first; `manifest().layers` says what each has,
    /// `manifest().machine.memory` what lies where.
    pub fn memory(&self) -> &[File] {
        &self.memory
    }

    /// The pages that clones touch before their first answer; none where that is not known.
    pub fn workset(&self) -> &Workset {
        &self.workset
    }

    /// The kernel it was booted from.
    pub fn kernel(&self) -> &File {
        &self.kernel
    }

    /// The root file system.
    pub fn root(&self) -> &File {
        &self.root
    }

    /// The function's code.
    pub fn code(&self) -> Option<&File> {
        self.code.as_ref()
    }
}
