//! `manifest.json`: what a snapshot is, read before anything else of it is opened.
//!
//! The SHA-256 of the file's bytes is the snapshot's id and the name of its directory. Every other
//! file is named here with its digest, so the id vouches for all of them. The name a user gave is not
//! part of it.
//!
//! Each file has the media type and the digest under which it travels as a blob of an OCI artifact
//! (OCI image spec 1.1, "Guidance for artifact usage"), the manifest itself as the config blob.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Architecture, Digest, MemoryLayout};

mod check;
mod extents;
#[cfg(test)]
mod tests;

pub use check::ManifestError;
pub(crate) use check::identify;
pub use extents::{Extent, MAX_EXTENTS};

/// The format version this crate reads and writes.
pub const MANIFEST_VERSION: u32 = 2;

/// Most memory layers.
pub const MAX_LAYERS: usize = 16;
/// Largest `manifest.json`, in bytes.
pub const MAX_MANIFEST_LEN: usize = 1 << 20;

/// What kind of blob a digest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaType {
    /// `manifest.json`.
    #[serde(rename = "application/vnd.calve.snapshot.manifest.v1+json")]
    Manifest,
    /// The `state` file.
    #[serde(rename = "application/vnd.calve.snapshot.state.v1")]
    State,
    /// A memory layer in its travelling form ([`memory`](crate::memory)).
    #[serde(rename = "application/vnd.calve.snapshot.memory.v1")]
    Memory,
    /// The `workset` file.
    #[serde(rename = "application/vnd.calve.snapshot.workset.v1")]
    Workset,
    /// A Linux kernel, vmlinux or bzImage.
    #[serde(rename = "application/vnd.calve.image.kernel.v1")]
    Kernel,
    /// A root file system.
    #[serde(rename = "application/vnd.calve.image.root.v1")]
    Root,
    /// A function's code.
    #[serde(rename = "application/vnd.calve.image.code.v1")]
    Code,
}

/// A file by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// What it is.
    pub media_type: MediaType,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// A memory file: the lowest has all of memory, those above it what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Its name in the snapshot's directory.
    pub file: String,
    /// Always [`MediaType::Memory`].
    pub media_type: MediaType,
    /// Digest over its runs, not over its bytes: see [`memory`](crate::memory).
    pub digest: Digest,
    /// Its length in bytes, holes included.
    pub length: u64,
    /// Pages that are not all zero.
    pub pages: u64,
    /// Runs they form.
    pub runs: u64,
    /// What of memory it has, in place of the layers below. Of the lowest there is no need to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extents: Option<Vec<Extent>>,
}

/// The processor that the frozen guest has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// Vendor string, such as `AuthenticAMD`.
    pub vendor: String,
    /// Features the guest may have started to use; every one must be there when it is thawed.
    pub features: BTreeSet<String>,
}

/// The machine's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Number of vCPUs, at least one.
    pub vcpus: u8,
    /// Number of disks: the root, and if there are two, the function's code.
    pub disks: u8,
    /// RAM in MiB: the size of the layout.
    pub memory_mib: u32,
    /// Where RAM lies.
    pub memory: MemoryLayout,
    /// The kernel's command line, for a cold boot of the same machine.
    pub cmdline: String,
}

/// The blobs that the machine was booted from, kept under `images/` in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// The kernel.
    pub kernel: Blob,
    /// The root file system.
    pub root: Blob,
    /// The function's code. A machine that has a disk for it and no code is a runtime that functions stand on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Blob>,
}

impl Images {
    /// Kernel, root and, where there is one, code.
    pub fn iter(&self) -> impl Iterator<Item = &Blob> {
        [&self.kernel, &self.root].into_iter().chain(&self.code)
    }
}

/// The function that was warmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// Language runtime, such as `python3.11`.
    pub runtime: String,
    /// What the runtime calls, such as `app.handler`.
    pub handler: String,
    /// Deadline of one call, in milliseconds.
    pub timeout_ms: u64,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl Manifest {
    /// Whether this is a runtime without a function, for functions to stand on.
    pub fn is_runtime(&self) -> bool {
        self.machine.disks == 2 && self.images.code.is_none()
    }
}

/// What only the builder knows; the [`Draft`](crate::Draft) adds the rest of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The processor that the guest has seen.
    pub cpu: Cpu,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// Number of disks.
    pub disks: u8,
    /// The kernel's command line.
    pub cmdline: String,
    /// The function that was warmed.
    pub function: Function,
    /// Figures of the build by name, unit in the name (`boot_us`). Informative: nothing depends on them.
    pub stats: BTreeMap<String, u64>,
}

/// The contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format_version: u32,
    /// Architecture of the guest.
    pub architecture: Architecture,
    /// When the snapshot was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The processor it needs.
    pub cpu: Cpu,
    /// The machine's shape.
    pub machine: Machine,
    /// What it was booted from.
    pub images: Images,
    /// The `state` file.
    pub state: Blob,
    /// Memory files, lowest first.
    pub layers: Vec<Layer>,
    /// The `workset` file, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workset: Option<Blob>,
    /// The function that was warmed.
    pub function: Function,
    /// Figures of the build.
    #[serde(default)]
    pub stats: BTreeMap<String, u64>,
}
