//! Interrupt lines into a guest. They are edge-triggered: raising one is one edge.
//!
//! An irqfd would do, but KVM delivers only message-signalled interrupts from where an eventfd is written; an
//! edge at the I/O APIC goes through a worker thread of the kernel (`irqfd_wakeup` in Linux
//! `virt/kvm/eventfd.c`), so the guest waits for a switch of threads. KVM_IRQ_LINE (Linux
//! `Documentation/virt/kvm/api.rst`, §4.25) delivers before it returns.

use std::fmt;
use std::sync::Arc;

use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

/// What a device interrupts its guest through.
pub trait IrqLine: fmt::Debug + Send + Sync {
    /// One edge. Nobody is told of a failure: a device has no use for it, and a guest that waits for an
    /// interrupt in vain is ended by its deadline.
    fn raise(&self);
}

/// For whoever delivers interrupts in another way: a counter of edges.
impl IrqLine for EventFd {
    fn raise(&self) {
        // It fails only when the counter is full: then there are edges enough to be seen.
        let _ = self.write(1);
    }
}

/// A pin of a VM's interrupt controllers.
#[derive(Clone)]
pub(crate) struct Pin {
    vm: Arc<VmFd>,
    gsi: u32,
}

impl Pin {
    /// Pin `gsi`, by its global system interrupt number.
    pub(crate) fn new(vm: Arc<VmFd>, gsi: u32) -> Self {
        Self { vm, gsi }
    }

    /// Takes the line back to where an edge can begin. [`IrqLine::raise`] leaves it there.
    pub(crate) fn lower(&self) {
        let _ = self.vm.set_irq_line(self.gsi, false);
    }
}

impl IrqLine for Pin {
    fn raise(&self) {
        // A VM that has its controllers refuses neither: the numbers are ours.
        let _ = self.vm.set_irq_line(self.gsi, true);
        self.lower();
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("gsi", &self.gsi).finish_non_exhaustive()
    }
}
