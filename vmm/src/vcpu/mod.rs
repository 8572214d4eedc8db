//! One vCPU and the thread that runs it.
//!
//! ```text
//!             run(): the descriptor goes to the thread
//!  parked ──────────────────────────────────────────────► in the guest
//!    ▲  with(f): runs f on the caller's thread                 │ kick: immediate_exit + signal
//!    └────────── the descriptor comes back ────────────────────┴ power-off, reset, fault ──► ExitSlot
//! ```
//!
//! Whoever has the descriptor has the vCPU: the handle while it is parked, its thread while it runs. So a
//! thaw loads state without a switch of threads. It [rouses](Vcpu::rouse) the thread that is to run a moment before
//! it is done, where there is a processor to spare, so that nobody waits for its waking up.

mod banks;
pub(crate) mod cpuid;
mod entry;
mod kick;
pub(crate) mod newborn;
mod power_on;
pub(crate) mod state;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::errno::Errno;
use nix::libc;
use nix::time::{ClockId, clock_gettime};
use thiserror::Error;

use crate::bus::{Bus, Effect};
use crate::exit::{Exit, ExitSlot, VcpuFault};
use crate::{patience, thread};
pub(crate) use kick::Kick;

/// Why a vCPU's thread cannot be had or reached.
#[derive(Debug, Error)]
pub enum VcpuError {
    /// The shared page cannot be mapped.
    #[error("cannot map the state page of vCPU {0}")]
    Map(u8, #[source] nix::Error),
    /// No thread, or none that can be confined as its machine's owner wants it.
    #[error("cannot start the thread of vCPU {0}")]
    Spawn(u8, #[source] io::Error),
    /// The thread has ended, which it only does when the machine is dropped or it panicked.
    #[error("the thread of vCPU {0} is gone")]
    Gone(u8),
}

/// A handle on one vCPU. Dropping it stops and joins its thread.
pub(crate) struct Vcpu {
    index: u8,
    kick: Arc<Kick>,
    /// To its thread; `None` once the thread was told to end.
    outbox: Option<Sender<Order>>,
    parked: Mutex<Parked>,
    entered: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// What a vCPU's thread is told.
enum Order {
    /// Be awake: the vCPU will follow soon.
    Rouse,
    /// Run this vCPU.
    Run(VcpuFd),
}

/// Where a vCPU is when it is not in the guest.
struct Parked {
    /// `None` while the thread has it.
    fd: Option<VcpuFd>,
    /// Brings it back.
    inbox: Receiver<VcpuFd>,
}

impl Vcpu {
    /// Starts the thread of a vCPU, which is parked; returns when it has started and run `confine` on itself.
    pub(crate) fn spawn(
        index: u8,
        fd: VcpuFd,
        run_size: usize,
        bus: Arc<Bus>,
        exits: Arc<ExitSlot>,
        confine: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<Self, VcpuError> {
        kick::install_handler();
        let kick = Arc::new(Kick::new(&fd, run_size).map_err(|e| VcpuError::Map(index, e))?);
        let (outbox, orders) = channel();
        let (results, inbox) = channel();
        let entered = Arc::new(AtomicU64::new(0));
        let runner = Runner { index, bus, exits, kick: kick.clone(), entered: entered.clone() };
        let its_kick = kick.clone();
        let confine = move || {
            its_kick.adopt();
            confine()
        };
        let body = move || runner.serve(&orders, &results);
        let thread = thread::spawn(format!("vcpu{index}"), confine, body);
        let thread = thread.map_err(|e| VcpuError::Spawn(index, e))?;
        let parked = Mutex::new(Parked { fd: Some(fd), inbox });
        Ok(Self { index, kick, outbox: Some(outbox), parked, entered, thread: Some(thread) })
    }

    /// Runs `f` on the vCPU; waits until it is out of the guest, so it must be parked or
    /// [kicked](Self::kick).
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut VcpuFd) -> R) -> Result<R, VcpuError> {
        let mut parked = self.parked();
        if parked.fd.is_none() {
            let fd = patience::receive(&parked.inbox).map_err(|_| VcpuError::Gone(self.index))?;
            parked.fd = Some(fd);
        }
        parked.fd.as_mut().map(f).ok_or(VcpuError::Gone(self.index))
    }

    /// Lets a parked vCPU into the guest. Its kick must have been cleared before: with several
    /// vCPUs, all of theirs before any of them runs, or the kick by which the end of one stops the
    /// others is lost.
    pub(crate) fn run(&self) -> Result<(), VcpuError> {
        // One that has come out by itself is fetched first.
        self.with(|_| ())?;
        let outbox = self.outbox.as_ref().ok_or(VcpuError::Gone(self.index))?;
        let Some(fd) = self.parked().fd.take() else { return Err(VcpuError::Gone(self.index)) };
        outbox.send(Order::Run(fd)).map_err(|_| VcpuError::Gone(self.index))
    }

    /// Wakes the thread of a parked vCPU, which is going to be needed. Without effect on anything but how soon it
    /// takes its next order.
    pub(crate) fn rouse(&self) {
        if let Some(outbox) = &self.outbox {
            // A thread that is gone is noticed by its next order.
            let _ = outbox.send(Order::Rouse);
        }
    }

    fn parked(&self) -> MutexGuard<'_, Parked> {
        // A descriptor that is there or not: nothing that a panic could leave half done.
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What sends the vCPU out of the guest, without waiting for it.
    pub(crate) fn kick(&self) -> &Arc<Kick> {
        &self.kick
    }

    /// When the vCPU last went from parked into the guest: nanoseconds of CLOCK_MONOTONIC, 0
    /// before the first time.
    pub(crate) fn entered_ns(&self) -> u64 {
        self.entered.load(Ordering::Acquire)
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.outbox = None;
        self.kick.kick();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has already been printed.
            let _ = thread.join();
        }
    }
}

/// What the thread owns.
struct Runner {
    index: u8,
    bus: Arc<Bus>,
    exits: Arc<ExitSlot>,
    kick: Arc<Kick>,
    entered: Arc<AtomicU64>,
}

impl Runner {
    fn serve(self, orders: &Receiver<Order>, results: &Sender<VcpuFd>) {
        let _guard = PanicGuard { vcpu: self.index, exits: self.exits.clone() };
        let mut next = orders.recv();
        while let Ok(order) = next {
            next = match order {
                Order::Rouse => patience::receive_soon(orders),
                Order::Run(mut fd) => {
                    self.entered.store(monotonic_ns(), Ordering::Release);
                    let exit = self.run(&mut fd);
                    // First the word, then the vCPU: whoever has it again knows of its end.
                    exit.into_iter().for_each(|exit| self.exits.report(exit));
                    // The handle may be gone.
                    let _ = results.send(fd);
                    orders.recv()
                }
            };
        }
    }

