//! Credit of one connection, both ways (VIRTIO 1.3, §5.10.6.3). All counters wrap at 2³².
//!
//! ```text
//!  host → guest:  may send  buf_alloc − (sent − fwd_cnt)      as the guest last told
//!  guest → host:  may send  WINDOW − (received − told)        as we last told it
//! ```

use super::header::Header;

/// Our receive buffer per connection, in bytes, as the guest is told. Twice the largest packet
/// Linux sends (64 KiB), so that one packet is on its way while the other goes to the socket.
pub(super) const WINDOW: u32 = 128 * 1024;

/// Credit counters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credit {
    /// The guest's buffer size and what it has taken out of it.
    peer_alloc: u32,
    peer_forwarded: u32,
    /// Bytes sent to the guest.
    sent: u32,
    /// Bytes that came from the guest, those that left for the host, and those it knows left.
    received: u32,
    forwarded: u32,
    told: u32,
}

/// The guest sent more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overrun;

impl Credit {
    /// Every packet from the guest carries its side of the account.
    pub(super) const fn note_peer(&mut self, header: &Header) {
        self.peer_alloc = header.buf_alloc;
        self.peer_forwarded = header.fwd_cnt;
    }

    /// Bytes the guest has room for. A guest that claims to have taken out more than it got, or
    /// shrank its buffer below what is in it, has room for none.
    pub(super) const fn room(&self) -> u32 {
        self.peer_alloc.saturating_sub(self.sent.wrapping_sub(self.peer_forwarded))
    }

    pub(super) const fn note_sent(&mut self, bytes: u32) {
        self.sent = self.sent.wrapping_add(bytes);
    }

    /// Bytes came from the guest.
    pub(super) const fn note_received(&mut self, bytes: u32) -> Result<(), Overrun> {
        match self.received.wrapping_sub(self.forwarded).checked_add(bytes) {
            Some(held) if held <= WINDOW => {
                self.received = self.received.wrapping_add(bytes);
                Ok(())
            }
            _ => Err(Overrun),
        }
    }

    /// Bytes left for the host.
    pub(super) const fn note_forwarded(&mut self, bytes: u32) {
        self.forwarded = self.forwarded.wrapping_add(bytes);
    }

    /// Whether the guest, for all it knows, has less than half of the window left, although there
    /// is more.
    pub(super) const fn update_due(&self) -> bool {
        self.forwarded != self.told && self.received.wrapping_sub(self.told) > WINDOW / 2
    }

    /// Our side of the account, for a packet's header: `buf_alloc`, `fwd_cnt`.
    pub(super) const fn account(&self) -> (u32, u32) {
        (WINDOW, self.forwarded)
    }

    /// A packet with our account went to the guest.
    pub(super) const fn note_told(&mut self) {
        self.told = self.forwarded;
    }
}
