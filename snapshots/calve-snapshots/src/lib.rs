//! The snapshot format and the content-addressed store that keeps snapshots.
//!
//! A snapshot is a directory of three files or four, written once and never changed:
//!
//! | file | module | what it holds |
//! | --- | --- | --- |
//! | `manifest.json` | [`manifest`] | what is needed to thaw, and the digest of everything else; its own SHA-256 is the snapshot's id |
//! | `state` | [`state`] | machine state: opaque, named, versioned sections |
//! | `memory.0` | [`memory`] | guest RAM: sparse, page-aligned, mapped as it lies |
//! | `workset` | [`workset`] | advice: the pages that clones touch before their first answer |
//!
//! Kernel, root and code image are blobs of the store, shared by the snapshots that name their digest.
//!
//! # Building
//!
//! ```no_run
//! # use calve_snapshots::*;
//! # fn build(state: State, memory: &dyn MemorySource, recipe: Recipe) -> Result<(), Error> {
//! let store = Store::open("/var/lib/calve")?;
//! let mut draft = store.draft("resize")?; // `NameBusy` while another build has the name
//! draft.add_image(Role::Kernel, "vmlinux".as_ref())?;
//! draft.add_image(Role::Root, "root.erofs".as_ref())?;
//! draft.add_image(Role::Code, "code.erofs".as_ref())?;
//! // ... boot, warm, freeze ...
//! draft.write_state(&state)?;
//! draft.write_memory(memory, &mut |done, total| eprintln!("{done} of {total}"))?;
//! let id = draft.commit(recipe)?; // dropped before this line, a draft leaves nothing behind
//! # let _ = id; Ok(()) }
//! ```
//!
//! # Opening
//!
//! ```no_run
//! # use calve_snapshots::*;
//! # fn thaw(host: &Host) -> Result<(), Error> {
//! let store = Store::open("/var/lib/calve")?;
//! let snapshot = store.snapshot("resize", host, Verify::Stamped)?;
//! let ram = snapshot.memory(); // the very handles that were verified: map them, pass them on
//! let layout = &snapshot.manifest().machine.memory;
//! for section in snapshot.state().sections() { /* hand to the machine */ }
//! # let _ = (ram, layout); Ok(()) }
//! ```
//!
//! A [`Snapshot`] is a set of open files: removing or rebuilding the name does not disturb it.
//! [`Store::list`], [`Store::inspect`], [`Store::verify`] and [`Store::remove`] do what their names say.

mod digest;
mod error;
mod host;
mod inspect;
pub mod manifest;
pub mod memory;
mod signature;
mod snapshot;
pub mod state;
mod store;
#[cfg(test)]
mod testing;
pub mod workset;

pub use digest::Digest;
pub use error::{Damage, Error};
pub use host::{Architecture, Host};
pub use inspect::Inspection;
pub use manifest::{Cpu, Extent, Function, Manifest, Recipe};
pub use memory::{FileMemory, MemoryLayout, MemoryRegion, MemorySource};
pub use signature::{KeyError, MalformedSignature, SigningKey, TrustedKeys};
pub use snapshot::{Snapshot, Verify};
pub use state::{Section, State, StateError};
pub use store::{Draft, Entry, LayerFile, LearnedError, Role, Store};
pub use workset::{PageRun, Workset};

/// Told how far long work has come: bytes done, bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);
