//! The device thread: one epoll loop that owns every device of a machine while it runs.
//!
//! ```text
//!  spawn ──► parked ──run──► running ──pause──► parked ──► drop
//!             │  ▲
//!             └──┘ attach, load: done on the caller's thread, on devices that are at rest
//! ```
//!
//! Parked devices belong to the [`DeviceThread`] value, running ones to the thread; they change
//! hands through a channel of one place. So thawing costs no thread creation and one wake-up:
//! `attach` and `load` run on the caller's thread, `run` hands the devices over without waiting.
//! The device thread sleeps in the channel while parked and in `epoll_wait` while running.
//!
//! Stop the vCPUs before `pause` where the state is to be kept: a register write in between is kept and
//! heeded later, but a saved state taken meanwhile would be of no single moment.

#[cfg(feature = "fuzzing")]
mod by_hand;
mod event_loop;
mod seats;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::backend::Backend;
use super::device::Slot;
use super::error::Error;
use super::poller::Poller;
use super::slot::Seat;
use super::state::DeviceState;
use super::transport::Transport;
use crate::memory::GuestMemory;
use crate::{patience, thread};
#[cfg(feature = "fuzzing")]
pub use by_hand::ByHand;
use event_loop::{EventLoop, ParkOnExit};
use seats::seats;

/// All devices in order; boxed, so that handing them over moves one pointer.
type Seats = Box<[Seat]>;

/// The thread that runs every device of one machine, and the devices themselves while they rest.
#[derive(Debug)]
pub struct DeviceThread {
    transports: Vec<Arc<Transport>>,
    poke: Arc<EventFd>,
    pausing: Arc<AtomicBool>,
    parked: Mutex<Parked>,
    /// `None` once the thread was told to end.
    outbox: Option<SyncSender<Seats>>,
    thread: Option<JoinHandle<()>>,
}

struct Parked {
    /// `None` while the devices run.
    seats: Option<Seats>,
    inbox: Receiver<Seats>,
}

impl DeviceThread {
    /// Creates the devices and their thread, at rest and with nothing behind them.
    ///
    /// # Errors
    ///
    /// A slot with a wrong number of kicks, or a host that refuses a thread or a descriptor.
    pub fn spawn(memory: GuestMemory, slots: Vec<Slot>) -> Result<Self, Error> {
        Self::spawn_confined(memory, slots, || Ok(()))
    }

    /// Like [`DeviceThread::spawn`]; the new thread first runs `confine` on itself, for instance to
    /// install its seccomp filter. This returns when that is done.
    ///
    /// # Errors
    ///
    /// As for [`DeviceThread::spawn`], and what `confine` returns.
    pub fn spawn_confined(
        memory: GuestMemory,
        slots: Vec<Slot>,
        confine: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Error> {
        let poller = Poller::new().map_err(Error::Setup)?;
        let poke = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(Error::Setup)?);
        poller.watch_control(&*poke).map_err(Error::Setup)?;
        let seats = seats(memory, slots, &poller, &poke)?;
        let transports: Vec<_> = seats.iter().map(|seat| Arc::clone(seat.transport())).collect();
        let pausing = Arc::new(AtomicBool::new(false));
        let (outbox, orders) = sync_channel(1);
        let (results, inbox) = sync_channel(1);
        let event_loop = EventLoop {
            poller,
            pausing: Arc::clone(&pausing),
            transports: ParkOnExit(transports.clone()),
        };
        let body = move || event_loop.serve(&orders, &results);
        let thread = thread::spawn("devices".into(), confine, body).map_err(Error::Setup)?;
        let parked = Mutex::new(Parked { seats: Some(seats), inbox });
        Ok(Self { transports, poke, pausing, parked, outbox: Some(outbox), thread: Some(thread) })
    }

    /// The register files, one per slot in order, for the machine's MMIO bus.
    #[must_use]
    pub fn transports(&self) -> &[Arc<Transport>] {
        &self.transports
    }

    /// Puts something behind every device, which is then as at power-on.
    ///
    /// # Errors
    ///
    /// Running devices, a wrong number or kind of backends, or one that does not fit its device.
    /// After an error on one device the others may have been attached; attach anew.
    pub fn attach(&self, backends: Vec<Backend>) -> Result<(), Error> {
        let mut parked = self.parked();
        let seats = parked.seats.as_mut().ok_or(Error::Running)?;
        count("backends", seats.len(), backends.len())?;
        for (slot, (seat, backend)) in seats.iter().zip(&backends).enumerate() {
            let (wanted, got) = (seat.transport().kind(), backend.kind());
            if wanted != got {
                return Err(Error::Kind { slot, wanted, got });
            }
        }
        seats.iter_mut().zip(backends).try_for_each(|(seat, backend)| seat.attach(backend))
    }

