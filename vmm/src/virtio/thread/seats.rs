//! The devices of a machine, made before anything is behind them.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::super::balloon::Balloon;
use super::super::block::Block;
use super::super::device::{Device, Kind, Slot};
use super::super::error::Error;
use super::super::poller::Poller;
use super::super::slot::Seat;
use super::super::transport::Transport;
use super::super::vsock::Vsock;
use super::Seats;
use crate::memory::GuestMemory;

/// One seat per slot, with its kicks watched.
pub(super) fn seats(
    memory: GuestMemory,
    slots: Vec<Slot>,
    poller: &Poller,
    poke: &Arc<EventFd>,
) -> Result<Seats, Error> {
    let memory = Arc::new(memory);
    let mut seats = Vec::with_capacity(slots.len());
    for (index, slot) in (0u32..).zip(slots) {
        let (kind, wanted, got) = (slot.kind, slot.kind.queues(), slot.kicks.len());
        if wanted != got {
            return Err(Error::Kicks { slot: seats.len(), kind, wanted, got });
        }
        let poller = poller.for_slot(index);
        for kick in &slot.kicks {
            poller.watch_kick(kick).map_err(Error::Setup)?;
        }
        let device: Box<dyn Device> = match kind {
            Kind::Block => Box::new(Block::new(Arc::clone(&memory))),
            Kind::Vsock => Box::new(Vsock::new(Arc::clone(&memory), poller)),
            Kind::Balloon => Box::new(Balloon::new(Arc::clone(&memory))),
        };
        let transport = Arc::new(Transport::new(slot, Arc::clone(poke)));
        seats.push(Seat::new(transport, Arc::clone(&memory), device));
    }
    Ok(seats.into_boxed_slice())
}
