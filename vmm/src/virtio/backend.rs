//! What the host puts behind a device: a disk image, or the host's side of the vsock.
//!
//! Everything here is opened by the caller, before the jail closes; a device never opens a path.
//! [`PathPorts`] is the one exception, for callers that run without a jail.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::device::Kind;

/// The host's half of one device.
#[derive(Debug)]
pub enum Backend {
    /// Behind a virtio-block device.
    Block(Disk),
    /// Behind a virtio-vsock device.
    Vsock(VsockHost),
    /// Behind a memory balloon: the host's memory itself.
    Balloon,
}

impl Backend {
    /// The kind of device this can stand behind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Block(_) => Kind::Block,
            Self::Vsock(_) => Kind::Vsock,
            Self::Balloon => Kind::Balloon,
        }
    }
}

/// Whether the guest may write to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes are refused (`VIRTIO_BLK_F_RO`).
    ReadOnly,
    /// Reads, writes and flushes.
    ReadWrite,
}

/// A disk image.
#[derive(Debug)]
pub struct Disk {
    /// A regular file or a block device, a whole number of 512-byte sectors long.
    pub file: File,
    /// What the guest may do with it. The file must have been opened accordingly.
    pub access: Access,
    /// Serial number shown to the guest; cut after 20 bytes (VIRTIO 1.3, §5.2.6.1).
    pub id: String,
    /// Bytes that the disk has at least, as the guest sees it; what the file lacks of them reads as zeros. So
    /// disks of the same machine can differ in length, one frozen with it and another thawed with it. For a
    /// disk that the guest may write to, 0.
    pub room: u64,
}

/// The host's side of a vsock device.
#[derive(Debug)]
pub struct VsockHost {
    /// The guest's context id; 0 to 2 are reserved (VIRTIO 1.3, §5.10.4).
    pub cid: u32,
    /// Where host programs ask for a guest port with `CONNECT <port>\n`. Made non-blocking.
    pub listener: Option<UnixListener>,
    /// Streams that become connections to a guest port as soon as the device runs. Nothing is
    /// read or written on them but the two programs' own bytes.
    pub streams: Vec<(u32, UnixStream)>,
    /// Who answers when the guest connects to a port of the host.
    pub host_ports: Box<dyn HostPorts>,
}

impl VsockHost {
    /// A vsock that nobody on the host speaks to: no listener, every host port refused.
    #[must_use]
    pub fn unconnected(cid: u32) -> Self {
        Self { cid, listener: None, streams: Vec::new(), host_ports: Box::new(NoPorts) }
    }
}

/// Ports of the host that the guest may connect to.
pub trait HostPorts: Send + std::fmt::Debug {
    /// Connects to whoever listens at `port`. It runs on the device thread and must not block.
    ///
    /// # Errors
    ///
    /// The guest sees any error as a refused connection.
    fn connect(&mut self, port: u32) -> io::Result<UnixStream>;
}

/// Refuses every port.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPorts;

impl HostPorts for NoPorts {
    fn connect(&mut self, _port: u32) -> io::Result<UnixStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// Port P of the host is the Unix socket at `<base>_P`, the convention known from Firecracker.
#[derive(Clone, Debug)]
pub struct PathPorts {
    /// What the port number is appended to.
    pub base: PathBuf,
}

impl HostPorts for PathPorts {
    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        let mut path = self.base.clone().into_os_string();
        path.push(format!("_{port}"));
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        // Non-blocking: a listener whose backlog is full refuses instead of stalling every device.
        connect(fd.as_raw_fd(), &UnixAddr::new(path.as_os_str())?)?;
        Ok(UnixStream::from(fd))
    }
}
