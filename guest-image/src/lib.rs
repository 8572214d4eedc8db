//! What a guest boots from: a kernel, a root image for each language runtime, and code images of function folders.
//!
//! Everything is built on the user's machine from Debian's signed packages, by recipes that are part of this crate,
//! and kept in a [`Cache`] under a key that hashes all inputs. A key that is present is complete: entries are built
//! beside their place and renamed into it. Once an entry exists nothing here touches the network, apt or a compiler.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use calve_image::{Cache, Runtime, Silent, code, kernel, root};
//! use std::path::Path;
//!
//! let cache = Cache::from_env()?;
//! let kernel = kernel::ensure(&cache, &mut Silent)?;
//! let agent = Path::new("/usr/lib/calve/calve-agent");
//! let root = root::ensure(&cache, Runtime::Python311, agent, &mut Silent)?;
//! let code = code::build(Path::new("my-function"), Path::new("/tmp/code.erofs"))?;
//! println!("{} + {} + {}", kernel.vmlinux.display(), root.path.display(), code.digest);
//! # Ok(())
//! # }
//! ```

mod apt;
mod cache;
mod command;
mod digest;
mod erofs;
mod fsutil;
mod list;
mod progress;
mod runtime;

pub mod code;
pub mod kernel;
pub mod root;

pub use apt::AptError;
pub use cache::{Cache, CacheError};
pub use command::CommandError;
pub use fsutil::FileError;
pub use list::{Entry, EntryKind, ls};
pub use progress::{Progress, Silent};
pub use runtime::{Runtime, UnknownRuntime};

/// The kernel command line every machine starts with; the fleet may append to it, and a later word wins.
///
/// - `reboot=t`: a triple fault ends the machine with KVM_EXIT_SHUTDOWN; no keyboard controller is needed.
/// - `panic=-1`: a panic restarts (that is: ends the machine) at once.
/// - `pci=off`: there is no bus to scan, each probe would be an exit.
/// - `swiotlb=noforce`: virtio-mmio does DMA to any address; without this a guest over 4 GiB loses 64 MiB to bounce
///   buffers.
/// - `rcupdate.rcu_expedited=1`: at 100 Hz a normal grace period makes every unmount and cgroup removal wait tens of
///   milliseconds.
/// - `cgroup_disable=memory`: a machine runs one function, which has all of its memory; the accounting would wake up every
///   two seconds and write to pages in every clone that waits.
/// - `tsc=nowatchdog`: the kernel would compare the TSC with another clock twice a second. It does not know of the time
///   that it was frozen in between, so clones took their TSC for unstable, started a thread to say so and patched their
///   code, for some 50 pages each. Whether a TSC can be trusted is the host's to know, which tells by `kvm-clock`.
///
/// The root image is `/dev/vda`. To leave out the serial console append `8250.nr_uarts=0`.
pub const BASE_CMDLINE: &str = "console=ttyS0 quiet loglevel=1 reboot=t panic=-1 pci=off \
     swiotlb=noforce rcupdate.rcu_expedited=1 cgroup_disable=memory tsc=nowatchdog \
     root=/dev/vda rootfstype=erofs ro init=/sbin/calve-agent";

/// Debian packages the recipes need on the host beyond what every Debian has (`Essential: yes`, and apt itself).
pub const HOST_PACKAGES: &[&str] = &[
    "bc",
    "binutils",
    "bison",
    "debian-archive-keyring",
    "erofs-utils",
    "flex",
    "gcc",
    "libc6-dev",
    "libelf-dev",
    "make",
    "xz-utils",
];
