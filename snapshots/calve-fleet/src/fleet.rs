//! Births of machines.

use std::path::PathBuf;
use std::sync::Arc;

use calve_jail::{Cores, Isolation};
use calve_proto::LogSink;
use calve_snapshots::{Store, Verify};
use calve_vmm::Shape;

use crate::boot::{BootSpec, Function, Ports};
use crate::callee::{Callee, Decision, Identity};
use crate::cancel::Canceller;
use crate::clone::Clone;
use crate::content::Content;
use crate::control::{Command, Pages, Thaw};
use crate::error::{BootError, FleetError, OpenError, WorkerError};
use crate::frozen::Frozen;
use crate::limits::{Limiter, Limiting};
use crate::live::LiveMachine;
use crate::machine::Machine;
use crate::shells::{Budget, Keep, Shells};
use crate::wiring::Wiring;
use crate::worker::{Apart, Nursery, Worker};
use crate::{cpu, host};

/// File name of the worker's program.
const WORKER: &str = "calve-worker";

/// Settings of a fleet.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Path of calve-worker; otherwise `CALVE_WORKER`, otherwise it lies beside this program.
    pub worker: Option<PathBuf>,
    /// What shells that wait for content may take.
    pub budget: Budget,
    /// How far workers are kept apart from the host; otherwise `CALVE_ISOLATION` (`none`, `own` or
    /// `uids:FIRST:COUNT`), otherwise [as far as this user may](Isolation::most).
    pub isolation: Option<Isolation>,
    /// Whether workers share cores with each other and with other programs, where a core has several hardware threads;
    /// otherwise `CALVE_CORES` (`apart` or `shared`), otherwise not.
    pub cores: Option<Cores>,
    /// What each worker may take of the host's memory and processors.
    pub limiting: Limiting,
}

/// Starts machines. Share one between threads; machines outlive it.
#[derive(Debug)]
pub struct Fleet {
    cancel: Canceller,
    shells: Shells,
}

/// How a clone is connected.
#[derive(Debug, Default)]
pub struct ThawOptions {
    /// Where to make a Unix socket over which other programs reach the guest's ports
    /// (`CONNECT <port>\n`). Only this user may connect; removed with the clone.
    pub listen: Option<PathBuf>,
    /// Ports of the host that the guest may connect to.
    pub ports: Ports,
    /// Leaves out to make ready the pages that a call is known to touch: for a clone that will wait
    /// for a long time before it is called, if ever, and should take little memory meanwhile. A reset
    /// leaves this as it was at the thaw.
    pub lazy: bool,
    /// Lets the kernel use huge pages under the clone: fewer faults where a call touches much memory, for private
    /// memory in pieces of 2 MiB. Of the snapshot's own pages only where the store's file system has them in such
    /// pages: a tmpfs mounted with `huge=within_size`.
    pub huge_pages: bool,
}

impl Fleet {
    /// A fleet without machines.
    ///
    /// # Errors
    ///
    /// When there is no worker program.
    pub fn new(options: Options) -> Result<Self, FleetError> {
        let program = worker_program(options.worker)?;
        let cancel = Canceller::new().map_err(|e| FleetError::Event(e.into()))?;
        let apart =
            Apart { isolation: isolation(options.isolation)?, cores: cores(options.cores)? };
        let limiter = Limiter::new(options.limiting).map_err(FleetError::Cgroup)?;
        let nursery = Nursery::start(program, apart, limiter).map_err(FleetError::Thread)?;
        let shells = Shells::new(nursery, cancel.clone(), options.budget);
        let shells = shells.map_err(|e| FleetError::Event(e.into()))?;
        Ok(Self { cancel, shells })
    }

    /// Whether this host can run Linux machines, and if not, why and what to do.
    ///
    /// # Errors
    ///
    /// The first thing that is missing.
    pub fn check_host() -> Result<(), host::HostError> {
        host::check()
    }

    /// The handle that ends every wait of this fleet, for Ctrl-C.
    pub fn canceller(&self) -> Canceller {
        self.cancel.clone()
    }

    /// Opens a snapshot for thawing: verified, decoded and compared with this host, once.
    ///
    /// # Errors
    ///
    /// What is damaged, or what this host lacks, by name.
    pub fn open(&self, store: &Store, name: &str) -> Result<Frozen, OpenError> {
        let frozen = self.open_runtime(store, name)?;
        if frozen.snapshot().manifest().is_runtime() {
            return Err(OpenError::Runtime { name: name.to_owned() });
        }
        Ok(frozen)
    }

    /// Whether `name` is a [runtime](crate::build_runtime) that functions can be built on here.
    pub fn has_runtime(&self, store: &Store, name: &str) -> bool {
        let opened = self.open_runtime(store, name);
        opened.is_ok_and(|frozen| frozen.snapshot().manifest().is_runtime())
    }

    /// Opens a snapshot that may be a [runtime](crate::build_runtime) without a function.
    pub(crate) fn open_runtime(&self, store: &Store, name: &str) -> Result<Frozen, OpenError> {
        let host = cpu::host_cpu()?;
        Frozen::new(store.snapshot(name, &host, Verify::Stamped)?)
    }

