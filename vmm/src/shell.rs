//! A machine that has everything but content.
//!
//! ```text
//! Shell::new(shape) ──► Shell ──┬── boot(kernel, devices) ──► Machine (paused at the entry)
//!                               └── thaw(state, memory, …) ─► Machine (paused where it froze)
//! ```
//!
//! Making a VM costs milliseconds, most of them in memslots and the interrupt controllers; giving
//! a made one its content costs a fraction of that. So everything slow happens here, before there
//! is a request.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{IoEventAddress, VmFd};
use nix::libc;
use thiserror::Error;
use vmm_sys_util::eventfd::EventFd;

use crate::boot::{self, Boot};
use crate::bus::Bus;
use crate::exit::ExitSlot;
use crate::generation::Generation;
use crate::hypervisor::{Hypervisor, HypervisorError};
use crate::irq::Pin;
use crate::layout::{COM1_GSI, GED_GSI, VIRTIO_BASE, VIRTIO_GSI, VIRTIO_WINDOW};
use crate::machine::{Machine, MachineError};
use crate::memory::{MemoryError, MemoryPlan, PageTables, Prefault, Ram};
use crate::platform::{self, PlatformError, PlatformState};
use crate::serial::{Console, SerialPort};
use crate::shape::Shape;
use crate::state::MachineState;
use crate::thread::{Confine, Thread};
use crate::vcpu::newborn::Newborn;
use crate::vcpu::state::VcpuStateError;
use crate::vcpu::{Vcpu, VcpuError, cpuid};
use crate::virtio::{self, Backend, DeviceThread, Disk, Kind, Slot, VsockHost};

