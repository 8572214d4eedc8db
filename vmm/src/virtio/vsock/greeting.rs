//! The line a host program sends to reach a guest port: `CONNECT <port>\n`.
//!
//! The line is peeked at and then read to its last byte, so that whatever the program wrote right
//! behind it stays in the socket until the guest has accepted.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

/// Longest line, `CONNECT 4294967295\n`, and some room.
const LINE_MAX: usize = 32;

/// What a program has said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Not a whole line yet.
    Partial,
    /// It wants this port; the line is `len` bytes long.
    Connect { port: u32, len: usize },
    /// Something else.
    Invalid,
}

/// Reads the line off a stream, where it is there.
pub(super) fn read(stream: &UnixStream) -> io::Result<Line> {
    let mut buffer = [0; LINE_MAX];
    let flags = MsgFlags::MSG_DONTWAIT;
    let peeked = match recv(stream.as_raw_fd(), &mut buffer, flags | MsgFlags::MSG_PEEK) {
        Ok(0) => return Ok(Line::Invalid), // it closed
        Ok(peeked) => peeked,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Line::Partial),
        Err(error) => return Err(error.into()),
    };
    let line = parse(&buffer[..peeked]);
    if let Line::Connect { len, .. } = line {
        recv(stream.as_raw_fd(), &mut buffer[..len], flags)?;
    }
    Ok(line)
}

/// Takes the beginning of a stream apart.
pub(super) fn parse(bytes: &[u8]) -> Line {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() < LINE_MAX { Line::Partial } else { Line::Invalid };
    };
    let port = bytes[..end].strip_prefix(b"CONNECT ").and_then(|port| str::from_utf8(port).ok());
    match port.and_then(|port| port.trim().parse().ok()) {
        Some(port) => Line::Connect { port, len: end + 1 },
        None => Line::Invalid,
    }
}

/// Tells the program that the guest accepted, with the host's port of the connection.
pub(super) fn accept(stream: &UnixStream, host_port: u32) -> io::Result<()> {
    let line = format!("OK {host_port}\n");
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    // Nothing else has been written to this socket, so its buffer takes the line whole.
    match send(stream.as_raw_fd(), line.as_bytes(), flags)? {
        sent if sent == line.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}
