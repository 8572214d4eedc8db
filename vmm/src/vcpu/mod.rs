//! One vCPU and the thread that alone talks to it.
//!
//! ```text
//!            run()                    kick: immediate_exit + signal
//!  Parked ───────────► in the guest ────────────────────────────────► Parked
//!    │  with(f): runs f on the thread          │ power-off, reset, fault
//!    └─────────────────────────────────────────┴──► ExitSlot, Parked
//! ```
//!
//! KVM wants every call on a vCPU to come from one thread, so everything that touches its state
//! is a closure sent to that thread. A machine starts its vCPU threads at birth; thawing sends
//! them work and creates nothing.

pub(crate) mod cpuid;
mod kick;
pub(crate) mod state;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::errno::Errno;
use nix::libc;
use nix::time::{ClockId, clock_gettime};
use thiserror::Error;

use crate::bus::{Bus, Effect};
use crate::exit::{Exit, ExitSlot, VcpuFault};
pub(crate) use kick::Kick;

/// Why a vCPU's thread cannot be had or reached.
#[derive(Debug, Error)]
pub enum VcpuError {
    /// The shared page cannot be mapped.
    #[error("cannot map the state page of vCPU {0}")]
    Map(u8, #[source] nix::Error),
    /// No thread.
    #[error("cannot start the thread of vCPU {0}")]
    Spawn(u8, #[source] io::Error),
    /// The thread has ended, which it only does when the machine is dropped or it panicked.
    #[error("the thread of vCPU {0} is gone")]
    Gone(u8),
}

type Job = Box<dyn FnOnce(&mut VcpuFd) + Send>;

enum Command {
    With(Job),
    Run,
}

/// A closure on its way through a vCPU's thread.
#[must_use = "what it returns may be an error"]
pub(crate) struct Pending<R> {
    vcpu: u8,
    answer: Receiver<R>,
}

impl<R> Pending<R> {
    /// Waits for its result.
    pub(crate) fn wait(self) -> Result<R, VcpuError> {
        self.answer.recv().map_err(|_| VcpuError::Gone(self.vcpu))
    }
}

/// A handle on one vCPU thread. Dropping it stops and joins the thread.
pub(crate) struct Vcpu {
    index: u8,
    kick: Arc<Kick>,
    commands: Option<Sender<Command>>,
    entered: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Vcpu {
    /// Starts the thread of a vCPU, parked; returns when it has.
    pub(crate) fn spawn(
        index: u8,
        fd: VcpuFd,
        run_size: usize,
        bus: Arc<Bus>,
        exits: Arc<ExitSlot>,
    ) -> Result<Self, VcpuError> {
        kick::install_handler();
        let kick = Arc::new(Kick::new(&fd, run_size).map_err(|e| VcpuError::Map(index, e))?);
        let (commands, inbox) = channel();
        let entered = Arc::new(AtomicU64::new(0));
        let runner = Runner { index, fd, bus, exits, kick: kick.clone(), entered: entered.clone() };
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{index}"))
            .spawn(move || runner.serve(&inbox))
            .map_err(|e| VcpuError::Spawn(index, e))?;
        let vcpu = Self { index, kick, commands: Some(commands), entered, thread: Some(thread) };
        // A seccomp filter that a caller installs next must not meet a thread that is still
        // making the system calls of its start.
        vcpu.with(|_| ())?;
        Ok(vcpu)
    }

    fn send(&self, command: Command) -> Result<(), VcpuError> {
        let sender = self.commands.as_ref().ok_or(VcpuError::Gone(self.index))?;
        sender.send(command).map_err(|_| VcpuError::Gone(self.index))
    }

    /// Runs `f` on the vCPU's thread and returns its result; waits until the vCPU is out of the
    /// guest, so it must be parked or [kicked](Self::kick).
    pub(crate) fn with<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut VcpuFd) -> R + Send + 'static,
    ) -> Result<R, VcpuError> {
        self.start(f)?.wait()
    }

    /// Like [`with`](Self::with), without waiting.
    pub(crate) fn start<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut VcpuFd) -> R + Send + 'static,
    ) -> Result<Pending<R>, VcpuError> {
        let (reply, answer) = channel();
        self.send(Command::With(Box::new(move |fd| {
            // The caller may have given up; then the result is nobody's.
            let _ = reply.send(f(fd));
        })))?;
        Ok(Pending { vcpu: self.index, answer })
    }

    /// Lets a parked vCPU into the guest. Its kick must have been cleared before: with several
    /// vCPUs, all of theirs before any of them runs, or the kick by which the end of one stops the
    /// others is lost.
    pub(crate) fn run(&self) -> Result<(), VcpuError> {
        self.send(Command::Run)
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
        self.commands = None;
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
    fd: VcpuFd,
    bus: Arc<Bus>,
    exits: Arc<ExitSlot>,
    kick: Arc<Kick>,
    entered: Arc<AtomicU64>,
}

impl Runner {
    fn serve(mut self, inbox: &Receiver<Command>) {
        self.kick.adopt();
        let _guard = PanicGuard { vcpu: self.index, exits: self.exits.clone() };
        while let Ok(command) = inbox.recv() {
            match command {
                Command::With(job) => job(&mut self.fd),
                Command::Run => {
                    self.entered.store(monotonic_ns(), Ordering::Release);
                    if let Some(exit) = self.run() {
                        self.exits.report(exit);
                    }
                }
            }
        }
    }

    /// Runs the guest until kicked (`None`) or at its end.
    fn run(&mut self) -> Option<Exit> {
        loop {
            match self.fd.run() {
                Ok(exit) => match dispatch(&self.bus, exit) {
                    Next::Enter => {}
                    Next::End(exit) => return Some(exit),
                    Next::Fault(kind) => return Some(Exit::Failed(self.fault(kind))),
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

    fn fault(&self, kind: Fault) -> VcpuFault {
        let vcpu = self.index;
        match kind {
            Fault::Entry(reason) => VcpuFault::Entry { vcpu, reason },
            Fault::Unknown(exit) => VcpuFault::UnknownExit { vcpu, exit },
            Fault::Emulation => {
                let rip = self.fd.get_regs().map_or(0, |r| r.rip);
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
