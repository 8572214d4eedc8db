//! Closing what was inherited.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;

/// Closes every descriptor from `first` on (close_range(2), Linux 5.9).
pub(super) fn close_from(first: libc::c_uint) -> nix::Result<()> {
    // SAFETY: the caller has opened nothing yet, so no Rust object owns a descriptor that is
    // closed here; the call touches no memory.
    let result = unsafe { libc::close_range(first, libc::c_uint::MAX, 0) };
    Errno::result(result).map(drop)
}
