//! The part of a machine that is KVM's own and not a vCPU: interrupt controllers, timer, clock.
#![allow(unsafe_code)]

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY,
    kvm_clock_data, kvm_irqchip, kvm_pit_config, kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zerocopy::IntoBytes as _;

use crate::layout::{KVM_IDENTITY_MAP, KVM_TSS};

/// A KVM call on the VM that failed.
#[derive(Debug, Error)]
#[error("{call} failed")]
pub struct PlatformError {
    call: &'static str,
    source: kvm_ioctls::Error,
}

fn call(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> PlatformError {
    move |source| PlatformError { call, source }
}

/// What of a timer's state is not a moment.
fn timeless(pit: &kvm_pit_state2) -> kvm_pit_state2 {
    let mut pit = *pit;
    pit.channels.iter_mut().for_each(|channel| channel.count_load_time = 0);
    pit
}

/// Whether two timers are in one state.
fn same_timer(one: &kvm_pit_state2, two: &kvm_pit_state2) -> bool {
    timeless(one).as_bytes() == timeless(two).as_bytes()
}

/// Whether two interrupt controllers are in one state.
fn same(one: &kvm_irqchip, two: &kvm_irqchip) -> bool {
    one.as_bytes() == two.as_bytes()
}

/// Has an I/O APIC that is being loaded deliver an edge at `pin` in the same call: KVM injects whatever the state that
/// it is given says is pending (Linux `arch/x86/kvm/ioapic.c`, `kvm_set_ioapic`). A pin that the guest has masked, or
/// does not take edges at, stays as it is. The line is high afterwards.
fn pend(chip: &mut kvm_irqchip, pin: u32) {
    /// Redirection entry, bit 16 (Intel 82093AA, §3.2.4).
    const MASKED: u64 = 1 << 16;
    /// Bit 15: level-triggered. A line that stays high would interrupt for ever.
    const LEVEL: u64 = 1 << 15;
    // SAFETY: both are plain integers, valid whatever the bytes are.
    let mut ioapic = unsafe { chip.chip.ioapic };
    let entry = usize::try_from(pin).ok().and_then(|pin| ioapic.redirtbl.get(pin));
    // SAFETY: as above.
    let listens = entry.is_some_and(|entry| unsafe { entry.bits } & (MASKED | LEVEL) == 0);
    if listens {
        ioapic.irr |= 1 << pin;
        chip.chip.ioapic = ioapic;
    }
}

/// A timer that counts nothing, as KVM makes it. Loading it waits for what the old one has under way (Linux
/// `arch/x86/kvm/i8254.c`, `destroy_pit_timer`).
fn stopped() -> kvm_pit_state2 {
    /// A mode that there is not.
    const NONE: u8 = 0xff;
    let mut pit = kvm_pit_state2::default();
    pit.channels.iter_mut().for_each(|channel| channel.mode = NONE);
    pit
}

/// Gives a new VM its interrupt controllers and timer; before its first vCPU.
pub(crate) fn create(vm: &VmFd) -> Result<(), PlatformError> {
    vm.set_identity_map_address(KVM_IDENTITY_MAP).map_err(call("KVM_SET_IDENTITY_MAP_ADDR"))?;
    let tss = usize::try_from(KVM_TSS).unwrap_or_default();
    vm.set_tss_address(tss).map_err(call("KVM_SET_TSS_ADDR"))?;
    vm.create_irq_chip().map_err(call("KVM_CREATE_IRQCHIP"))?;
    // The speaker port is answered in the kernel too, for guests that calibrate against the PIT.
    let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    vm.create_pit2(pit).map_err(call("KVM_CREATE_PIT2"))
}

/// Interrupt controllers, timer and clock of a stopped machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PlatformState {
    /// Master PIC, slave PIC, I/O APIC.
    irqchips: [kvm_irqchip; 3],
    pit: kvm_pit_state2,
    clock_ns: u64,
}

/// The controllers in the order in which they are kept.
const CHIPS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

impl PlatformState {
    /// One that no machine was in, for fuzz targets.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn blank() -> Self {
        let irqchips = [kvm_irqchip::default(); 3];
        Self { irqchips, pit: kvm_pit_state2::default(), clock_ns: 0 }
    }

    /// Names the parts in which two states differ, but for the clock and the moment in which the timer
    /// was last loaded.
    pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let mut chips = self.irqchips.iter().zip(&other.irqchips);
        let differs = [
            ("interrupt controllers", chips.any(|(one, two)| !same(one, two))),
            ("timer", !same_timer(&self.pit, &other.pit)),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    pub(crate) fn save(vm: &VmFd) -> Result<Self, PlatformError> {
        let mut irqchips = [kvm_irqchip::default(); 3];
        for (chip, id) in irqchips.iter_mut().zip(CHIPS) {
            chip.chip_id = id;
            vm.get_irqchip(chip).map_err(call("KVM_GET_IRQCHIP"))?;
        }
        let pit = vm.get_pit2().map_err(call("KVM_GET_PIT2"))?;
        let clock_ns = vm.get_clock().map_err(call("KVM_GET_CLOCK"))?.clock;
        Ok(Self { irqchips, pit, clock_ns })
    }

    /// Loads the state over that of a machine that has run. Its timer is stopped first: it would go on to raise its
    /// line meanwhile, and controllers that are loaded already would keep that. `event` is the pin of the I/O APIC at which the guest is to
    /// find an interrupt.
    pub(crate) fn reload(&self, vm: &VmFd, event: u32) -> Result<(), PlatformError> {
        vm.set_pit2(&stopped()).map_err(call("KVM_SET_PIT2"))?;
        self.load_over(vm, None, event)
    }

    /// Loads the state into a VM that is as it was born; after the vCPUs', because an I/O APIC with a pending
    /// interrupt delivers it to local APICs at once. What would change nothing is left out: a guest under
    /// hardware-reduced ACPI touches neither the old interrupt controllers nor the timer. `event` as for [`PlatformState::reload`].
    pub(crate) fn load(&self, vm: &VmFd, newborn: &Self, event: u32) -> Result<(), PlatformError> {
        self.load_over(vm, Some(newborn), event)
    }

    fn load_over(
        &self,
        vm: &VmFd,
        newborn: Option<&Self>,
        event: u32,
    ) -> Result<(), PlatformError> {
        for (number, (chip, id)) in self.irqchips.iter().zip(CHIPS).enumerate() {
            let mut chip = kvm_irqchip { chip_id: id, ..*chip };
            if id == KVM_IRQCHIP_IOAPIC {
                pend(&mut chip, event);
            }
            if newborn.is_some_and(|newborn| same(&chip, &newborn.irqchips[number])) {
                continue;
            }
            vm.set_irqchip(&chip).map_err(call("KVM_SET_IRQCHIP"))?;
        }
        if newborn.is_none_or(|newborn| !same_timer(&self.pit, &newborn.pit)) {
            vm.set_pit2(&self.pit).map_err(call("KVM_SET_PIT2"))?;
        }
        // No flags: the guest's clock goes on from where it stopped. The wall clock is told
        // separately; adding the time spent frozen would make monotonic time jump.
        let clock = kvm_clock_data { clock: self.clock_ns, ..Default::default() };
        vm.set_clock(&clock).map_err(call("KVM_SET_CLOCK"))
    }
}
