//! The vsock as a device: its life cycle, its turn, and its saved state.

use std::sync::Arc;

use vmm_sys_util::epoll::EventSet;

use super::super::backend::Backend;
use super::super::device::{Broken, Device, Effects, Kind, Offer, Rings};
use super::super::error::{Error, StateError};
use super::super::state::PartState;
use super::header::Ports;
use super::{LISTENER, RX, SAVED_MAX, TX, Vsock, table};

impl Device for Vsock {
    fn attach(&mut self, backend: Backend) -> Result<(), Error> {
        self.detach();
        match backend {
            Backend::Vsock(host) => self.attach_host(host),
            // The device thread has compared the kinds.
            Backend::Block(_) | Backend::Balloon => Ok(()),
        }
    }

    fn offer(&self) -> Offer<'_> {
        // Streams are all there is: no feature bit of §5.10.3 is needed for them.
        Offer { features: 0, config: &self.config }
    }

    fn start(&mut self, rings: Rings, _features: u64) {
        self.rings = rings;
        self.accept_due = true;
    }

    fn notice(&mut self, token: u32, what: EventSet) {
        if token == LISTENER {
            self.accept_due = true;
        } else {
            self.hear(token, what);
        }
    }

    fn work(&mut self) -> Result<Effects, Broken> {
        if self.rings[RX].is_none() || self.rings[TX].is_none() {
            return Ok(Effects::default());
        }
        let memory = Arc::clone(&self.memory);
        self.open_streams();
        let mut more = self.accept();
        more |= self.transmit(&memory)?;
        let congested = self.is_congested();
        more |= self.deliver(&memory)?;
        more |= congested && !self.is_congested();
        let mut interrupt = false;
        for ring in self.rings.iter_mut().flatten() {
            interrupt |= ring.wants_interrupt(&memory)?;
        }
        Ok(Effects { interrupt, more })
    }

    fn stop(&mut self) -> Rings {
        std::mem::take(&mut self.rings)
    }

    fn reset(&mut self) {
        self.drop_connections();
        self.table.set_next_port(table::FIRST_PORT);
    }

    fn save(&self) -> PartState {
        let ports = self.table.known().chain(self.resets.iter().copied());
        let mut open: Vec<_> = ports.map(|ports| (ports.host, ports.guest)).collect();
        open.sort_unstable();
        open.dedup();
        PartState::Vsock { cid: self.cid, next_port: self.table.next_port(), open }
    }

    fn check(&self, part: &PartState) -> Result<(), StateError> {
        let wanted = Kind::Vsock;
        match part {
            PartState::Block { .. } | PartState::Balloon => {
                Err(StateError::Kind { wanted, got: part.kind() })
            }
            &PartState::Vsock { cid: saved, .. } if saved != self.cid => {
                Err(StateError::Cid { saved, attached: self.cid })
            }
            PartState::Vsock { open, .. } if open.len() > SAVED_MAX => {
                Err(StateError::Connections(open.len()))
            }
            PartState::Vsock { .. } => Ok(()),
        }
    }

    fn load(&mut self, part: PartState) {
        if let PartState::Vsock { next_port, open, .. } = part {
            self.table.set_next_port(next_port);
            self.resets.extend(open.into_iter().map(|(host, guest)| Ports { host, guest }));
        }
    }
}
