//! The guest's vsock: one listening socket, and one greeting to the host (vsock(7)).
//!
//! A listening socket survives a snapshot; the transport reset that a thaw brings ends connected streams only. So
//! nothing has to be opened after a thaw.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use calve_proto::limits::{CONTROL_PORT, HOST_CID, UP_PORT};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept4, bind, connect, getpeername,
    listen as listen_on, socket,
};

/// A control stream and a second one that is to be refused: nobody else connects.
const BACKLOG: i32 = 4;

fn stream_socket(flags: SockFlag) -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Vsock, SockType::Stream, flags | SockFlag::SOCK_CLOEXEC, None)?)
}

/// Listens on the control port.
pub(super) fn listen() -> io::Result<OwnedFd> {
    let socket = stream_socket(SockFlag::SOCK_NONBLOCK)?;
    bind(socket.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, CONTROL_PORT))?;
    listen_on(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket)
}

/// Connects to the host's port for this purpose and hangs up: "I am up".
pub(super) fn say_up() -> io::Result<()> {
    let socket = stream_socket(SockFlag::empty())?;
    Ok(connect(socket.as_raw_fd(), &VsockAddr::new(HOST_CID, UP_PORT))?)
}

/// Takes one waiting connection of the host. Anyone else (a process of the guest over the vsock loopback) is hung up on.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = match accept4(listener.as_raw_fd(), flags) {
        Ok(fd) => own(fd),
        Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let peer: VsockAddr = getpeername(stream.as_raw_fd())?;
    Ok((peer.cid() == HOST_CID).then_some(stream))
}

/// nix 0.31 returns accepted sockets as bare numbers.
#[allow(unsafe_code)]
fn own(fd: i32) -> OwnedFd {
    // SAFETY: accept4 has just returned this descriptor to us and to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
