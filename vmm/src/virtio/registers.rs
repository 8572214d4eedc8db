//! The register file of one virtio-mmio device (VIRTIO 1.3, §4.2.2), without locks or wires.
//!
//! ```text
//!  status   0 ─ACKNOWLEDGE─► 1 ─DRIVER─► 3 ─FEATURES_OK─► b ─DRIVER_OK─► f     (each step once, in order)
//!           ▲                                  only if offered ⊇ accepted ∋ VERSION_1
//!           └── write of 0: reset, from anywhere        │ FAILED (driver) · NEEDS_RESET (device)
//! ```
//!
//! A write is answered with a [`Command`]: what the transport must do outside of the register file.
//! Writes that the status does not allow — queue set-up before FEATURES_OK or after DRIVER_OK,
//! features after FEATURES_OK, bits taken back — change nothing.

mod queue;
mod saved;
#[cfg(test)]
mod tests;

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER as DRIVER,
    VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK, VIRTIO_CONFIG_S_FAILED as FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio as mmio;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::device::{Kind, Offer};
pub(super) use queue::QueueRegisters;

/// "virt", little endian.
const MAGIC: u32 = 0x7472_6976;
/// Version 2 is the non-legacy interface.
const VERSION: u32 = 2;
/// Vendor id "CALV", little endian; drivers only print it.
const VENDOR: u32 = 0x564c_4143;
/// Not a legacy device; without it a driver is refused.
const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;

/// Features of the transport itself, offered for every device.
pub(super) const TRANSPORT_FEATURES: u64 = VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX;

/// What a register write asks for beyond the register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing.
    None,
    /// The driver is ready: start the device.
    Start,
    /// Stop the device, then call [`Registers::reset`].
    Reset,
    /// The driver gave up: stop the device.
    Halt,
    /// The driver kicked this queue.
    Notify(usize),
    /// The driver handled these interrupts.
    Acknowledge(u32),
}

/// The register file.
#[derive(Clone, Debug)]
pub(super) struct Registers {
    kind: Kind,
    offered: u64,
    config: Vec<u8>,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    status: u32,
    generation: u32,
    queues: Vec<QueueRegisters>,
}

impl Registers {
    /// A device at power-on; the transport adds its own features to the offer.
    pub(super) fn new(kind: Kind, offer: Offer<'_>) -> Self {
        Self {
            kind,
            offered: offer.features | TRANSPORT_FEATURES,
            config: offer.config.to_vec(),
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            status: 0,
            generation: 0,
            queues: (0..kind.queues()).map(|i| QueueRegisters::new(kind.queue_max(i))).collect(),
        }
    }

    /// Back to power-on, as a write of zero to Status asks.
    pub(super) fn reset(&mut self) {
        let generation = self.generation;
        let config = std::mem::take(&mut self.config);
        *self = Self::new(self.kind, Offer { features: self.offered, config: &config });
        self.generation = generation;
    }

    /// The driver is done with its set-up and nobody gave up since.
    pub(super) const fn running(&self) -> bool {
        self.status & (DRIVER_OK | FAILED | NEEDS_RESET) == DRIVER_OK
    }

    /// The driver has been ready at some time since the last reset.
    pub(super) const fn was_started(&self) -> bool {
        self.status & DRIVER_OK != 0
    }

    pub(super) const fn driver_features(&self) -> u64 {
        self.driver_features
    }

    pub(super) fn queues(&self) -> &[QueueRegisters] {
        &self.queues
    }

    /// The device cannot go on. True where the driver must be told.
    pub(super) fn set_needs_reset(&mut self) -> bool {
        self.status |= NEEDS_RESET;
        self.was_started()
    }

    /// Reads the control register at `offset`; interrupt status is the transport's.
    pub(super) fn read(&self, offset: u32) -> u32 {
        let queue = self.queue();
        match offset {
            mmio::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            mmio::VIRTIO_MMIO_VERSION => VERSION,
            mmio::VIRTIO_MMIO_DEVICE_ID => self.kind.id(),
            mmio::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            mmio::VIRTIO_MMIO_DEVICE_FEATURES => half(self.offered, self.device_features_sel),
            mmio::VIRTIO_MMIO_QUEUE_NUM_MAX => {
                queue.map_or(0, |(index, _)| u32::from(self.kind.queue_max(index)))
            }
            mmio::VIRTIO_MMIO_QUEUE_READY => queue.map_or(0, |(_, queue)| u32::from(queue.ready)),
            mmio::VIRTIO_MMIO_STATUS => self.status,
            // A region that does not exist has length and base of all ones (§4.2.2).
            mmio::VIRTIO_MMIO_SHM_LEN_LOW..=mmio::VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            mmio::VIRTIO_MMIO_CONFIG_GENERATION => self.generation,
            _ => 0,
        }
    }