    /// Makes shells of `shape` until `count` wait for content, and waits for them. Clones take
    /// them from then on, which spares a request the birth of its worker.
    ///
    /// # Errors
    ///
    /// When a shell cannot be made; those made before stay.
    pub fn prepare(&self, shape: Shape, count: usize) -> Result<(), WorkerError> {
        self.shells.prepare(shape, count)
    }

    /// Keeps shells of `shape` ready from now on, made in the background at the rate at which they
    /// are taken and within the fleet's [budget](Options::budget). Asked again, the new bounds hold;
    /// with the default ones, none are made and those there are stay until they are taken.
    ///
    /// # Errors
    ///
    /// When the thread that makes them cannot be started.
    pub fn keep(&self, shape: Shape, keep: Keep) -> Result<(), FleetError> {
        self.shells.keep(shape, keep).map_err(FleetError::Thread)
    }

    /// Number of shells of `shape` that wait for content.
    pub fn prepared(&self, shape: Shape) -> usize {
        self.shells.ready(shape)
    }

    /// Thaws a clone. Returns as soon as everything is on its way: what fails from here on fails
    /// in [`Clone::call`] or [`Clone::wait_running`].
    ///
    /// # Errors
    ///
    /// When no worker can be had.
    pub fn thaw(&self, frozen: &Frozen) -> Result<Clone, WorkerError> {
        self.thaw_with(frozen, ThawOptions::default())
    }

    /// Thaws a clone with a door or ports of its own.
    ///
    /// # Errors
    ///
    /// As [`Fleet::thaw`], and when the door cannot be made.
    pub fn thaw_with(&self, frozen: &Frozen, options: ThawOptions) -> Result<Clone, WorkerError> {
        self.thaw_as_asked(frozen.content(), options)
    }

    pub(crate) fn thaw_as_asked(
        &self,
        content: &Arc<Content>,
        options: ThawOptions,
    ) -> Result<Clone, WorkerError> {
        let pages = if options.lazy { Pages::Lazy } else { Pages::Ready };
        self.thaw_content(content, options, pages)
    }

    /// Thaws a clone.
    pub(crate) fn thaw_content(
        &self,
        content: &Arc<Content>,
        options: ThawOptions,
        pages: Pages,
    ) -> Result<Clone, WorkerError> {
        let decision = Decision::now();
        let huge_pages = options.huge_pages;
        let (mut worker, prepared) = self.shell(content.shape)?;
        let wiring = Wiring::new(options)?;
        let files = content.files();
        let layers = u8::try_from(content.layers.files.len()).unwrap_or(u8::MAX);
        let (attach, rest) = wiring.attach(content.disk_files());
        let thaw = Thaw { state_len: content.state_len, layers, pages, huge_pages, attach };
        worker.send(&Command::Thaw(thaw), &[files, rest].concat())?;
        let (line, door) = wiring.connect(worker)?;
        let callee = Callee::thawed(line, Identity::fresh(content.timeout)?, decision, prepared)?;
        Ok(Clone::new(callee, door, Arc::clone(content)))
    }

    /// Boots a machine of any kind, without expecting an agent in it.
    ///
    /// # Errors
    ///
    /// When no worker can be had or it refuses what it was given.
    pub fn start(&self, spec: BootSpec) -> Result<Machine, WorkerError> {
        Machine::start(self, spec)
    }

    /// Boots a machine whose PID 1 is our agent, and starts `function` in it.
    ///
    /// # Errors
    ///
    /// When the machine ends, its agent does not come up in time, or the function does not start.
    pub fn boot(&self, spec: BootSpec, function: &Function) -> Result<LiveMachine, BootError> {
        self.boot_with(spec, function, &mut |_, _| {})
    }

    /// Boots a machine and hands on what the function prints while it starts.
    ///
    /// # Errors
    ///
    /// As [`Fleet::boot`].
    pub fn boot_with(
        &self,
        spec: BootSpec,
        function: &Function,
        logs: &mut LogSink<'_>,
    ) -> Result<LiveMachine, BootError> {
        LiveMachine::boot(self, spec, function, logs)
    }

    /// A worker that is a shell or about to be one, and whether it was there already.
    pub(crate) fn shell(&self, shape: Shape) -> Result<(Worker, bool), WorkerError> {
        self.shells.take(shape)
    }
}

fn isolation(given: Option<Isolation>) -> Result<Isolation, FleetError> {
    match (given, std::env::var_os("CALVE_ISOLATION")) {
        (Some(isolation), _) => Ok(isolation),
        (None, Some(text)) => text.to_string_lossy().parse().map_err(FleetError::Isolation),
        (None, None) => Ok(Isolation::most()),
    }
}

fn cores(given: Option<Cores>) -> Result<Cores, FleetError> {
    match (given, std::env::var_os("CALVE_CORES")) {
        (Some(cores), _) => Ok(cores),
        (None, Some(text)) => text.to_string_lossy().parse().map_err(FleetError::Cores),
        (None, None) => Ok(Cores::default()),
    }
}

fn worker_program(given: Option<PathBuf>) -> Result<PathBuf, FleetError> {
    let program = match given.or_else(|| std::env::var_os("CALVE_WORKER").map(PathBuf::from)) {
        Some(program) => program,
        None => std::env::current_exe().map_err(FleetError::NoPlace)?.with_file_name(WORKER),
    };
    if program.is_file() { Ok(program) } else { Err(FleetError::NoWorker(program)) }
}
