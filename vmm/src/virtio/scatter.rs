//! Pieces of guest memory as one byte string, for vectored system calls without a bounce buffer.
//!
//! A [`Scatter`] is filled with buffers that the driver named, each checked against guest memory
//! when it is pushed. From then on it is a plain byte string: its front can be read, written or
//! cut off, and the whole be handed to the kernel, wherever one descriptor ends and the next
//! begins. It keeps its memory for reuse, so that a request in steady state allocates nothing.
//!
//! This is the one module of the devices with `unsafe`: the kernel and the guest both write to
//! these pieces at any time, so there never is a reference to them, only volatile copies and
//! system calls.
#![allow(unsafe_code)]

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileSlice};

use crate::memory::GuestMemory;

/// Most pieces the kernel takes in one call (`UIO_MAXIOV`).
const KERNEL_MAX: usize = 1024;

/// A buffer that does not lie in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfMemory;

/// A byte string made of pieces of guest memory.
pub(super) struct Scatter {
    /// Keeps the mappings alive that the pieces point into.
    memory: Arc<GuestMemory>,
    /// Invariant: each piece was made by [`Scatter::push`] from a slice of `memory`, and has only
    /// been shortened since.
    pieces: Vec<libc::iovec>,
    /// Pieces before this one have been cut off.
    first: usize,
    /// Bytes in all pieces from `first` on.
    len: usize,
}

// SAFETY: the pointers lead into the mappings of `memory`, which every thread may access, and which
// live as long as this value. Moving it to another thread moves nothing they point to.
unsafe impl Send for Scatter {}

impl Scatter {
    /// An empty string with room for `pieces` pieces.
    pub(super) fn new(memory: Arc<GuestMemory>, pieces: usize) -> Self {
        Self { memory, pieces: Vec::with_capacity(pieces), first: 0, len: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.first = 0;
        self.len = 0;
    }

    /// Length in bytes.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Appends a buffer of the guest.
    pub(super) fn push(&mut self, address: GuestAddress, len: usize) -> Result<(), OutOfMemory> {
        for slice in GuestMemoryBackend::get_slices(&*self.memory, address, len) {
            let slice = slice.map_err(|_| OutOfMemory)?;
            let iov_base = slice.ptr_guard_mut().as_ptr().cast();
            self.pieces.push(libc::iovec { iov_base, iov_len: slice.len() });
            self.len += slice.len();
        }
        Ok(())
    }

    /// Keeps the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        let mut excess = self.len.saturating_sub(len);
        self.len -= excess;
        while excess > 0 {
            let Some(last) = self.pieces.last_mut() else { return };
            let cut = excess.min(last.iov_len);
            last.iov_len -= cut;
            excess -= cut;
            if last.iov_len == 0 {
                self.pieces.pop();
            }
        }
    }

    /// Cuts the first `count` bytes off.
    pub(super) fn advance(&mut self, count: usize) {
        self.consume(count, |_, _| {});
    }

    /// Moves bytes from the front into `buffer`; returns how many there were.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        self.consume(buffer.len(), |piece, at| {
            piece.copy_to(&mut buffer[at..]);
        })
    }

    /// Moves `bytes` over the front; returns how many fitted.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        self.consume(bytes.len(), |piece, at| {
            piece.copy_from(&bytes[at..at + piece.len()]);
        })
    }

    /// Cuts up to `count` bytes off the front, showing each part with its offset.
    fn consume(&mut self, count: usize, mut show: impl FnMut(VolatileSlice<'_>, usize)) -> usize {
        let total = count.min(self.len);
        let mut done = 0;
        while done < total {
            let piece = &mut self.pieces[self.first];
            let part = piece.iov_len.min(total - done);
            // SAFETY: by the invariant of `pieces`, `part` bytes from here on lie in a mapping
            // that `self.memory` keeps; the slice does not outlive the call it is made for.
            show(unsafe { VolatileSlice::new(piece.iov_base.cast(), part) }, done);
            piece.iov_base = piece.iov_base.wrapping_byte_add(part);
            piece.iov_len -= part;
            done += part;
            if piece.iov_len == 0 {
                self.first += 1;
            }
        }
        self.len -= total;
        total
    }

    /// Fills all of it from the file at `offset`, cutting off what was filled.
    pub(super) fn fill_from(&mut self, file: &File, offset: u64) -> io::Result<()> {
        self.transfer(offset, |pieces, count, offset| {
            // SAFETY: `pieces` are `count` live iovecs over mapped guest memory (the invariant),
            // to which the kernel may write at any time: nobody holds a reference to it.
            unsafe { libc::preadv64(file.as_raw_fd(), pieces, count, offset) }
        })
    }

    /// Writes all of it to the file at `offset`, cutting off what was written.
    pub(super) fn drain_to(&mut self, file: &File, offset: u64) -> io::Result<()> {
        self.transfer(offset, |pieces, count, offset| {
            // SAFETY: as above; the kernel only reads.
            unsafe { libc::pwritev64(file.as_raw_fd(), pieces, count, offset) }
        })
    }

    fn transfer(
        &mut self,
        offset: u64,
        call: impl Fn(*const libc::iovec, libc::c_int, i64) -> isize,
    ) -> io::Result<()> {
        let mut offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        while self.len > 0 {
            let (pieces, count) = self.kernel_view();
            #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // ≤ KERNEL_MAX
            let done = call(pieces, count as libc::c_int, offset);
            let Ok(done) = usize::try_from(done) else {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            };
            if done == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.advance(done);
            #[allow(clippy::cast_possible_wrap)] // a transfer is below 2 GiB
            let done = done as i64;
            offset = offset.checked_add(done).ok_or(io::ErrorKind::InvalidInput)?;
        }
        Ok(())
    }

    /// Receives what the stream has, up to the whole length, without blocking and without cutting
    /// anything off.
    pub(super) fn receive(&self, stream: &UnixStream) -> io::Result<Received> {
        let mut message = self.message();
        // SAFETY: `message` names live iovecs over mapped guest memory (the invariant) and no
        // other buffer; both outlive the call.
        let count = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, FLAGS) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(Received { count, ancillary: message.msg_flags & libc::MSG_CTRUNC != 0 })
    }

    /// Sends as much as the stream takes, without blocking; cuts off what was sent.
    pub(super) fn send(&mut self, stream: &UnixStream) -> io::Result<usize> {
        let message = self.message();
        // SAFETY: as above; the kernel only reads.
        let count = unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, FLAGS) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.advance(count);
        Ok(count)
    }

    fn message(&self) -> libc::msghdr {
        let (pieces, count) = self.kernel_view();
        // SAFETY: a msghdr is integers and pointers, for all of which zero is a value; the kernel
        // takes null pointers of length zero for "none".
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = pieces.cast_mut();
        message.msg_iovlen = count as _;
        message
    }

    fn kernel_view(&self) -> (*const libc::iovec, usize) {
        let pieces = &self.pieces[self.first..];
        (pieces.as_ptr(), pieces.len().min(KERNEL_MAX))
    }
}

/// Never block the device thread, never raise SIGPIPE.
const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Outcome of [`Scatter::receive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Bytes that came; zero at the end of the stream.
    pub(super) count: usize,
    /// The sender attached descriptors, which were dropped. They end a receive early, so there
    /// may be more to read although less came than was asked for.
    pub(super) ancillary: bool,
}
