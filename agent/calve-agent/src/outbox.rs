//! What waits to be sent to the host.
//!
//! Frames queue in one bounded buffer. A large result is not copied into it at once but pumped in chunk by chunk as the
//! buffer drains. Logs ask [`has_room`](Outbox::has_room) first, and stay in the function's pipes while there is none:
//! that is the backpressure on a function that prints faster than the host reads.
//!
//! Welcome and Thawed are *lazy*: they leave with the next frame that is not, so that a warm call costs one packet each
//! way.

use std::io::{self, Write};

use calve_proto::frame::{self, FrameError};
use calve_proto::limits::MAX_CHUNK;
use calve_proto::wire::{self, guest_frame::Body, invoke_done::Outcome};

/// Logs are taken from the pipes while less than this is queued: a few packets of the vsock device, no more.
const LOG_ROOM: usize = 2 * MAX_CHUNK;

/// A result that is being sent.
#[derive(Debug)]
struct Pending {
    request_id: String,
    data: Vec<u8>,
    sent: usize,
}

/// Frames on their way to the host.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    buf: Vec<u8>,
    start: usize,
    urgent: bool,
    result: Option<Pending>,
}

impl Outbox {
    /// Queues a frame to be sent as soon as possible.
    pub(crate) fn push(&mut self, body: Body) -> Result<(), FrameError> {
        self.urgent = true;
        self.push_lazy(body)
    }

    /// Queues a frame that may wait for the next one.
    pub(crate) fn push_lazy(&mut self, body: Body) -> Result<(), FrameError> {
        frame::encode(&wire::GuestFrame { body: Some(body) }, &mut self.buf)
    }

    /// Queues a part of a result that the runtime streams, in as many frames as it takes; the first one says what it is.
    pub(crate) fn push_part(
        &mut self,
        request_id: &str,
        data: &[u8],
        mut content_type: String,
    ) -> Result<(), FrameError> {
        for data in data.chunks(MAX_CHUNK) {
            let (request_id, data) = (request_id.to_owned(), data.to_vec());
            let content_type = std::mem::take(&mut content_type);
            self.push(Body::ResultChunk(wire::ResultChunk { request_id, data, content_type }))?;
        }
        Ok(())
    }

    /// Queues the result of a call: chunks and the final InvokeDone.
    pub(crate) fn push_result(
        &mut self,
        request_id: String,
        data: Vec<u8>,
    ) -> Result<(), FrameError> {
        self.urgent = true;
        self.result = Some(Pending { request_id, data, sent: 0 });
        self.pump()
    }

    /// Whether a result is still being cut into frames.
    pub(crate) fn is_sending_result(&self) -> bool {
        self.result.is_some()
    }

    /// Whether logs, or parts of a result, may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.queued() < LOG_ROOM
    }

    /// Whether there is something that should leave now.
    pub(crate) fn wants_to_send(&self) -> bool {
        self.urgent && self.queued() > 0
    }

    /// Lets lazy frames leave, too.
    pub(crate) fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Writes as much as `stream` takes without blocking.
    pub(crate) fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while self.wants_to_send() {
            match stream.write(&self.buf[self.start..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.start += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
            // Chunks are within their bound, so that encoding them cannot fail.
            self.pump().map_err(io::Error::other)?;
        }
        if self.queued() == 0 {
            self.buf = Vec::new();
            self.start = 0;
            self.urgent = false;
        } else if self.start >= LOG_ROOM {
            // What has left takes no room, however long there is always something behind it.
            self.buf.drain(..self.start);
            self.start = 0;
        }
        Ok(())
    }

    fn queued(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Moves chunks of the result into the buffer while it is short.
    fn pump(&mut self) -> Result<(), FrameError> {
        while self.queued() < MAX_CHUNK {
            let Some(pending) = &mut self.result else { return Ok(()) };
            self.buf.drain(..self.start);
            self.start = 0;
            let rest = &pending.data[pending.sent..];
            let request_id = pending.request_id.clone();
            let body = if rest.len() > MAX_CHUNK {
                let data = rest[..MAX_CHUNK].to_vec();
                pending.sent += MAX_CHUNK;
                let content_type = String::new();
                Body::ResultChunk(wire::ResultChunk { request_id, data, content_type })
            } else {
                let success =
                    wire::Success { tail: rest.to_vec(), size: pending.data.len() as u64 };
                let outcome = Some(Outcome::Success(success));
                self.result = None;
                Body::InvokeDone(wire::InvokeDone { request_id, outcome })
            };
            frame::encode(&wire::GuestFrame { body: Some(body) }, &mut self.buf)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
