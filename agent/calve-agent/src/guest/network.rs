//! The loopback interface, on which the Runtime API listens (netdevice(7)).

#![allow(unsafe_code)]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Up and running.
#[allow(clippy::cast_possible_truncation)] // 0x41
const FLAGS: libc::c_short = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;

/// Brings `lo` up. The kernel gives it 127.0.0.1 by itself (`net/ipv4/devinet.c`, `inetdev_event`).
pub(super) fn bring_up_loopback() -> io::Result<()> {
    // Any AF_INET socket takes interface ioctls.
    let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: all fields of `ifreq` are integers, bytes and a union of such, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = (*from).cast_signed();
    }
    request.ifr_ifru.ifru_flags = FLAGS;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which `request` is, and writes nothing.
    let done =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
