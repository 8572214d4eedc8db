//! A machine with content, paused or running.
//!
//! ```text
//!           resume()
//!  Paused ──────────► Running ──► Ended (power-off, reset, fault)
//!     ▲                  │
//!     └──────────────────┘
//!           pause()
//! ```

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use thiserror::Error;

use crate::boot::BootError;
use crate::exit::Exit;
use crate::memory::{Branch, GuestMemory, MemoryError, Region, regions};
use crate::platform::{PlatformError, PlatformState};
use crate::serial::SerialError;
use crate::shape::Shape;
use crate::shell::{Attachments, Load, Parts, ThawMemory, attach, load};
use crate::state::MachineState;
use crate::vcpu::VcpuError;
use crate::vcpu::state::{VcpuState, VcpuStateError};
use crate::virtio;

/// What can go wrong with a machine.
#[derive(Debug, Error)]
pub enum MachineError {
    /// Guest memory.
    #[error("cannot give the machine its memory")]
    Memory(#[from] MemoryError),
    /// The kernel or what comes with it.
    #[error("cannot boot")]
    Boot(#[from] BootError),
    /// A vCPU's thread.
    #[error("cannot reach a vCPU")]
    Vcpu(#[from] VcpuError),
    /// A vCPU's state.
    #[error("cannot transfer a vCPU's state")]
    VcpuState(#[from] VcpuStateError),
    /// KVM's part of the machine.
    #[error("cannot transfer the interrupt controllers' state")]
    Platform(#[from] PlatformError),
    /// The serial port.
    #[error(transparent)]
    Serial(#[from] SerialError),
    /// A device.
    #[error("a device refused")]
    Device(#[from] virtio::Error),
    /// The generation identifier.
    #[error("cannot write the generation identifier")]
    Generation(#[source] io::Error),
    /// The state is of another shape than the shell.
    #[error("the state is of {state:?}, the shell of {shell:?}")]
    Shape {
        /// Shape of the shell.
        shell: Shape,
        /// Shape of the saved machine.
        state: Shape,
    },
    /// Too few or too many disks.
    #[error("{given} disks given, the machine has {wanted}")]
    Disks {
        /// Number given.
        given: usize,
        /// Number in the shape.
        wanted: u8,
    },
    /// Saving needs a paused machine.
    #[error("the machine is running: pause it first")]
    Running,
    /// Only a clone has something to go back to.
    #[error("the machine was booted, not thawed: there is nothing to reset it to")]
    Booted,
    /// A machine that has ended can neither go on nor be frozen.
    #[error("the machine has ended ({0:?}): boot or thaw another")]
    Ended(Exit),
}

/// A machine with content. Dropping it stops it and gives everything back.
pub struct Machine {
    parts: Parts,
    running: bool,
}

impl Machine {
    /// A machine that has not run yet.
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, running: false }
    }

    /// Lets the machine run. No effect on a running one.
    ///
    /// # Errors
    ///
    /// When the machine has ended, or one of its threads is gone.
    pub fn resume(&mut self) -> Result<(), MachineError> {
        if let Some(exit) = self.exit() {
            return Err(MachineError::Ended(exit));
        }
        if !self.running {
            self.running = true;
            self.parts.vcpus.iter().for_each(|vcpu| vcpu.kick().clear());
            for vcpu in &self.parts.vcpus {
                vcpu.run()?;
            }
            if !self.parts.spare_processor {
                // The devices' thread would come between.
                std::thread::yield_now();
            }
            // After the vCPUs, which somebody waits for: devices look at every queue when they
            // start, so what a guest asks of them in between is not lost.
            self.parts.devices.run()?;
        }
        Ok(())
    }

    /// Puts a clone back as it was when it was thawed from `state` and `memory`, with the host's side
    /// of its devices anew; it is paused then. Costs what the guest has written, not what it has.
    ///
    /// Whatever the guest did is undone: memory, processors, interrupt controllers, timers, clock,
    /// queues. Streams end. Its generation identifier is a new one, as after a thaw: it is another
    /// machine that runs next. Not for another tenant's use all the same: what a flaw of KVM or of a
    /// device has let the guest do to this process is not undone.
    ///
    /// `state` and `memory` must be the very ones of the thaw, which has checked them; others of the same
    /// shape make a machine that is neither.
    ///
    /// # Errors
    ///
    /// When the machine was booted, has ended, or was thawed from something of another shape; the
    /// machine must be dropped after any other error.
    pub fn reset(
        &mut self,
        state: &MachineState,
        memory: ThawMemory<'_>,
        attachments: Attachments,
    ) -> Result<(), MachineError> {
        if let Some(exit) = self.exit() {
            return Err(MachineError::Ended(exit));
        }
        let parts = &self.parts;
        if state.shape != parts.shape {
            return Err(MachineError::Shape { shell: parts.shape, state: state.shape });
        }
        if !parts.ram.is_thawed() {
            return Err(MachineError::Booted);
        }
        self.abandon()?;
        // The end may have come in the last moment.
        if let Some(exit) = self.exit() {
            return Err(MachineError::Ended(exit));
        }
        let parts = &self.parts;
        parts.ram.reset(memory.files, memory.plan, &parts.tables)?;
        load(parts, state, attachments, Load::Again)
    }

    /// Stops the machine: vCPUs out of the guest, I/O under way finished. No effect on a paused
    /// one.
    ///
    /// # Errors
    ///
    /// When one of its threads is gone.
    pub fn pause(&mut self) -> Result<(), MachineError> {
        if self.running {
            self.stop_vcpus()?;
            self.parts.devices.stop()?;
            self.running = false;
        }
        Ok(())
    }

    /// Stops the machine to forget what it was doing: vCPUs and devices leave it in any order.
    fn abandon(&mut self) -> Result<(), MachineError> {
        if self.running {
            self.parts.vcpus.iter().for_each(|vcpu| vcpu.kick().kick());
            self.parts.devices.stop()?;
            for vcpu in &self.parts.vcpus {
                vcpu.with(|_| ())?;
            }
            self.running = false;
        }
        Ok(())
    }

    fn stop_vcpus(&self) -> Result<(), MachineError> {
        for vcpu in &self.parts.vcpus {
            vcpu.kick().kick();
        }
        for vcpu in &self.parts.vcpus {
            // A stopped guest missed ticks through no fault of its own: this keeps its watchdog
            // quiet. EINVAL is a guest that has no paravirtual clock.
            vcpu.with(|fd| {
                let _ = fd.kvmclock_ctrl();
            })?;
        }
        Ok(())
    }

    /// Everything about a paused machine but its memory.
    ///
    /// # Errors
    ///
    /// When it runs or has ended, or KVM refuses to give up a piece of state.
    pub fn save(&self) -> Result<MachineState, MachineError> {
        if self.running {
            return Err(MachineError::Running);
        }
        if let Some(exit) = self.exit() {
            return Err(MachineError::Ended(exit));
        }
        let parts = &self.parts;
        let mut vcpus = Vec::with_capacity(parts.vcpus.len());
        for vcpu in &parts.vcpus {
            let saved = vcpu.with(|fd| VcpuState::save(fd, &parts.msrs))??;
            vcpus.push(Arc::new(saved));
        }
        Ok(MachineState {
            shape: parts.shape,
            platform: PlatformState::save(&parts.vm)?,
            serial: parts.serial.save(),
            vcpus,
            devices: parts.devices.save()?,
        })
    }

    /// Keeps a paused machine as it is, for others to go on from, and leaves it so that it can go on
    /// itself: its state, and its memory or what of it differs from what others have already. The
    /// machine may be resumed at once, while that is still being copied.
    ///
    /// A booted machine is no longer one afterwards: its memory file, which is the branch, belongs to all
    /// who go on from it, and it has no other.
    ///
    /// # Errors
    ///
    /// As [`Machine::save`], and when there is no memory for the copy. The machine can go on after an
    /// error of the latter kind only if it was thawed.
    pub fn branch(&mut self) -> Result<(MachineState, Branch), MachineError> {
        let state = self.save()?;
        let memory = self.parts.ram.branch(&self.parts.tables)?;
        Ok((state, memory))
    }

    /// Connects the devices of a paused machine to the host anew, as a thaw does: streams of before end,
    /// requests that the guest has made are kept, and its generation identifier is another.
    ///
    /// # Errors
    ///
    /// When it runs, or for attachments that do not match its shape. The machine must be dropped then.
    pub fn reconnect(&mut self, attachments: Attachments) -> Result<(), MachineError> {
        if self.running {
            return Err(MachineError::Running);
        }
        let devices = self.parts.devices.save()?;
        attach(&self.parts, attachments)?;
        self.parts.devices.load(devices)?;
        self.parts.generation.change().map_err(MachineError::Generation)
    }

    /// Where its memory lies, for whoever writes a snapshot of it.
    pub fn regions(&self) -> Vec<Region> {
        regions(&self.parts.shape)
    }

    /// Its memory, through vm-memory's volatile accessors.
    pub fn memory(&self) -> &GuestMemory {
        self.parts.ram.guest()
    }

    /// The file that a booted machine's memory lies in, end to end as [`Region::file_offset`]
    /// says; holes were never touched. None for a clone, whose memory is a private mapping.
    pub fn memory_file(&self) -> Option<&File> {
        self.parts.ram.memfd()
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.parts.shape
    }

    /// Its VM generation identifier, if its guest has not written over it: of another value in each machine, after
    /// each [`Machine::reset`] and each [`Machine::reconnect`].
    ///
    /// # Errors
    ///
    /// None that is known; the kernel's, if it has one.
    pub fn generation(&self) -> Result<[u8; 16], MachineError> {
        self.parts.generation.read().map_err(MachineError::Generation)
    }

    /// Types into the serial console; returns the bytes that its FIFO had room for.
    pub fn type_in(&self, bytes: &[u8]) -> usize {
        self.parts.serial.input(bytes)
    }

    /// When the first vCPU last entered the guest, nanoseconds of CLOCK_MONOTONIC; `None` before
    /// the first time. A vCPU enters a moment after [`Machine::resume`] returns.
    pub fn entered_ns(&self) -> Option<u64> {
        self.parts.vcpus.first().map(crate::vcpu::Vcpu::entered_ns).filter(|&ns| ns != 0)
    }

    /// The machine's end, if it has come.
    pub fn exit(&self) -> Option<Exit> {
        self.parts.exits.get()
    }

    /// A descriptor that becomes readable at the machine's end, for a poll loop.
    pub fn exit_fd(&self) -> BorrowedFd<'_> {
        self.parts.exits.fd()
    }

    /// Blocks until the machine ends.
    pub fn wait(&self) -> Exit {
        self.parts.exits.wait()
    }
}
