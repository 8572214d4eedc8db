//! Guest memory, a device thread and its wires.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vm_memory::GuestAddress;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::memory::GuestMemory;
use crate::virtio::{Backend, DeviceThread, Kind, Slot, Transport};

/// After this, whatever a test waits for is taken to be lost.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Guest memory, in bytes.
const MEMORY: usize = 32 << 20;

/// The wires of one slot, seen from the machine.
pub(crate) struct Wires {
    pub(crate) irq: EventFd,
    pub(crate) kicks: Vec<EventFd>,
}

/// A machine without vCPUs.
pub(crate) struct Rig {
    pub(crate) memory: GuestMemory,
    pub(crate) thread: DeviceThread,
    pub(crate) wires: Vec<Wires>,
}

impl Rig {
    /// Devices of these kinds, with nothing behind them.
    pub(crate) fn shell(kinds: &[Kind]) -> Self {
        let ranges = [(GuestAddress(0), MEMORY)];
        Self::over(GuestMemory::from_ranges(&ranges).unwrap(), kinds)
    }

    /// The same over existing guest memory: another machine that a snapshot is loaded into.
    pub(crate) fn over(memory: GuestMemory, kinds: &[Kind]) -> Self {
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let wires = kinds.iter().map(|kind| Wires {
            irq: event(),
            kicks: (0..kind.queues()).map(|_| event()).collect(),
        });
        let wires: Vec<_> = wires.collect();
        let slots = kinds.iter().zip(&wires).map(|(&kind, wires)| Slot {
            kind,
            irq: Box::new(wires.irq.try_clone().unwrap()),
            kicks: wires.kicks.iter().map(|kick| kick.try_clone().unwrap()).collect(),
        });
        let thread = DeviceThread::spawn(memory.clone(), slots.collect()).unwrap();
        Self { memory, thread, wires }
    }

    /// One device that runs, before any driver came.
    pub(crate) fn running(backend: Backend) -> Self {
        let rig = Self::shell(&[backend.kind()]);
        rig.thread.attach(vec![backend]).unwrap();
        rig.thread.run().unwrap();
        rig
    }

    pub(crate) fn transport(&self, slot: usize) -> Arc<Transport> {
        Arc::clone(&self.thread.transports()[slot])
    }
}

/// Waits until `fd` is readable; false at the deadline.
pub(crate) fn readable(fd: &impl AsRawFd, until: Instant) -> bool {
    let epoll = Epoll::new().unwrap();
    let event = EpollEvent::new(EventSet::IN, 0);
    epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), event).unwrap();
    let left = until.saturating_duration_since(Instant::now());
    epoll.wait(left.as_millis() as i32, &mut [EpollEvent::default()]).unwrap() > 0
}

/// Waits for a condition that another thread brings about; panics at the deadline.
pub(crate) fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}
