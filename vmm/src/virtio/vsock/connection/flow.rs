//! What moves a connection: its socket, the guest's packets, and the end of each direction.

use std::io;
use std::net::Shutdown;

use vmm_sys_util::epoll::EventSet;

use super::super::super::scatter::{Received, Scatter};
use super::super::greeting;
use super::super::header::{RECEIVE, SEND};
use super::{Connection, Phase, Verdict};

impl Connection {
    /// Reads from the host into guest memory. `None` where there is nothing to send now.
    pub(in super::super) fn read(&mut self, payload: &Scatter) -> Result<Option<u32>, io::Error> {
        match payload.receive(&self.stream) {
            Ok(Received { count: 0, .. }) => {
                self.readable = false;
                self.host_closed |= SEND;
                Ok(None)
            }
            Ok(Received { count, ancillary }) => {
                // Less than there was room for: the socket is empty, and the next edge will tell.
                // Unless it told already that the end follows.
                self.readable = count == payload.len() || self.ending || ancillary;
                let bytes = u32::try_from(count).map_err(|_| io::ErrorKind::InvalidData)?;
                self.credit.note_sent(bytes);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The socket has news.
    pub(in super::super) fn notice(&mut self, what: EventSet) -> Verdict {
        let gone = what.intersects(EventSet::HANG_UP | EventSet::ERROR);
        self.readable |= gone || what.intersects(EventSet::IN | EventSet::READ_HANG_UP);
        self.ending |= gone || what.contains(EventSet::READ_HANG_UP);
        if gone {
            self.stop_sending();
        }
        if what.contains(EventSet::OUT) { self.flush() } else { Verdict::Keep }
    }

    /// The guest accepted.
    pub(in super::super) fn accepted(&mut self) -> Verdict {
        let Phase::Requested { greet } = self.phase else { return Verdict::Reset };
        if self.opening.is_some() {
            return Verdict::Reset; // it cannot answer what it has not seen
        }
        self.phase = Phase::Open;
        if greet && greeting::accept(&self.stream, self.ports.host).is_err() {
            // It left without waiting; what it wrote still counts.
            self.stop_sending();
        }
        Verdict::Keep
    }

    /// The guest sent bytes.
    pub(in super::super) fn write(&mut self, payload: &mut Scatter) -> Verdict {
        let Ok(len) = u32::try_from(payload.len()) else { return Verdict::Reset };
        let may = self.phase == Phase::Open && self.guest_closed & SEND == 0;
        if !may || self.credit.note_received(len).is_err() {
            return Verdict::Reset;
        }
        if self.backlog.is_empty() && self.host_closed & RECEIVE == 0 {
            match payload.send(&self.stream) {
                Ok(_) => {}
                Err(error) if would_block(&error) => {}
                Err(_) => self.stop_sending(),
            }
        }
        if self.host_closed & RECEIVE != 0 {
            payload.clear(); // nobody will read it
        }
        let kept = u32::try_from(payload.len()).unwrap_or(len);
        self.credit.note_forwarded(len - kept);
        if kept == 0 || self.backlog.push(payload) { Verdict::Keep } else { Verdict::Reset }
    }

    /// Sends on what the host would not take before.
    pub(in super::super) fn flush(&mut self) -> Verdict {
        while !self.backlog.is_empty() {
            match self.backlog.send(&self.stream) {
                Ok(sent) => self.credit.note_forwarded(u32::try_from(sent).unwrap_or(0)),
                Err(error) if would_block(&error) => return Verdict::Keep,
                Err(_) => self.stop_sending(),
            }
        }
        self.pass_on_end();
        Verdict::Keep
    }

    /// The guest hinted at the end of one or both directions.
    pub(in super::super) fn close(&mut self, flags: u32) -> Verdict {
        if self.phase != Phase::Open {
            return Verdict::Reset;
        }
        self.guest_closed |= flags & (SEND | RECEIVE);
        if self.guest_closed == SEND | RECEIVE {
            return Verdict::Confirm;
        }
        if self.guest_closed & RECEIVE != 0 {
            // Fails only where the host closed first.
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        self.pass_on_end();
        Verdict::Keep
    }

    /// The host takes no more bytes.
    fn stop_sending(&mut self) {
        self.host_closed |= RECEIVE;
        let dropped = self.backlog.clear();
        self.credit.note_forwarded(dropped);
    }

    fn pass_on_end(&self) {
        if self.guest_closed & SEND != 0 && self.backlog.is_empty() {
            // Fails only where the host closed first.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