    /// Reads the config space: any width, zeros beyond its end.
    pub(super) fn read_config(&self, offset: usize, data: &mut [u8]) {
        data.fill(0);
        if let Some(rest) = self.config.get(offset..) {
            let len = rest.len().min(data.len());
            data[..len].copy_from_slice(&rest[..len]);
        }
    }

    /// Writes the control register at `offset`. Config spaces of our devices are read-only.
    pub(super) fn write(&mut self, offset: u32, value: u32) -> Command {
        match offset {
            mmio::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_features_sel = value,
            mmio::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            mmio::VIRTIO_MMIO_DRIVER_FEATURES if self.status & FEATURES_OK == 0 => {
                set_half(&mut self.driver_features, self.driver_features_sel, value);
            }
            mmio::VIRTIO_MMIO_QUEUE_SEL => self.queue_sel = value,
            mmio::VIRTIO_MMIO_QUEUE_NOTIFY => return self.notify(value),
            mmio::VIRTIO_MMIO_INTERRUPT_ACK => return Command::Acknowledge(value),
            mmio::VIRTIO_MMIO_STATUS => return self.write_status(value),
            _ => self.write_queue(offset, value),
        }
        Command::None
    }

    fn notify(&self, value: u32) -> Command {
        match usize::try_from(value) {
            Ok(index) if index < self.queues.len() => Command::Notify(index),
            _ => Command::None,
        }
    }

    fn write_queue(&mut self, offset: u32, value: u32) {
        let set_up = self.status & (FEATURES_OK | DRIVER_OK | FAILED | NEEDS_RESET) == FEATURES_OK;
        let Some(queue) = usize::try_from(self.queue_sel)
            .ok()
            .and_then(|index| self.queues.get_mut(index))
            .filter(|_| set_up)
        else {
            return;
        };
        if offset == mmio::VIRTIO_MMIO_QUEUE_READY {
            queue.ready = value & 1 != 0;
        }
        if queue.ready {
            return; // its set-up is closed
        }
        match offset {
            mmio::VIRTIO_MMIO_QUEUE_NUM => queue.size = u16::try_from(value).unwrap_or(0),
            mmio::VIRTIO_MMIO_QUEUE_DESC_LOW => set_half(&mut queue.descriptors, 0, value),
            mmio::VIRTIO_MMIO_QUEUE_DESC_HIGH => set_half(&mut queue.descriptors, 1, value),
            mmio::VIRTIO_MMIO_QUEUE_AVAIL_LOW => set_half(&mut queue.driver, 0, value),
            mmio::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => set_half(&mut queue.driver, 1, value),
            mmio::VIRTIO_MMIO_QUEUE_USED_LOW => set_half(&mut queue.device, 0, value),
            mmio::VIRTIO_MMIO_QUEUE_USED_HIGH => set_half(&mut queue.device, 1, value),
            _ => {}
        }
    }

    fn write_status(&mut self, value: u32) -> Command {
        if value == 0 {
            return Command::Reset;
        }
        if value & FAILED != 0 && self.status & FAILED == 0 {
            self.status |= FAILED;
            return Command::Halt;
        }
        let steps = [
            (ACKNOWLEDGE, 0),
            (DRIVER, ACKNOWLEDGE),
            (FEATURES_OK, DRIVER),
            (DRIVER_OK, FEATURES_OK),
        ];
        for (step, before) in steps {
            let due = value & step != 0 && self.status & step == 0;
            if !due || self.status & before != before || self.status & (FAILED | NEEDS_RESET) != 0 {
                continue;
            }
            if step == FEATURES_OK && !self.features_fit() {
                continue;
            }
            self.status |= step;
            if step == DRIVER_OK {
                return Command::Start;
            }
        }
        Command::None
    }

    const fn features_fit(&self) -> bool {
        self.driver_features & !self.offered == 0 && self.driver_features & VERSION_1 != 0
    }

    fn queue(&self) -> Option<(usize, &QueueRegisters)> {
        let index = usize::try_from(self.queue_sel).ok()?;
        Some((index, self.queues.get(index)?))
    }
}

/// One 32-bit half of a 64-bit value; there is nothing beyond the second.
const fn half(value: u64, select: u32) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // the low half is what is wanted
    match select {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

fn set_half(target: &mut u64, select: u32, value: u32) {
    match select {
        0 => *target = *target & !0xffff_ffff | u64::from(value),
        1 => *target = *target & 0xffff_ffff | u64::from(value) << 32,
        _ => {}
    }
}
