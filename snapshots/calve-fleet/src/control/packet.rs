//! Receiving one packet and owning every descriptor that comes with it, wanted or not.
//!
//! By hand because the library call gives up on a packet whose descriptors were cut, and with it
//! on those that have been installed: a peer could fill the file table with them.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::MsgFlags;

/// Most descriptors that the kernel passes in one packet (`SCM_MAX_FD`, unix(7)).
const MOST: usize = 253;

/// Room for [`MOST`] descriptors and their header, in words: the header must be aligned.
const ROOM: usize = (MOST * size_of::<RawFd>()).div_ceil(size_of::<u64>()) + 4;

/// What came.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) length: usize,
    /// Whether bytes or descriptors did not fit.
    pub(super) cut: bool,
    pub(super) fds: Vec<OwnedFd>,
}

/// Receives one packet into `buffer`; descriptors are close-on-exec.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: MsgFlags,
) -> nix::Result<Packet> {
    let mut room = [0_u64; ROOM];
    let mut bytes = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut header = libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: &raw mut bytes,
        msg_iovlen: 1,
        msg_control: room.as_mut_ptr().cast(),
        msg_controllen: size_of_val(&room),
        msg_flags: 0,
    };
    let flags = (flags | MsgFlags::MSG_CMSG_CLOEXEC).bits();
    // SAFETY: all pointers in `header` are to locals that outlive the call, with their true sizes.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(length).map_err(|_| Errno::last())?;
    let cut = header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    Ok(Packet { length, cut, fds: descriptors(&header) })
}

/// Takes ownership of every descriptor in a header that recvmsg has just filled in.
fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has set msg_controllen to the bytes of `msg_control` that it wrote.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or an aligned header inside the buffer.
    while let Some(part) = unsafe { next.as_ref() } {
        if (part.cmsg_level, part.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: computes the size of a header, no memory is touched.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = part.cmsg_len.saturating_sub(empty) / size_of::<RawFd>();
            // SAFETY: `part` is a header with its data behind it.
            let data = unsafe { libc::CMSG_DATA(part) }.cast::<RawFd>();
            for n in 0..count {
                // SAFETY: the kernel wrote `count` descriptors behind the header.
                let place = unsafe { data.add(n) };
                // SAFETY: one of them lies there, possibly unaligned.
                let fd = unsafe { place.read_unaligned() };
                // SAFETY: it has just been installed for us, and nobody else knows of it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR; `part` came from this header.
        next = unsafe { libc::CMSG_NXTHDR(header, part) };
    }
    fds
}
