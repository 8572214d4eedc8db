//! Typing into the serial console.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use calve_vmm::Machine;

/// Bytes taken at once: the FIFO of a 16550A in the machine.
const FIFO: usize = 64;

/// Where typing comes from, and what the guest has not taken yet.
pub(crate) struct Keyboard {
    input: File,
    pending: Vec<u8>,
    open: bool,
}

impl Keyboard {
    pub(crate) fn new(input: File) -> Self {
        Self { input, pending: Vec::new(), open: true }
    }

    /// The descriptor to wait for, unless the guest has yet to take what came before.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (self.open && self.pending.is_empty()).then(|| self.input.as_fd())
    }

    /// Whether the guest has yet to take something. The serial port does not say when it has room,
    /// so the main loop looks again after a moment.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes what was typed; the descriptor is readable.
    pub(crate) fn read(&mut self) {
        let mut bytes = [0; FIFO];
        match self.input.read(&mut bytes) {
            Ok(0) => self.open = false,
            Ok(n) => self.pending.extend(&bytes[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            // A terminal that was closed.
            Err(_) => self.open = false,
        }
    }

    /// Gives the guest what it has room for.
    pub(crate) fn deliver(&mut self, machine: &Machine) {
        if !self.pending.is_empty() {
            let taken = machine.type_in(&self.pending);
            self.pending.drain(..taken.min(self.pending.len()));
        }
    }
}
