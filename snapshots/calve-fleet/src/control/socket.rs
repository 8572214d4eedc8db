//! One end of a control socket.
//!
//! SOCK_SEQPACKET keeps the boundaries of messages and says when the other side is gone (unix(7)).
//! Sending never blocks: a peer that does not read is an error, not a wait.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::packet::{self, Packet};

use super::{ControlError, MAX_FDS, MAX_MESSAGE};

/// One end of a control socket. Sends and receives through a shared reference, since each call is
/// one packet.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// A message and what came with it.
#[derive(Debug)]
pub struct Received<M> {
    /// The message.
    pub message: M,
    /// Its descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

impl Socket {
    /// Two connected ends, close-on-exec.
    ///
    /// # Errors
    ///
    /// When the process has too many open files.
    pub fn pair() -> io::Result<(Self, Self)> {
        let kind = SockType::SeqPacket;
        let (a, b) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    /// Takes an end that was inherited or received.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor, to hand it to a child.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Another handle on the same end.
    ///
    /// # Errors
    ///
    /// When the process has too many open files.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Sends a message with copies of `fds`.
    ///
    /// # Errors
    ///
    /// [`ControlError::Closed`] and [`ControlError::Full`] for a peer that is gone or stuck.
    pub fn send<M: Serialize>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ControlError> {
        let bytes = postcard::to_stdvec(message)?;
        if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
            return Err(ControlError::TooLong);
        }
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            let sent =
                sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&bytes)], rights, flags, None);
            return match sent {
                Ok(_) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EPIPE | Errno::ECONNRESET) => Err(ControlError::Closed),
                // ETOOMANYREFS: descriptors in flight that nobody has received (unix(7)).
                Err(Errno::EAGAIN | Errno::ETOOMANYREFS) => Err(ControlError::Full),
                Err(e) => Err(ControlError::Io(e.into())),
            };
        }
    }

    /// Receives a message, waiting for one if there is none. Every descriptor that comes is owned
    /// or closed, whatever the message is.
    ///
    /// # Errors
    ///
    /// [`ControlError::Closed`] once the peer is gone and everything it sent was received.
    pub fn receive<M: DeserializeOwned>(&self) -> Result<Received<M>, ControlError> {
        self.receive_with(MsgFlags::empty())?.ok_or(ControlError::Full)
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    ///
    /// As [`Socket::receive`].
    pub fn try_receive<M: DeserializeOwned>(&self) -> Result<Option<Received<M>>, ControlError> {
        self.receive_with(MsgFlags::MSG_DONTWAIT)
    }

    fn receive_with<M: DeserializeOwned>(
        &self,
        flags: MsgFlags,
    ) -> Result<Option<Received<M>>, ControlError> {
        let mut buffer = [0_u8; MAX_MESSAGE];
        let packet = loop {
            match packet::receive(self.0.as_fd(), &mut buffer, flags) {
                Ok(packet) => break packet,
                // The latter of a peer that has gone without reading everything: told once, and before what it has
                // sent (Linux net/unix/af_unix.c, `unix_release_sock`). Its last words say why it has gone.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(e) => return Err(ControlError::Io(e.into())),
            }
        };
        let Packet { length, cut, fds } = packet;
        if cut || fds.len() > MAX_FDS {
            return Err(ControlError::TooLong);
        }
        // An empty packet and the end of the stream look alike; no message is empty.
        if length == 0 {
            return Err(ControlError::Closed);
        }
        let (message, rest) = postcard::take_from_bytes(&buffer[..length])?;
        if rest.is_empty() {
            Ok(Some(Received { message, fds }))
        } else {
            Err(ControlError::Leftover)
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
