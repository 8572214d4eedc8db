//! The serial port: a 16550A for debugging, with its saved state.
//!
//! The register file is vm-superio's. A console is a debugging aid: output that its sink refuses
//! is dropped. A sink is written to on the vCPU's thread, so one that may block (a pipe, a
//! terminal) must be made non-blocking by whoever hands it over, or the guest waits for it.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, SerialState as Registers, Trigger};

use crate::irq::IrqLine;

/// Where the guest's console output goes.
pub type Console = Box<dyn Write + Send>;

/// The port's interrupt line, as vm-superio wants it.
#[derive(Clone)]
struct Line(Arc<dyn IrqLine>);

impl Trigger for Line {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.raise();
        Ok(())
    }
}

/// The port, shared by the vCPU threads; held for one register access at a time.
pub(crate) struct SerialPort {
    uart: Mutex<Serial<Line, NoEvents, Console>>,
    irq: Line,
}

impl SerialPort {
    /// A port after power-on, with its output thrown away until [`SerialPort::connect`].
    pub(crate) fn new(irq: impl IrqLine + 'static) -> Self {
        let irq = Line(Arc::new(irq));
        let uart = Serial::new(irq.clone(), Box::new(io::sink()) as Console);
        Self { uart: Mutex::new(uart), irq }
    }

    fn uart(&self) -> MutexGuard<'_, Serial<Line, NoEvents, Console>> {
        // Registers are plain bytes: a panic between two of them leaves no broken invariant.
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the guest's output to `console` from now on.
    pub(crate) fn connect(&self, console: Console) {
        *self.uart().writer_mut() = console;
    }

    /// Hands the guest input as far as its 64-byte FIFO has room; returns the bytes taken.
    pub(crate) fn input(&self, bytes: &[u8]) -> usize {
        self.uart().enqueue_raw_bytes(bytes).unwrap_or(0)
    }

    /// Reads register `offset`.
    pub(crate) fn read(&self, offset: u8) -> u8 {
        self.uart().read(offset)
    }

    /// Writes register `offset`.
    pub(crate) fn write(&self, offset: u8, value: u8) {
        // The error is the console's; see the module's word on debugging aids.
        let _ = self.uart().write(offset, value);
    }

    /// The registers, for a snapshot.
    pub(crate) fn save(&self) -> SerialState {
        SerialState::from(self.uart().state())
    }

    /// Takes on saved registers; the console stays. An interrupt that was pending is raised again.
    pub(crate) fn load(&self, state: SerialState) -> Result<(), SerialError> {
        let mut uart = self.uart();
        let console = std::mem::replace(uart.writer_mut(), Box::new(io::sink()));
        *uart = Serial::from_state(&state.into(), self.irq.clone(), NoEvents, console)
            .map_err(|_| SerialError)?;
        Ok(())
    }
}

/// A saved port that cannot be: its input does not fit the FIFO, or its interrupt cannot be raised.
#[derive(Debug, thiserror::Error)]
#[error("the saved serial port is damaged")]
pub struct SerialError;

/// Registers of the port as a snapshot keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fuzzing", derive(Default))]
pub(crate) struct SerialState {
    divisor: [u8; 2],
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    input: Vec<u8>,
}

impl From<Registers> for SerialState {
    fn from(r: Registers) -> Self {
        Self {
            divisor: [r.baud_divisor_low, r.baud_divisor_high],
            interrupt_enable: r.interrupt_enable,
            interrupt_identification: r.interrupt_identification,
            line_control: r.line_control,
            line_status: r.line_status,
            modem_control: r.modem_control,
            modem_status: r.modem_status,
            scratch: r.scratch,
            input: r.in_buffer,
        }
    }
}

impl From<SerialState> for Registers {
    fn from(s: SerialState) -> Self {
        Self {
            baud_divisor_low: s.divisor[0],
            baud_divisor_high: s.divisor[1],
            interrupt_enable: s.interrupt_enable,
            interrupt_identification: s.interrupt_identification,
            line_control: s.line_control,
            line_status: s.line_status,
            modem_control: s.modem_control,
            modem_status: s.modem_status,
            scratch: s.scratch,
            in_buffer: s.input,
        }
    }
}