    /// Runs the guest until kicked (`None`) or at its end.
    fn run(&self, fd: &mut VcpuFd) -> Option<Exit> {
        loop {
            match fd.run() {
                Ok(exit) => match dispatch(&self.bus, exit) {
                    Next::Enter => {}
                    Next::End(exit) => return Some(exit),
                    Next::Fault(kind) => return Some(Exit::Failed(self.fault(fd, kind))),
                },
                Err(e) => match e.errno() {
                    // KVM finished whatever the last exit left half done before it looked at
                    // `immediate_exit`, so the registers are whole here.
                    libc::EINTR if self.kick.is_set() => return None,
                    libc::EINTR | libc::EAGAIN => {}
                    errno => {
                        let errno = Errno::from_raw(errno);
                        return Some(Exit::Failed(VcpuFault::Run { vcpu: self.index, errno }));
                    }
                },
            }
        }
    }

    fn fault(&self, fd: &VcpuFd, kind: Fault) -> VcpuFault {
        let vcpu = self.index;
        match kind {
            Fault::Entry(reason) => VcpuFault::Entry { vcpu, reason },
            Fault::Unknown(exit) => VcpuFault::UnknownExit { vcpu, exit },
            Fault::Emulation => {
                let rip = fd.get_regs().map_or(0, |r| r.rip);
                VcpuFault::Emulation { vcpu, rip }
            }
        }
    }
}

/// Reports the end of a machine whose vCPU thread panics, so that nobody waits for it forever.
struct PanicGuard {
    vcpu: u8,
    exits: Arc<ExitSlot>,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.exits.report(Exit::Failed(VcpuFault::Panicked { vcpu: self.vcpu }));
        }
    }
}

enum Fault {
    Entry(u64),
    Emulation,
    Unknown(String),
}

/// What follows an exit.
enum Next {
    Enter,
    End(Exit),
    Fault(Fault),
}

fn dispatch(bus: &Bus, exit: VcpuExit<'_>) -> Next {
    match exit {
        VcpuExit::IoIn(port, data) => bus.port_in(port, data),
        VcpuExit::IoOut(port, data) => match bus.port_out(port, data) {
            Effect::None => {}
            Effect::PowerOff => return Next::End(Exit::PowerOff),
            Effect::Reset => return Next::End(Exit::Reset),
        },
        VcpuExit::MmioRead(address, data) => bus.read(address, data),
        VcpuExit::MmioWrite(address, data) => bus.write(address, data),
        // A signal, or an interrupt window that opened: nothing to do.
        VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::IoapicEoi(_) => {}
        VcpuExit::Shutdown => return Next::End(Exit::Reset),
        VcpuExit::SystemEvent(kind, _) => match kind {
            kvm_bindings::KVM_SYSTEM_EVENT_SHUTDOWN => return Next::End(Exit::PowerOff),
            kvm_bindings::KVM_SYSTEM_EVENT_RESET => return Next::End(Exit::Reset),
            other => return Next::Fault(Fault::Unknown(format!("system event {other}"))),
        },
        VcpuExit::FailEntry(reason, _) => return Next::Fault(Fault::Entry(reason)),
        VcpuExit::InternalError => return Next::Fault(Fault::Emulation),
        other => return Next::Fault(Fault::Unknown(format!("{other:?}"))),
    }
    Next::Enter
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    })
}
