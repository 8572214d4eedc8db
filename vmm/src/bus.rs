//! Where a guest's port and memory-mapped accesses go.
//!
//! A plain table, fixed when the machine is built and shared by its vCPU threads without a lock.
//! Handlers return what should happen next as an [`Effect`]; they call nothing back. Addresses
//! that nothing claims read as all ones and swallow writes, as an empty PC bus does.

use std::sync::Arc;

use crate::layout::{
    COM1, I8042_COMMAND, RESET, SLEEP_CONTROL, SLEEP_STATUS, VIRTIO_BASE, VIRTIO_WINDOW,
};
use crate::serial::SerialPort;
use crate::virtio::Transport;

/// Registers of a 16550A.
const UART_PORTS: u16 = 8;
/// Keyboard controller command: pulse the reset line (IBM PC AT technical reference, 8042).
const I8042_RESET: u8 = 0xfe;
/// ACPI sleep control: SLP_EN in bit 5, SLP_TYP in bits 2–4 (ACPI 6.5, table 4.18).
const SLEEP_ENABLE: u8 = 1 << 5;
/// SLP_TYP of soft-off, as the `_S5` package of our DSDT says.
pub(crate) const SLEEP_TYPE_S5: u8 = 5;

/// What a guest's access asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Go on.
    None,
    /// The guest turned itself off.
    PowerOff,
    /// The guest asked to be reset.
    Reset,
}

/// The devices of one machine by address.
pub(crate) struct Bus {
    serial: Arc<SerialPort>,
    virtio: Vec<Arc<Transport>>,
}

impl Bus {
    /// A bus with the given devices; `virtio[n]` answers in window *n*.
    pub(crate) fn new(serial: Arc<SerialPort>, virtio: Vec<Arc<Transport>>) -> Self {
        Self { serial, virtio }
    }

    /// `in` from a port.
    pub(crate) fn port_in(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        let Some(first) = data.first_mut() else { return };
        match port {
            p if in_uart(p) => *first = self.serial.read(uart_register(p)),
            // Nothing waits in either direction, so that a driver that polls goes on at once.
            I8042_COMMAND => *first = 0,
            SLEEP_STATUS => *first = 0,
            _ => {}
        }
    }

    /// `out` to a port.
    pub(crate) fn port_out(&self, port: u16, data: &[u8]) -> Effect {
        let Some(&value) = data.first() else { return Effect::None };
        match port {
            p if in_uart(p) => self.serial.write(uart_register(p), value),
            I8042_COMMAND if value == I8042_RESET => return Effect::Reset,
            RESET => return Effect::Reset,
            SLEEP_CONTROL if value & SLEEP_ENABLE != 0 && (value >> 2) & 7 == SLEEP_TYPE_S5 => {
                return Effect::PowerOff;
            }
            _ => {}
        }
        Effect::None
    }

    /// Load from device memory.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        match self.window(address) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Store to device memory.
    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.window(address) {
            device.write(offset, data);
        }
    }

    fn window(&self, address: u64) -> Option<(&Transport, u64)> {
        let offset = address.checked_sub(VIRTIO_BASE)?;
        let device = self.virtio.get(usize::try_from(offset / VIRTIO_WINDOW).ok()?)?;
        Some((device, offset % VIRTIO_WINDOW))
    }
}

fn in_uart(port: u16) -> bool {
    (COM1..COM1 + UART_PORTS).contains(&port)
}

#[allow(clippy::cast_possible_truncation, reason = "at most 7")]
fn uart_register(port: u16) -> u8 {
    (port - COM1) as u8
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EventFd;

    use super::*;

    fn bus() -> Bus {
        Bus::new(Arc::new(SerialPort::new(EventFd::new(0).unwrap())), Vec::new())
    }

    #[test]
    fn empty_addresses_float_high() {
        let mut data = [0; 4];
        bus().port_in(0x1234, &mut data);
        assert_eq!(data, [0xff; 4]);
        for address in [0, VIRTIO_BASE, VIRTIO_BASE - 1, u64::MAX] {
            data = [0; 4];
            bus().read(address, &mut data);
            assert_eq!(data, [0xff; 4]);
            bus().write(address, &data);
        }
    }

    #[test]
    fn every_way_to_end_a_machine_ends_it() {
        assert_eq!(bus().port_out(I8042_COMMAND, &[I8042_RESET]), Effect::Reset);
        assert_eq!(bus().port_out(RESET, &[1]), Effect::Reset);
        let off = SLEEP_ENABLE | (SLEEP_TYPE_S5 << 2);
        assert_eq!(bus().port_out(SLEEP_CONTROL, &[off]), Effect::PowerOff);
    }

    #[test]
    fn a_sleep_type_alone_does_nothing() {
        assert_eq!(bus().port_out(SLEEP_CONTROL, &[SLEEP_TYPE_S5 << 2]), Effect::None);
        assert_eq!(bus().port_out(SLEEP_CONTROL, &[SLEEP_ENABLE]), Effect::None);
        assert_eq!(bus().port_out(I8042_COMMAND, &[0xaa]), Effect::None);
    }

    #[test]
    fn empty_accesses_are_harmless() {
        bus().port_in(COM1, &mut []);
        assert_eq!(bus().port_out(COM1, &[]), Effect::None);
    }
}
