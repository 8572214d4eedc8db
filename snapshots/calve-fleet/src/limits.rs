//! What a worker may take of the host, by the shape of its machine.

use std::path::PathBuf;

use calve_jail::cgroup::{self, Cgroup, CgroupError, Cgroups};
use calve_vmm::Shape;
use nix::unistd::geteuid;

/// Whether workers have cgroups, and what those allow.
///
/// Memory is the machine's and `memory_overhead`; processor time one processor for each vCPU and one more for
/// devices; no swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The folder of the workers' cgroups; made if only the last part of its path is missing.
    pub cgroup: PathBuf,
    /// Bytes that a worker may take besides its machine's memory.
    pub memory_overhead: u64,
    /// Processor time in hundredths of one processor; by the machine's shape where it is not said.
    pub cpu_percent: Option<u32>,
    /// Share of the processors where there is not enough for all, 1 to 10,000.
    pub cpu_weight: u32,
    /// Bounds on disks, a line of `io.max` each, as in `8:0 rbps=1048576`.
    pub io: Vec<String>,
}

impl Limits {
    /// What a worker takes besides its machine's memory, and room: it has about 1 MiB in use, its kernel some page tables
    /// (1/512 of the machine's memory, which is why a 64th of that is allowed on top), and 256 streams of the vsock may
    /// have 128 KiB each that nobody reads.
    pub const MEMORY_OVERHEAD: u64 = 64 << 20;

    /// The defaults, with the cgroups in this folder.
    pub fn under(cgroup: impl Into<PathBuf>) -> Self {
        Self {
            cgroup: cgroup.into(),
            memory_overhead: Self::MEMORY_OVERHEAD,
            cpu_percent: None,
            cpu_weight: 100,
            io: Vec::new(),
        }
    }

    /// Memory for a machine, in bytes.
    fn memory(&self, shape: Shape) -> u64 {
        let memory = shape.memory_bytes();
        memory.saturating_add(memory / 64).saturating_add(self.memory_overhead)
    }

    fn of(&self, shape: Shape) -> cgroup::Limits {
        /// Besides vCPUs: main thread, devices, a copy of itself that saves memory, KVM's own, and room.
        const OTHER_PROCESSES: u32 = 12;
        let vcpus = u32::from(shape.vcpus());
        cgroup::Limits {
            memory: self.memory(shape),
            cpu_percent: self.cpu_percent.unwrap_or(100 * (vcpus + 1)),
            cpu_weight: self.cpu_weight,
            processes: vcpus + OTHER_PROCESSES,
            io: self.io.clone(),
        }
    }
}

/// Says where the cgroups are to be, `delegated`, or `none`.
const CALVE_CGROUP: &str = "CALVE_CGROUP";

/// Where cgroups of workers are to be if nobody says more than the environment does.
fn intended() -> Result<Option<PathBuf>, CgroupError> {
    match std::env::var_os(CALVE_CGROUP) {
        Some(none) if none == "none" => Ok(None),
        Some(own) if own == "delegated" => Cgroups::delegated().map(Some),
        Some(path) => Ok(Some(path.into())),
        None => Ok(geteuid().is_root().then(|| Cgroups::DEFAULT.into())),
    }
}

/// The same folder, made and made ready as a fleet would, or why it cannot be.
pub(crate) fn tried() -> Option<Result<PathBuf, String>> {
    let path = intended().transpose()?;
    let tried = path.and_then(|path| Cgroups::open(&path, false).map(|_| path));
    Some(tried.map_err(|error| error.to_string()))
}

/// Makes cgroups for workers, where there are to be any.
#[derive(Debug)]
pub(crate) struct Limiter(Option<(Cgroups, Limits)>);

/// What a fleet is told about limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Limiting {
    /// By `CALVE_CGROUP` (`none`, the path of a folder, or `delegated`: below the cgroup that this process is in, which was
    /// handed to it alone); where that is not set, as root in `/sys/fs/cgroup/calve` if this host has cgroup v2 and lets it
    /// be used, and not at all otherwise.
    #[default]
    Auto,
    /// Not at all: workers are in the cgroup of whoever starts them.
    None,
    /// Each in a cgroup of its own.
    Each(Limits),
}

impl Limiter {
    pub(crate) fn new(limiting: Limiting) -> Result<Self, CgroupError> {
        let (limits, asked_for) = match limiting {
            Limiting::None => return Ok(Self(None)),
            Limiting::Each(limits) => (limits, true),
            Limiting::Auto => match intended()? {
                None => return Ok(Self(None)),
                Some(path) => (Limits::under(path), std::env::var_os(CALVE_CGROUP).is_some()),
            },
        };
        match Cgroups::open(&limits.cgroup, !limits.io.is_empty()) {
            Ok(cgroups) => Ok(Self(Some((cgroups, limits)))),
            Err(error) if asked_for => Err(error),
            // Nobody has asked: `calve doctor` says why there are none.
            Err(_) => Ok(Self(None)),
        }
    }

    /// A cgroup for the worker of a machine of this shape.
    pub(crate) fn cgroup(&self, shape: Shape) -> Result<Option<Limited>, CgroupError> {
        let Some((cgroups, limits)) = &self.0 else { return Ok(None) };
        let cgroup = cgroups.make(&limits.of(shape))?;
        let (memory, copy) = (limits.memory(shape), shape.memory_bytes());
        let cpu_weight = limits.cpu_weight;
        Ok(Some(Limited { cgroup, own: memory, memory, copy, copies: 0, cpu_weight }))
    }
}

/// A worker's cgroup, and what it has been allowed.
#[derive(Debug)]
pub(crate) struct Limited {
    pub(crate) cgroup: Cgroup,
    /// Bytes of memory that its machine may take.
    own: u64,
    /// Bytes that it is allowed now.
    pub(crate) memory: u64,
    /// Bytes that a copy of the machine's memory takes, at most.
    copy: u64,
    /// How many were asked for.
    copies: u64,
    cpu_weight: u32,
}

impl Limited {
    /// Has it give way to every worker that has something to do. Where a share is small already it is no larger after.
    pub(crate) fn give_way(&self) -> Result<(), CgroupError> {
        /// The least there is.
        const LEAST: u32 = 1;
        self.cgroup.weigh(LEAST)
    }

    /// Ends that: its share is what its limits say.
    pub(crate) fn take_its_share(&self) -> Result<(), CgroupError> {
        self.cgroup.weigh(self.cpu_weight)
    }

    /// Room for a copy of the machine's memory beside those of former times, which count as the worker's for as long as
    /// somebody has them, such as the children of a fork. A worker that has more than them in such files is not itself.
    pub(crate) fn allow_copy(&mut self) -> Result<(), CgroupError> {
        let former = self.cgroup.shared_memory().min(self.copies.saturating_mul(self.copy));
        self.copies += 1;
        self.memory = self.own.saturating_add(self.copy).saturating_add(former);
        self.cgroup.limit_memory(self.memory)
    }
}
