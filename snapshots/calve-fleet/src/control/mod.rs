//! The protocol between the fleet and a worker: postcard messages over a SOCK_SEQPACKET socket,
//! with open files by SCM_RIGHTS.
//!
//! ```text
//!  fleet                                   worker
//!    │ Shell{version, shape} ───────────────►│ makes the shell
//!    │◄─────────────────────────────── Shell │ (its seccomp filter is in place)
//!    │ Boot{..}+fds  or  Thaw{..}+fds ──────►│ gives it content, runs it
//!    │◄───────────────────────────── Running │
//!    │◄──────────────────── Port{port} + fd  │ the guest connected to a port of the host
//!    │ Pause, Save, Resume, Stats ──────────►│
//!    │◄──── Paused, Saved + fds, Running, Stats
//!    │◄────────────────────────── Ended{end} │ the guest is over; the worker waits to be dropped
//!    │ Discard, or the socket's end ────────►│ exits
//! ```
//!
//! Commands may be sent ahead: a fleet in a hurry sends `Shell` and `Thaw` at once. One message is
//! one packet, so there is no framing; each is at most [`MAX_MESSAGE`] bytes and [`MAX_FDS`]
//! descriptors, whose order [`Attach`] fixes. Machine state is too large for a packet and travels
//! in a file.
//!
//! The fleet treats every byte from a worker as hostile, because a guest may have taken it over:
//! decoding is bounded by the packet, refuses leftovers, and text is made printable before it is
//! shown. The worker trusts the fleet but checks all the same.

mod files;
mod message;
mod packet;
mod socket;
#[cfg(test)]
mod tests;
mod text;

pub use files::Files;
pub use message::{
    Attach, Boot, Command, DiskSpec, End, Pages, Refusal, Report, Stage, Stats, Thaw,
};
pub use socket::{Received, Socket};
pub use text::{MAX_TEXT, printable};

use std::io;

use thiserror::Error;

/// Version of the protocol. Fleet and worker are installed together, so they must be equal.
pub const VERSION: u16 = 5;

/// Longest message in bytes: the longest kernel command line and generous room around it.
pub const MAX_MESSAGE: usize = 8 << 10;

/// Most descriptors in one message: what was decoded, memory in [16 layers](calve_vmm::memory::MAX_FILES),
/// a console's two, a listener, and 8 each of disks and streams. The kernel's own limit is 253 (SCM_MAX_FD).
pub const MAX_FDS: usize = 36;

/// Why a message cannot be sent or is none.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The socket failed.
    #[error("the control socket failed")]
    Io(#[from] io::Error),
    /// The other side is gone.
    #[error("the other side closed the control socket")]
    Closed,
    /// The other side does not read.
    #[error("the other side does not read its control socket")]
    Full,
    /// A message longer than [`MAX_MESSAGE`], or with more than [`MAX_FDS`] descriptors.
    #[error("a control message is over its bounds")]
    TooLong,
    /// Bytes that are no message.
    #[error("a control message cannot be decoded")]
    Decode(#[from] postcard::Error),
    /// A message with bytes left over.
    #[error("a control message has bytes left over")]
    Leftover,
    /// More or fewer descriptors than the message says.
    #[error("a control message came with {found} descriptors instead of {wanted}")]
    Descriptors {
        /// Descriptors that came.
        found: usize,
        /// Descriptors that the message speaks of.
        wanted: usize,
    },
    /// A message that must not come now.
    #[error("a control message came out of turn: {0}")]
    OutOfTurn(&'static str),
    /// Another version of the protocol.
    #[error(
        "worker and fleet are of different releases (control protocol {found} and {VERSION}): install them together"
    )]
    Version {
        /// The other side's.
        found: u16,
    },
}
