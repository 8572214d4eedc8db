//! A device in its place: the device, its transport, and its queues while it does not run.
//!
//! ```text
//!           request Start / resume            suspend, Reset, Halt, Broken
//!  stopped ───────────────────────► running ──────────────────────────────► stopped (rings kept)
//! ```

use std::sync::Arc;

use vmm_sys_util::epoll::EventSet;

use super::backend::Backend;
use super::device::{Device, Effects, MAX_QUEUES, Rings};
use super::error::{Error, StateError};
use super::registers::QueueRegisters;
use super::ring::Ring;
use super::state::{DeviceState, DeviceV1, Loadable, QueueV1};
use super::transport::{Request, Transport};
use crate::memory::GuestMemory;

/// One device and what belongs to it.
pub(super) struct Seat {
    transport: Arc<Transport>,
    memory: Arc<GuestMemory>,
    device: Box<dyn Device>,
    attached: bool,
    running: bool,
    /// The queues of a device that does not run.
    rings: Rings,
    /// The device is to have a turn.
    due: bool,
}

impl Seat {
    pub(super) fn new(
        transport: Arc<Transport>,
        memory: Arc<GuestMemory>,
        device: Box<dyn Device>,
    ) -> Self {
        let rings = [const { None }; MAX_QUEUES];
        Self { transport, memory, device, attached: false, running: false, rings, due: false }
    }

    pub(super) const fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    pub(super) const fn is_attached(&self) -> bool {
        self.attached
    }

    /// Power-on with a new backend.
    pub(super) fn attach(&mut self, backend: Backend) -> Result<(), Error> {
        self.attached = false;
        self.rings = [const { None }; MAX_QUEUES];
        self.device.attach(backend)?;
        self.transport.describe(&*self.device);
        self.attached = true;
        Ok(())
    }

    /// Checks a saved state against this device, without effect.
    pub(super) fn check(&self, state: DeviceState) -> Result<Loadable, StateError> {
        Loadable::try_from((state, &*self.device, self.transport.kind(), &*self.memory))
    }

    pub(super) fn load(&mut self, state: Loadable) {
        self.device.reset();
        self.device.load(state.part);
        self.rings = state.rings.unwrap_or([const { None }; MAX_QUEUES]);
        self.transport.load(state.registers, state.interrupt_status);
    }

    /// The state of a device that does not run.
    pub(super) fn save(&self) -> DeviceState {
        let (registers, queues) = self.transport.save();
        let queues = queues.iter().zip(&self.rings);
        let queues = queues.map(|(queue, ring)| QueueV1::new(queue, ring.as_ref()));
        DeviceState::V1(DeviceV1 {
            kind: self.transport.kind(),
            registers,
            queues: queues.collect(),
            part: self.device.save(),
        })
    }

    /// Lets the device run, where its driver is ready; a turn is then due.
    pub(super) fn resume(&mut self) {
        self.heed();
        if !self.running
            && let Some(features) = self.transport.running()
        {
            let rings = std::mem::take(&mut self.rings);
            self.start(rings, features);
        }
        self.transport.interrupt().replay();
    }

    /// Takes the queues back; guest memory is not touched afterwards.
    pub(super) fn suspend(&mut self) {
        self.heed();
        self.stop();
    }

    /// Does what the driver asked for through the registers.
    pub(super) fn heed(&mut self) {
        match self.transport.request() {
            None => {}
            Some(Request::Halt) => self.stop(),
            Some(Request::Reset) => {
                self.reset();
                self.transport.settle();
            }
            Some(Request::Start { features, queues }) => {
                self.reset();
                match self.build(features, &queues) {
                    Some(rings) => self.start(rings, features),
                    None => self.transport.needs_reset(),
                }
            }
        }
    }

    /// The driver kicked a queue; which one does not matter.
    pub(super) fn kick(&mut self) {
        self.due = self.running;
    }

    /// A host descriptor of the device has news.
    pub(super) fn notice(&mut self, token: u32, what: EventSet) {
        if self.running {
            self.device.notice(token, what);
            self.due = true;
        }
    }

    /// Gives the device a turn, where one is due.
    pub(super) fn work(&mut self) {
        if !std::mem::take(&mut self.due) {
            return;
        }
        match self.device.work() {
            Ok(Effects { interrupt, more }) => {
                if interrupt {
                    self.transport.interrupt().used_buffer();
                }
                self.due = more;
            }
            Err(_broken) => {
                self.stop();
                self.transport.needs_reset();
            }
        }
    }

    /// Whether the device is due a turn without waiting for an event.
    pub(super) const fn is_due(&self) -> bool {
        self.due
    }

    fn start(&mut self, rings: Rings, features: u64) {
        self.device.start(rings, features);
        self.running = true;
        self.due = true;
    }

    fn stop(&mut self) {
        if std::mem::take(&mut self.running) {
            self.rings = self.device.stop();
        }
        self.due = false;
    }

    fn reset(&mut self) {
        self.stop();
        self.rings = [const { None }; MAX_QUEUES];
        self.device.reset();
    }

    /// Rings as the driver set them up, or `None` where one of them is impossible.
    fn build(&self, features: u64, queues: &[QueueRegisters]) -> Option<Rings> {
        let mut rings = [const { None }; MAX_QUEUES];
        for (index, queue) in queues.iter().enumerate().filter(|(_, queue)| queue.ready) {
            let state = queue.queue_state(self.transport.kind().queue_max(index), features);
            rings[index] = Some(Ring::new(state, &self.memory)?);
        }
        Some(rings)
    }
}
