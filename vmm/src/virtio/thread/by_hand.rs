//! The devices of a machine, turned by hand: what the device thread does, in the caller's thread and one turn at a
//! time, so that a fuzzer sees the same run for the same input.
//!
//! To the registers the devices look parked, so a reset does not wait for a device thread: it is heeded at the next
//! turn, as after a pause.
#![allow(missing_docs, clippy::missing_errors_doc)] // for fuzzing alone

use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::backend::Backend;
use super::super::device::Slot;
use super::super::error::Error;
use super::super::poller::Poller;
use super::super::slot::Seat;
use super::super::state::{DeviceState, Position};
use super::super::transport::Transport;
use super::event_loop::turn;
use super::seats::seats;
use super::{Seats, load};
use crate::memory::GuestMemory;

/// Devices without a thread.
pub struct ByHand {
    seats: Seats,
    poller: Poller,
    irqs: Vec<EventFd>,
}

impl ByHand {
    /// Devices with these backends, at rest.
    pub fn new(memory: GuestMemory, backends: Vec<Backend>) -> Result<Self, Error> {
        let event = || EventFd::new(EFD_NONBLOCK).map_err(Error::Setup);
        let poller = Poller::new().map_err(Error::Setup)?;
        let poke = Arc::new(event()?);
        poller.watch_control(&*poke).map_err(Error::Setup)?;
        let (mut slots, mut irqs) = (Vec::new(), Vec::new());
        for backend in &backends {
            let kind = backend.kind();
            let irq = event()?;
            irqs.push(irq.try_clone().map_err(Error::Setup)?);
            let kicks = (0..kind.queues()).map(|_| event()).collect::<Result<_, _>>()?;
            slots.push(Slot { kind, irq: Box::new(irq), kicks });
        }
        let mut seats = seats(memory, slots, &poller, &poke)?;
        seats.iter_mut().zip(backends).try_for_each(|(seat, backend)| seat.attach(backend))?;
        Ok(Self { seats, poller, irqs })
    }

    pub fn transport(&self, slot: usize) -> &Transport {
        self.seats[slot].transport()
    }

    /// Whether the interrupt of a device was raised since the last call.
    pub fn interrupted(&self, slot: usize) -> bool {
        self.irqs[slot].read().is_ok()
    }

    /// As when the device thread gets the devices.
    pub fn resume(&mut self) {
        self.seats.iter_mut().for_each(Seat::resume);
    }

    /// One turn of its loop. True where a device has more to do.
    pub fn turn(&mut self) -> bool {
        // Its only error is a broken epoll instance.
        turn(&self.poller, &mut self.seats, false).is_ok() && self.seats.iter().any(Seat::is_due)
    }

    /// As when the device thread gives the devices back.
    pub fn suspend(&mut self) {
        self.seats.iter_mut().for_each(Seat::suspend);
    }

    /// The states of devices at rest.
    pub fn save(&self) -> Vec<DeviceState> {
        self.seats.iter().map(Seat::save).collect()
    }

    /// How far each queue of a device at rest has come.
    pub fn positions(&self, slot: usize) -> Vec<Position> {
        self.seats[slot].save().positions()
    }

    /// As [`DeviceThread::load`](super::DeviceThread::load).
    pub fn load(&mut self, states: Vec<DeviceState>) -> Result<(), Error> {
        load(&mut self.seats, states)
    }
}
