//! One micro-VM: guest memory, vCPUs, devices, boot, and the saving and loading of its state.
//!
//! ```no_run
//! use calve_vmm::{Attachments, Boot, Exit, Hypervisor, Shape, Shell, VsockHost};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hypervisor = Hypervisor::open()?;
//! let shell = Shell::new(&hypervisor, Shape::new(128, 1, 0)?)?;
//! let kernel = std::fs::File::open("vmlinux")?;
//! let boot = Boot { kernel, initrd: None, cmdline: "console=ttyS0 reboot=t panic=-1".into() };
//! let console = Some(Box::new(std::io::stdout()) as _);
//! let devices = Attachments { disks: vec![], vsock: VsockHost::unconnected(3), console };
//! let mut machine = shell.boot(boot, devices)?;
//! machine.resume()?;
//! assert_eq!(machine.wait(), Exit::Reset);
//! # Ok(()) }
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`shape`], [`shell`], [`machine`] | the life of a machine |
//! | [`memory`], [`layout`] | guest memory and the address map |
//! | [`hypervisor`] and the private `vcpu`, `platform` | KVM |
//! | [`boot`] | kernel images, boot protocols, ACPI |
//! | [`virtio`], [`irq`] and the private `bus`, `serial` | devices and their interrupts |
//! | [`state`] | a stopped machine as bytes |
//!
//! The crate knows nothing of functions, tenants, HTTP or async.

pub mod boot;
mod bus;
pub mod exit;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod generation;
pub mod hypervisor;
pub mod irq;
pub mod layout;
pub mod machine;
pub mod memory;
mod patience;
mod platform;
mod serial;
pub mod shape;
pub mod shell;
pub mod state;
mod thread;
mod vcpu;
pub mod virtio;

pub use boot::{Boot, BootError};
pub use exit::{Exit, VcpuFault};
pub use hypervisor::{Hypervisor, HypervisorError};
pub use machine::{Machine, MachineError};
pub use serial::Console;
pub use shape::{Shape, ShapeError};
pub use shell::{Attachments, Shell, ShellError, ThawMemory};
pub use state::{MachineState, Section, StateError};
pub use thread::Thread;
pub use virtio::{Access, Disk, HostPorts, VsockHost};