/// Why no shell can be had.
#[derive(Debug, Error)]
pub enum ShellError {
    /// KVM refuses.
    #[error("this host cannot make a machine")]
    Hypervisor(#[from] HypervisorError),
    /// Interrupt controllers or timer.
    #[error("cannot make the machine's interrupt controllers")]
    Platform(#[from] PlatformError),
    /// Guest memory.
    #[error("cannot make the machine's memory")]
    Memory(#[from] MemoryError),
    /// A vCPU.
    #[error("cannot make a vCPU")]
    Vcpu(#[from] VcpuError),
    /// A vCPU's first state.
    #[error("cannot give a vCPU its first state")]
    Newborn(#[from] VcpuStateError),
    /// The device thread.
    #[error("cannot start the device thread")]
    Devices(#[source] virtio::Error),
    /// A KVM call.
    #[error("{0} failed")]
    Call(&'static str, #[source] io::Error),
}

/// What a machine's devices are connected to on the host.
pub struct Attachments {
    /// One for each disk of the shape, in order: `/dev/vda`, `/dev/vdb`, …
    pub disks: Vec<Disk>,
    /// The host's end of the vsock.
    pub vsock: VsockHost,
    /// Where the serial console's output goes; thrown away if nowhere.
    pub console: Option<Console>,
}

/// What a clone's memory is made of.
#[derive(Clone, Copy, Debug)]
pub struct ThawMemory<'a> {
    /// The snapshot's memory, each file as long as it.
    pub files: &'a [File],
    /// How they come under the clone.
    pub plan: &'a MemoryPlan,
    /// Whether the clone runs for the record of which pages it touches: it is slower then, but each
    /// page that is present in this process's memory map in the end was touched.
    pub recorded: bool,
    /// Whether the kernel may use huge pages under the clone: of the files where their file system has them in such
    /// pages (tmpfs mounted with `huge=`), and of what the clone fills where the snapshot has nothing. Fewer
    /// faults, for memory in pieces of 2 MiB. A reset leaves this as it was at the thaw.
    pub huge_pages: bool,
}

/// A machine without content. See the module's documentation.
pub struct Shell {
    parts: Parts,
    /// What each vCPU has before it has content.
    newborns: Vec<Newborn>,
    /// What the rest of KVM has.
    platform: PlatformState,
}

/// Everything that a shell and the machine that it becomes are made of. Fields drop in order:
/// threads first, then what they use.
pub(crate) struct Parts {
    pub(crate) vcpus: Vec<Vcpu>,
    pub(crate) devices: DeviceThread,
    pub(crate) serial: Arc<SerialPort>,
    pub(crate) exits: Arc<ExitSlot>,
    pub(crate) shape: Shape,
    pub(crate) msrs: Arc<[u32]>,
    pub(crate) vm: Arc<VmFd>,
    pub(crate) ram: Ram,
    pub(crate) generation: Generation,
    pub(crate) tables: PageTables,
    /// Whether a thread of the machine can be awake while another loads its state.
    pub(crate) spare_processor: bool,
}

impl Parts {
    /// Has the first vCPU's thread wake up while this one gets its state ready. Where there is one processor for both,
    /// it would only be in the way.
    pub(crate) fn rouse(&self) {
        if let Some(vcpu) = self.vcpus.first().filter(|_| self.spare_processor) {
            vcpu.rouse();
        }
    }
}

impl Shell {
    /// Makes a shell: VM, interrupt controllers, reserved memory, devices, vCPUs and threads.
    ///
    /// # Errors
    ///
    /// Whatever KVM or the kernel refuses, with the call's name.
    pub fn new(hypervisor: &Hypervisor, shape: Shape) -> Result<Self, ShellError> {
        Self::confined(hypervisor, shape, |_| Ok(()))
    }

    /// Like [`Shell::new`]; each thread of the machine first runs `confine` on itself, for instance to install its
    /// seccomp filter. This returns when all have. A machine has no thread that was not confined.
    ///
    /// # Errors
    ///
    /// As [`Shell::new`], and what `confine` returns.
    pub fn confined(
        hypervisor: &Hypervisor,
        shape: Shape,
        confine: impl Fn(Thread) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self, ShellError> {
        let confine = Confine::new(confine);
        // Before the VM, so that it is dropped after the VM on every way out of here.
        let ram = Ram::reserve(&shape)?;
        let vm = Arc::new(hypervisor.create_vm()?);
        platform::create(&vm)?;
        let serial = Arc::new(SerialPort::new(Pin::new(vm.clone(), COM1_GSI)));
        let generation = Generation::draw(Pin::new(vm.clone(), GED_GSI))
            .map_err(|e| ShellError::Call("mmap", e))?;
        add_memslots(&vm, &ram, &generation)?;
        let slots = kinds(&shape)
            .enumerate()
            .map(|(index, kind)| device_slot(&vm, index, kind))
            .collect::<Result<Vec<_>, _>>()?;
        let devices =
            DeviceThread::spawn_confined(ram.guest().clone(), slots, confine.of(Thread::Devices))
                .map_err(ShellError::Devices)?;
        let bus = Arc::new(Bus::new(serial.clone(), devices.transports().to_vec()));
        let exits = Arc::new(ExitSlot::new().map_err(|e| ShellError::Call("eventfd", e))?);
        let run_size = hypervisor.run_size()?;
        let vcpus = (0..shape.vcpus())
            .map(|index| {
                let fd = vm
                    .create_vcpu(index.into())
                    .map_err(|e| ShellError::Call("KVM_CREATE_VCPU", e.into()))?;
                let confine = confine.of(Thread::Vcpu);
                Ok(Vcpu::spawn(index, fd, run_size, bus.clone(), exits.clone(), confine)?)
            })
            .collect::<Result<Vec<_>, ShellError>>()?;
        exits.watch(vcpus.iter().map(|vcpu| vcpu.kick().clone()).collect());
        let msrs = hypervisor.msrs();
        let tables = hypervisor.tables();
        let spare_processor = available_parallelism().is_ok_and(|processors| processors.get() > 1);
        let parts = Parts {
            vcpus,
            devices,
            serial,
            exits,
            shape,
            msrs,
            vm,
            ram,
            generation,
            tables,
            spare_processor,
        };
        let deadline = hypervisor.has_tsc_deadline();
        let newborns = (0..).zip(&parts.vcpus).map(|(index, vcpu)| {
            let all = hypervisor.cpuid().as_slice();
            let leaves = cpuid::for_vcpu(all, index, shape.vcpus(), deadline);
            Ok(vcpu.with(|fd| Newborn::new(fd, &leaves, &parts.msrs))??)
        });
        let newborns = newborns.collect::<Result<_, ShellError>>()?;
        let platform = PlatformState::save(&parts.vm)?;
        Ok(Self { parts, newborns, platform })
    }

    /// The shape that this shell was made for.
    pub fn shape(&self) -> Shape {
        self.parts.shape
    }

    /// Gives the shell a kernel to boot. The machine is paused before its first instruction.
    ///
    /// # Errors
    ///
    /// For an image that is no kernel, does not fit, or devices that do not match the shape.
    pub fn boot(self, boot: Boot, attachments: Attachments) -> Result<Machine, MachineError> {
        let Self { mut parts, .. } = self;
        parts.ram.fill()?;
        let entry = boot::load(parts.ram.guest(), &parts.shape, boot)?;
        attach(&parts, attachments)?;
        if let Some(first) = parts.vcpus.first() {
            first.with(|fd| boot::enter(fd, &entry))??;
        }
        Ok(Machine::new(parts))
    }

    /// Gives the shell the content of a frozen machine. The clone is paused where it froze.
    ///
    /// The memory files are mapped copy-on-write and may be shared by any number of clones; nobody may
    /// write to them while one is alive.
    ///
    /// # Errors
    ///
    /// For state of another shape, a memory file of another size, or a processor that cannot
    /// take the state.
    pub fn thaw(
        self,
        state: &MachineState,
        memory: ThawMemory<'_>,
        attachments: Attachments,
    ) -> Result<Machine, MachineError> {
        let Self { mut parts, newborns, platform } = self;
        if state.shape != parts.shape {
            return Err(MachineError::Shape { shell: parts.shape, state: state.shape });
        }
        let prefault = parts.ram.map(memory.files, memory.plan)?;
        if memory.huge_pages {
            parts.ram.advise_huge_pages();
        }
        if memory.recorded {
            parts.ram.cut(memory.plan)?;
        }
        let how = Load::First { vcpus: &newborns, platform: &platform, prefault };
        load(&parts, state, attachments, how)?;
        Ok(Machine::new(parts))
    }
}

/// How vCPUs are loaded.
pub(crate) enum Load<'a> {
    /// Everything that the newborn do not have yet; and then these pages made ready.
    First { vcpus: &'a [Newborn], platform: &'a PlatformState, prefault: Prefault },
    /// What the guest may have changed since.
    Again,
}

/// Gives a stopped machine, whose memory is in place, the rest of its content.
pub(crate) fn load(
    parts: &Parts,
    state: &MachineState,
    attachments: Attachments,
    how: Load<'_>,
) -> Result<(), MachineError> {
    // The boot processor first, because the others' time-stamp counters follow its.
    let mut newborns = match &how {
        Load::First { vcpus, .. } => vcpus.iter(),
        Load::Again => [].iter(),
    };
    for (index, (vcpu, saved)) in (0..).zip(parts.vcpus.iter().zip(&state.vcpus)) {
        vcpu.with(|fd| match newborns.next() {
            Some(newborn) => saved.load(fd, index, &parts.msrs, newborn),
            None => saved.reload(fd, index),
        })??;
    }
    parts.rouse();
    attach(parts, attachments)?;
    parts.serial.load(state.serial.clone())?;
    parts.devices.load(state.devices.clone())?;
    // The guest finds the interrupt of a changed generation pending: a shell's identifier is one that no guest has
    // seen, and of a machine that has run another is drawn first.
    match &how {
        Load::First { platform, .. } => state.platform.load(&parts.vm, platform, GED_GSI)?,
        Load::Again => {
            parts.generation.redraw().map_err(MachineError::Generation)?;
            state.platform.reload(&parts.vm, GED_GSI)?;
        }
    }
    if let (Load::First { prefault, .. }, Some(vcpu)) = (how, parts.vcpus.first()) {
        vcpu.with(|fd| prefault.run(fd))?;
    }
    Ok(())
}

/// Connects the devices to the host.
pub(crate) fn attach(parts: &Parts, attachments: Attachments) -> Result<(), MachineError> {
    let Attachments { disks, vsock, console } = attachments;
    if disks.len() != usize::from(parts.shape.disks()) {
        return Err(MachineError::Disks { given: disks.len(), wanted: parts.shape.disks() });
    }
    if let Some(console) = console {
        parts.serial.connect(console);
    }
    let others = [Backend::Vsock(vsock), Backend::Balloon];
    let backends = disks.into_iter().map(Backend::Block).chain(others).collect();
    Ok(parts.devices.attach(backends)?)
}

/// The devices of a shape by window: disks first, so that `/dev/vda` is window 0; then the vsock and the balloon.
fn kinds(shape: &Shape) -> impl Iterator<Item = Kind> + use<> {
    (0..shape.disks()).map(|_| Kind::Block).chain([Kind::Vsock, Kind::Balloon])
}

fn add_memslots(vm: &VmFd, ram: &Ram, generation: &Generation) -> Result<(), ShellError> {
    let failed = |e: kvm_ioctls::Error| ShellError::Call("KVM_SET_USER_MEMORY_REGION", e.into());
    let mut free = 0;
    for (slot, (region, host)) in (0..).zip(ram.slots()) {
        let memslot = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.gpa,
            memory_size: region.size,
            userspace_addr: host as u64,
        };
        // SAFETY: the range is mapped, of this size, and owned by `ram`, which `Parts` drops
        // after the VM; regions do not overlap, by construction of `memory::regions`.
        unsafe { vm.set_user_memory_region(memslot) }.map_err(failed)?;
        free = slot + 1;
    }
    generation.show(vm, free).map_err(failed)
}

/// Interrupt line and doorbells of the device in window `index`.
fn device_slot(vm: &Arc<VmFd>, index: usize, kind: Kind) -> Result<Slot, ShellError> {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let irq = Box::new(Pin::new(vm.clone(), VIRTIO_GSI + index));
    let window = VIRTIO_BASE + u64::from(index) * VIRTIO_WINDOW;
    let doorbell = IoEventAddress::Mmio(window + virtio::NOTIFY_OFFSET);
    let mut kicks = Vec::with_capacity(kind.queues());
    for queue in 0..u32::try_from(kind.queues()).unwrap_or(0) {
        let kick = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
            .map_err(|e| ShellError::Call("eventfd", e))?;
        vm.register_ioevent(&kick, &doorbell, queue)
            .map_err(|e| ShellError::Call("KVM_IOEVENTFD", e.into()))?;
        kicks.push(kick);
    }
    Ok(Slot { kind, irq, kicks })
}
