//! Bytes from the guest that the host's socket would not take yet.
//!
//! A ring of [`WINDOW`] bytes, which credit keeps from overflowing. It is allocated at the first
//! need, as most connections never have one, and lives as long as its connection.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{MsgFlags, UnixAddr, sendmsg};

use super::super::scatter::Scatter;
use super::credit::WINDOW;

const SIZE: usize = WINDOW as usize;

/// A bounded byte queue.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Empty or [`SIZE`] long.
    ring: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Backlog {
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops everything; returns how many bytes that was.
    pub(super) fn clear(&mut self) -> u32 {
        u32::try_from(std::mem::take(&mut self.len)).unwrap_or(WINDOW)
    }

    /// Takes all of `bytes`; false where it does not fit, which credit rules out.
    pub(super) fn push(&mut self, bytes: &mut Scatter) -> bool {
        if bytes.len() > SIZE - self.len {
            return false;
        }
        if self.ring.is_empty() {
            self.ring = vec![0; SIZE].into_boxed_slice();
        }
        while bytes.len() > 0 {
            let end = (self.start + self.len) % SIZE;
            let contiguous = (SIZE - self.len).min(SIZE - end);
            self.len += bytes.read(&mut self.ring[end..end + contiguous]);
        }
        true
    }

    /// Sends what the stream takes without blocking; returns how much that was.
    pub(super) fn send(&mut self, stream: &UnixStream) -> io::Result<usize> {
        let first = &self.ring[self.start..SIZE.min(self.start + self.len)];
        let second = &self.ring[..self.len - first.len()];
        let parts = [IoSlice::new(first), IoSlice::new(second)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = sendmsg::<UnixAddr>(stream.as_raw_fd(), &parts, &[], flags, None)?;
        self.start = (self.start + sent) % SIZE;
        self.len -= sent;
        Ok(sent)
    }
}
