//! The header of a vsock packet (VIRTIO 1.3, §5.10.6) and its constants.
//!
//! `virtio_vsock` parses packets whose payload is one buffer. Guests may send theirs in pieces
//! (Linux does for large or zero-copy sends), and a packet here goes between guest memory and a
//! socket in one vectored call, so the payload is a `Scatter` and only the header is taken apart.

/// CID of the host (§5.10.4).
pub(super) const HOST_CID: u64 = 2;
/// Largest reserved CID.
pub(super) const RESERVED_CID: u32 = 2;
/// `VIRTIO_VSOCK_TYPE_STREAM`.
pub(super) const TYPE_STREAM: u16 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE`: the sender of the hint will receive no more.
pub(super) const RECEIVE: u32 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_F_SEND`: the sender of the hint will send no more.
pub(super) const SEND: u32 = 2;
/// Size of a header in bytes.
pub(super) const HEADER: usize = 44;

/// Operations (`VIRTIO_VSOCK_OP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Op {
    Request = 1,
    Response = 2,
    Rst = 3,
    Shutdown = 4,
    Rw = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

impl TryFrom<u16> for Op {
    type Error = u16;

    fn try_from(value: u16) -> Result<Self, u16> {
        Ok(match value {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Rst,
            4 => Self::Shutdown,
            5 => Self::Rw,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            unknown => return Err(unknown),
        })
    }
}

/// A connection's name: its ports on both sides. CIDs are always the guest's and the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

/// A packet header, in the order of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    /// Bytes of payload.
    pub(super) len: u32,
    pub(super) kind: u16,
    /// Any value may come from the guest; see [`Op`].
    pub(super) op: u16,
    pub(super) flags: u32,
    /// The sender's receive buffer for this connection, in bytes.
    pub(super) buf_alloc: u32,
    /// Bytes the sender has taken out of that buffer since the connection began, modulo 2³².
    pub(super) fwd_cnt: u32,
}

impl Header {
    pub(super) fn from_bytes(bytes: &[u8; HEADER]) -> Self {
        let mut rest = bytes.as_slice();
        Self {
            src_cid: u64::from_le_bytes(take(&mut rest)),
            dst_cid: u64::from_le_bytes(take(&mut rest)),
            src_port: u32::from_le_bytes(take(&mut rest)),
            dst_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            kind: u16::from_le_bytes(take(&mut rest)),
            op: u16::from_le_bytes(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
            buf_alloc: u32::from_le_bytes(take(&mut rest)),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, self.src_cid.to_le_bytes());
        put(&mut rest, self.dst_cid.to_le_bytes());
        put(&mut rest, self.src_port.to_le_bytes());
        put(&mut rest, self.dst_port.to_le_bytes());
        put(&mut rest, self.len.to_le_bytes());
        put(&mut rest, self.kind.to_le_bytes());
        put(&mut rest, self.op.to_le_bytes());
        put(&mut rest, self.flags.to_le_bytes());
        put(&mut rest, self.buf_alloc.to_le_bytes());
        put(&mut rest, self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// The connection that a packet from the guest belongs to.
    pub(super) const fn ports(&self) -> Ports {
        Ports { host: self.dst_port, guest: self.src_port }
    }
}

/// Takes a field off the front. The fields of a header make up [`HEADER`] bytes exactly.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut field = [0; N];
    if let Some((head, tail)) = rest.split_first_chunk::<N>() {
        field = *head;
        *rest = tail;
    }
    field
}

fn put<const N: usize>(rest: &mut &mut [u8], field: [u8; N]) {
    if let Some((head, tail)) = std::mem::take(rest).split_first_chunk_mut::<N>() {
        *head = field;
        *rest = tail;
    }
}
