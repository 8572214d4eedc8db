//! How a machine ends, and how the word gets out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use thiserror::Error;

use crate::vcpu::Kick;

/// The end of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest turned itself off.
    PowerOff,
    /// The guest reset itself, by request or by a triple fault (which is how Linux reboots when
    /// told `reboot=t`, and how a broken guest dies: the two look alike from outside).
    Reset,
    /// A vCPU could not go on.
    Failed(VcpuFault),
}

/// Why a vCPU could not go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VcpuFault {
    /// The processor refused the guest's state.
    #[error("vCPU {vcpu} cannot enter the guest (hardware reason {reason:#x})")]
    Entry {
        /// Number of the vCPU.
        vcpu: u8,
        /// As the hardware gives it: VMX instruction error or SVM exit code.
        reason: u64,
    },
    /// KVM met something that it cannot emulate.
    #[error("KVM cannot emulate what vCPU {vcpu} does at {rip:#x}")]
    Emulation {
        /// Number of the vCPU.
        vcpu: u8,
        /// Guest instruction pointer.
        rip: u64,
    },
    /// An exit that this machine never asked for.
    #[error("vCPU {vcpu} left the guest for an unknown reason: {exit}")]
    UnknownExit {
        /// Number of the vCPU.
        vcpu: u8,
        /// KVM's name of the exit.
        exit: String,
    },
    /// The vCPU's thread panicked: a bug of ours.
    #[error("the thread of vCPU {vcpu} panicked")]
    Panicked {
        /// Number of the vCPU.
        vcpu: u8,
    },
    /// `KVM_RUN` itself failed.
    #[error("KVM_RUN failed on vCPU {vcpu}: {errno}")]
    Run {
        /// Number of the vCPU.
        vcpu: u8,
        /// The kernel's reason.
        errno: Errno,
    },
}

/// Holds the first end that any vCPU reports, and a descriptor that is readable from then on.
#[derive(Debug)]
pub(crate) struct ExitSlot {
    first: Mutex<Option<Exit>>,
    event: EventFd,
    /// Sends every vCPU out of the guest: where one has ended, the others must not go on.
    vcpus: OnceLock<Vec<Arc<Kick>>>,
}

impl ExitSlot {
    pub(crate) fn new() -> io::Result<Self> {
        let event =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { first: Mutex::new(None), event, vcpus: OnceLock::new() })
    }

    /// Reports an end; only the first counts.
    pub(crate) fn report(&self, exit: Exit) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(exit);
            for vcpu in self.vcpus.get().into_iter().flatten() {
                vcpu.kick();
            }
            // Adding one to a fresh counter cannot overflow, the only way for this to fail.
            let _ = self.event.write(1);
        }
    }

    /// Names the vCPUs of the machine, once they are all there.
    pub(crate) fn watch(&self, vcpus: Vec<Arc<Kick>>) {
        let _ = self.vcpus.set(vcpus);
    }

    /// The end, if it has come.
    pub(crate) fn get(&self) -> Option<Exit> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Blocks until the end has come.
    pub(crate) fn wait(&self) -> Exit {
        loop {
            if let Some(exit) = self.get() {
                return exit;
            }
            let mut fds = [PollFd::new(self.event.as_fd(), PollFlags::POLLIN)];
            // Interrupted or not: look again.
            let _ = poll(&mut fds, PollTimeout::NONE);
        }
    }

    /// Readable once the end has come.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
