//! Guest RAM on disk: the `memory.N` files and their digest.
//!
//! A memory file is as long as the guest's RAM, its offsets are RAM offsets (the regions of the
//! [`MemoryLayout`] one after the other, without the hole below 4 GiB), and pages that are all zero
//! are holes in it. So it is mapped as it lies, one `mmap` per region.
//!
//! A snapshot that was made from another has that one's files, under the same names and as links to the same
//! bytes, and above them one of its own. Such an upper layer is as long as RAM, too; the manifest says what of
//! RAM it has (zeros included), and everything else in it is a hole.
//!
//! # The digest
//!
//! Which pages a file system stores is its own affair, so the digest is not taken over the file's
//! bytes. The file is cut into windows of [`WINDOW`] bytes; in each, the maximal runs of pages that are
//! not all zero are taken in order, and the digest is SHA-256 over
//!
//! ```text
//! record    offset u64le · length u64le · bytes          one per run
//! ```
//!
//! No run crosses a window, so one pass with one small buffer computes it, whatever the size of RAM.
//! This sequence of records is also how a layer travels (media type
//! [`Memory`](crate::manifest::MediaType::Memory)): the digest is the digest of the blob on the wire.

mod layout;
mod runs;
mod source;
#[cfg(test)]
mod tests;

pub use layout::{LayoutError, MAX_RAM, MAX_REGIONS, MemoryLayout, MemoryRegion};
pub use runs::Summary;
pub(crate) use runs::{Fault, summarise, write};
pub use source::{FileMemory, MemorySource};

/// What a snapshot calls its memory layer of that number, from 0.
pub(crate) fn file_name(layer: usize) -> String {
    format!("memory.{layer}")
}

/// Granularity of zero detection, in bytes: the x86 base page.
pub const PAGE: usize = 4096;
/// Runs do not cross multiples of this many bytes of file offset.
pub const WINDOW: usize = 256 << 10;
/// Bytes of a record's header in the travelling form.
pub const RECORD_HEADER: usize = 16;

// The digest of every snapshot depends on these two.
const _: () = assert!(PAGE == 4096 && WINDOW == 262_144 && WINDOW.is_multiple_of(PAGE));
