//! The guest's door to one device: the virtio-mmio window (VIRTIO 1.3, §4.2.2).
//!
//! vCPU threads come in here on an MMIO exit. The registers lie behind a mutex that is only ever
//! held for a few plain loads and stores: never while guest memory is touched, never while a device
//! runs, never while waiting (the wait for a reset lets go of it). Interrupt status and line are
//! atomics beside it. What a write asks of the device thread is left as a [`Request`], one at most,
//! the latest winning, and the thread is poked.
//!
//! ```text
//!             DRIVER_OK                 status = 0                  device stopped
//!  set up ───────────────► Start ──► (running) ──► Reset, vCPU waits ──────────────► set up
//! ```
//!
//! A reset must not return before the device has let go of guest memory, so its vCPU waits for the
//! device thread; while the devices are parked they touch nothing and it does not wait.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_INTERRUPT_STATUS};
use vmm_sys_util::eventfd::EventFd;

use super::device::{Device, Kind, Offer, Slot};
use super::interrupt::Interrupt;
use super::registers::{Command, QueueRegisters, Registers};
use super::state::RegistersV1;

/// What the driver wants the device thread to do.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Start with these features and queues, afresh.
    Start { features: u64, queues: Vec<QueueRegisters> },
    /// Stop and forget everything the driver set up; a vCPU waits for it.
    Reset,
    /// Stop; the driver has given up.
    Halt,
}

/// The register file of one device, shared by all vCPU threads.
#[derive(Debug)]
pub struct Transport {
    kind: Kind,
    interrupt: Interrupt,
    kicks: Vec<EventFd>,
    /// Wakes the device thread to look for requests.
    poke: Arc<EventFd>,
    inner: Mutex<Inner>,
    /// Signalled when a reset is done or the devices were parked.
    settled: Condvar,
}

#[derive(Debug)]
struct Inner {
    registers: Registers,
    request: Option<Request>,
    /// A vCPU waits for its reset: everybody else's writes are void.
    resetting: bool,
    /// The devices are not on the device thread.
    parked: bool,
}

impl Transport {
    pub(super) fn new(slot: Slot, poke: Arc<EventFd>) -> Self {
        let registers = Registers::new(slot.kind, Offer { features: 0, config: &[] });
        Self {
            kind: slot.kind,
            interrupt: Interrupt::new(slot.irq),
            kicks: slot.kicks,
            poke,
            inner: Mutex::new(Inner { registers, request: None, resetting: false, parked: true }),
            settled: Condvar::new(),
        }
    }

    /// What kind of device this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A guest's read at `offset` into the window. Control registers are 32 bits wide and aligned
    /// (§4.2.2.2); any other access to them reads zeros. The config space takes any width.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let Ok(offset) = u32::try_from(offset) else { return };
        if let Some(config) = offset.checked_sub(VIRTIO_MMIO_CONFIG) {
            return self.lock().registers.read_config(config as usize, data);
        }
        if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = match offset {
                VIRTIO_MMIO_INTERRUPT_STATUS => self.interrupt.status(),
                _ => self.lock().registers.read(offset),
            }
            .to_le_bytes();
        }
    }

    /// A guest's write at `offset` into the window. Anything but an aligned 32-bit write to a
    /// control register is void.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let (Ok(offset), Ok(word)) = (u32::try_from(offset), <[u8; 4]>::try_from(data)) else {
            return;
        };
        let mut inner = self.lock();
        if inner.resetting {
            return;
        }
        match inner.registers.write(offset, u32::from_le_bytes(word)) {
            Command::None => {}
            Command::Notify(index) => {
                drop(inner);
                // Without an ioeventfd, or for a datamatch the machine did not register.
                let _ = self.kicks[index].write(1);
            }
            Command::Acknowledge(bits) => self.interrupt.acknowledge(bits),
            Command::Start => {
                let features = inner.registers.driver_features();
                let queues = inner.registers.queues().to_vec();
                self.ask(&mut inner, Request::Start { features, queues });
            }
            Command::Halt => self.ask(&mut inner, Request::Halt),
            Command::Reset => self.reset(inner),
        }
    }

    fn reset(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.registers.was_started() {
            inner.resetting = true;
            self.ask(&mut inner, Request::Reset);
            let waiting = |inner: &mut Inner| !inner.parked && inner.request.is_some();
            inner = self.settled.wait_while(inner, waiting).unwrap_or_else(PoisonError::into_inner);
            inner.resetting = false;
        }
        inner.registers.reset();
        self.interrupt.set_status(0);
    }

    fn ask(&self, inner: &mut Inner, request: Request) {
        inner.request = Some(request);
        // It fails only when the counter is full, that is, when the thread is already poked.
        let _ = self.poke.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device thread's side.
impl Transport {
    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// The request that waits, if any. A reset stays until [`Transport::settle`].
    pub(super) fn request(&self) -> Option<Request> {
        let mut inner = self.lock();
        match inner.request {
            Some(Request::Reset) => Some(Request::Reset),
            _ => inner.request.take(),
        }
    }

    /// The reset is done: the device touches guest memory no more. A start that came since stays.
    pub(super) fn settle(&self) {
        let mut inner = self.lock();
        inner.request.take_if(|request| matches!(request, Request::Reset));
        self.settled.notify_all();
    }

    /// The devices left the device thread, or came back to it.
    pub(super) fn set_parked(&self, parked: bool) {
        self.lock().parked = parked;
        self.settled.notify_all();
    }

    /// The features the driver accepted, where it is ready and nobody gave up since.
    pub(super) fn running(&self) -> Option<u64> {
        let inner = self.lock();
        inner.registers.running().then(|| inner.registers.driver_features())
    }

    /// The device cannot go on (VIRTIO 1.3, §2.1.2).
    pub(super) fn needs_reset(&self) {
        let tell = self.lock().registers.set_needs_reset();
        if tell {
            self.interrupt.config_changed();
        }
    }

    /// Power-on, with what a newly attached device offers.
    pub(super) fn describe(&self, device: &dyn Device) {
        let mut inner = self.lock();
        inner.registers = Registers::new(self.kind, device.offer());
        inner.request = None;
        self.interrupt.set_status(0);
    }

    pub(super) fn save(&self) -> (RegistersV1, Vec<QueueRegisters>) {
        let inner = self.lock();
        let interrupt_status = self.interrupt.status();
        let registers = RegistersV1 { interrupt_status, ..inner.registers.save() };
        (registers, inner.registers.queues().to_vec())
    }

    pub(super) fn load(&self, registers: Registers, interrupt_status: u32) {
        let mut inner = self.lock();
        inner.registers = registers;
        inner.request = None;
        self.interrupt.set_status(interrupt_status);
    }
}