    /// Takes over saved states, one per device. They are untrusted: all are checked before any is
    /// used. Connections of before end; the backends stay.
    ///
    /// # Errors
    ///
    /// Running or detached devices, or a state that does not fit, in which case nothing changed.
    pub fn load(&self, states: Vec<DeviceState>) -> Result<(), Error> {
        let mut parked = self.parked();
        let seats = parked.seats.as_mut().ok_or(Error::Running)?;
        load(seats, states)
    }

    /// Lets the devices run. Every queue is looked at once, since kicks of before may be lost, and
    /// interrupts that wait for their acknowledgement are raised again. Returns without waiting
    /// for that.
    ///
    /// # Errors
    ///
    /// Running or detached devices, or a thread that has ended.
    pub fn run(&self) -> Result<(), Error> {
        let mut parked = self.parked();
        let seats = parked.seats.as_ref().ok_or(Error::Running)?;
        attached(seats)?;
        let outbox = self.outbox.as_ref().ok_or(Error::ThreadGone)?;
        let seats = parked.seats.take().ok_or(Error::Running)?;
        self.pausing.store(false, Ordering::SeqCst);
        self.transports.iter().for_each(|transport| transport.set_parked(false));
        outbox.send(seats).map_err(|_| Error::ThreadGone)
    }

    /// Stops every device after its present turn and returns their states. The host's connections
    /// stay open: [`DeviceThread::run`] goes on where this stopped.
    ///
    /// # Errors
    ///
    /// Paused devices, or a thread that has ended.
    pub fn pause(&self) -> Result<Vec<DeviceState>, Error> {
        self.stop()?;
        self.save()
    }

    /// Like [`DeviceThread::pause`], for whoever has no use for the states.
    ///
    /// # Errors
    ///
    /// As for [`DeviceThread::pause`].
    pub fn stop(&self) -> Result<(), Error> {
        let mut parked = self.parked();
        if parked.seats.is_some() {
            return Err(Error::Paused);
        }
        self.pausing.store(true, Ordering::SeqCst);
        // It fails only when the counter is full, that is, when the thread is already poked.
        let _ = self.poke.write(1);
        let seats = patience::receive(&parked.inbox).map_err(|_| Error::ThreadGone)?;
        parked.seats = Some(seats);
        Ok(())
    }

    /// The states of devices at rest, as [`DeviceThread::pause`] returned them or would have.
    ///
    /// # Errors
    ///
    /// Running devices.
    pub fn save(&self) -> Result<Vec<DeviceState>, Error> {
        let parked = self.parked();
        let seats = parked.seats.as_ref().ok_or(Error::Running)?;
        Ok(seats.iter().map(Seat::save).collect())
    }

    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DeviceThread {
    fn drop(&mut self) {
        // Running devices are fetched back so that the thread is in its channel; parked: refused.
        let _ = self.stop();
        self.outbox = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parked").field("parked", &self.seats.is_some()).finish_non_exhaustive()
    }
}

/// Loads a state into each device, or none.
fn load(seats: &mut [Seat], states: Vec<DeviceState>) -> Result<(), Error> {
    attached(seats)?;
    count("states", seats.len(), states.len())?;
    let check = |(slot, (seat, state)): (usize, (&Seat, DeviceState))| {
        seat.check(state).map_err(|source| Error::State { slot, source })
    };
    let states = seats.iter().zip(states).enumerate().map(check);
    let states = states.collect::<Result<Vec<_>, _>>()?;
    seats.iter_mut().zip(states).for_each(|(seat, state)| seat.load(state));
    Ok(())
}

fn count(what: &'static str, wanted: usize, got: usize) -> Result<(), Error> {
    if wanted == got { Ok(()) } else { Err(Error::Count { what, wanted, got }) }
}

fn attached(seats: &[Seat]) -> Result<(), Error> {
    match seats.iter().position(|seat| !seat.is_attached()) {
        Some(slot) => Err(Error::Detached(slot)),
        None => Ok(()),
    }
}
