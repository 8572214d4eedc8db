//! What the device thread does: sleep in the channel while parked, in `epoll_wait` while running.
//!
//! Every event of one wait is noted first, then each device that is due has one turn. So a batch of
//! events costs one look at the queues and at most one interrupt per device.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use super::super::poller::{Poller, Source};
use super::super::slot::Seat;
use super::super::transport::Transport;
use super::Seats;

/// What the thread works with.
pub(super) struct EventLoop {
    pub(super) poller: Poller,
    pub(super) pausing: Arc<AtomicBool>,
    pub(super) transports: ParkOnExit,
}

impl EventLoop {
    /// Runs devices whenever some are handed over, until the sender is gone.
    pub(super) fn serve(&self, orders: &Receiver<Seats>, results: &SyncSender<Seats>) {
        while let Ok(mut seats) = orders.recv() {
            self.run(&mut seats);
            self.transports.park();
            if results.send(seats).is_err() {
                return;
            }
        }
    }

    fn run(&self, seats: &mut Seats) {
        seats.iter_mut().for_each(Seat::resume);
        while !self.pausing.load(Ordering::SeqCst) {
            if turn(&self.poller, seats, true).is_err() {
                break; // the epoll instance itself is broken: nothing can run
            }
        }
        seats.iter_mut().for_each(Seat::suspend);
    }
}

/// One turn of every device that is due, then what happened meanwhile; with nothing to do it sleeps, where it may.
pub(super) fn turn(poller: &Poller, seats: &mut [Seat], may_sleep: bool) -> io::Result<()> {
    seats.iter_mut().for_each(Seat::work);
    let idle = !seats.iter().any(Seat::is_due);
    poller.wait(idle && may_sleep, |source, what| match source {
        // Edge-triggered and never read: a counter of 64 bits does not fill up.
        Source::Control => seats.iter_mut().for_each(Seat::heed),
        Source::Kick(slot) => with(seats, slot, Seat::kick),
        Source::Host(slot, token) => with(seats, slot, |seat| seat.notice(token, what)),
    })
}

fn with(seats: &mut [Seat], slot: usize, act: impl FnOnce(&mut Seat)) {
    if let Some(seat) = seats.get_mut(slot) {
        act(seat);
    }
}

/// Nobody waits for a thread that is gone.
pub(super) struct ParkOnExit(pub(super) Vec<Arc<Transport>>);

impl ParkOnExit {
    fn park(&self) {
        self.0.iter().for_each(|transport| transport.set_parked(true));
    }
}

impl Drop for ParkOnExit {
    fn drop(&mut self) {
        self.park();
    }
}
