//! From a function to a snapshot: boot, start, warm, freeze.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use calve_proto::{FunctionError, LogSink, LogStream};
use calve_snapshots::{Digest, Draft, Role, Store};
use calve_vmm::{Access, Shape, ShapeError};
use thiserror::Error;

use crate::boot::{BootSpec, Function};
use crate::call::{CallError, CallOptions};
use crate::content::CODE_ROOM;
use crate::error::{BootError, FreezeError, OpenError, WorkerError};
use crate::fleet::Fleet;
use crate::freeze;
use crate::frozen::Frozen;
use crate::layers::anonymous;
use crate::live::LiveMachine;
use crate::trial;

/// What to build.
#[derive(Clone, Debug)]
pub struct BuildSpec {
    /// Name of the snapshot in the store; one that has it already is replaced in the end.
    pub name: String,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// Path of the kernel.
    pub kernel: PathBuf,
    /// Path of the root image.
    pub root: PathBuf,
    /// Path of the code image.
    pub code: Option<PathBuf>,
    /// Kernel command line.
    pub cmdline: String,
    /// The function.
    pub function: Function,
    /// Events to call it with before it is frozen; each must succeed. Two clones are then tried with
    /// the first, to learn which pages a call touches. Refused at the freeze for a client of the
    /// Runtime API that waits in `restore/next`: its restore hooks would have run by then.
    pub warm: Vec<Vec<u8>>,
    /// How long until the agent in the guest must be up.
    pub up_timeout: Duration,
    /// Name of a [runtime](build_runtime) to stand on, of the same kernel, root image, command line and shape:
    /// nothing is booted then, and the snapshot keeps only what differs.
    pub base: Option<String>,
}

/// Which runtime to build.
#[derive(Clone, Debug)]
pub struct RuntimeSpec {
    /// Name of the snapshot in the store; one that has it already is replaced in the end.
    pub name: String,
    /// `python3.11`, `node20` or `provided`.
    pub runtime: String,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// Path of the kernel.
    pub kernel: PathBuf,
    /// Path of the root image.
    pub root: PathBuf,
    /// Kernel command line.
    pub cmdline: String,
    /// How long the runtime may take to start.
    pub init_timeout: Duration,
    /// How long until the agent in the guest must be up.
    pub up_timeout: Duration,
}

impl RuntimeSpec {
    /// What the names of runtimes begin with.
    pub const PREFIX: &str = "runtime.";
    /// How long a language may take to start, whatever its functions may.
    const START: Duration = Duration::from_secs(300);

    /// The runtime that `function` can be built on. Its name is made of everything that the two must have in common;
    /// kernels and root images are told apart by their folders, which the image cache names after all that goes into
    /// them.
    pub fn under(function: &BuildSpec) -> Self {
        let folder = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
        let (kernel, root) = (folder(&function.kernel), folder(&function.root));
        let all = [kernel.as_os_str(), root.as_os_str(), function.cmdline.as_ref()];
        let all = all.map(|part| part.to_string_lossy().into_owned()).join("\n");
        let key: String = Digest::of(all.as_bytes()).hex().chars().take(12).collect();
        let BuildSpec { memory_mib, vcpus, .. } = *function;
        let runtime = function.function.runtime.clone();
        Self {
            name: format!("{}{runtime}.{memory_mib}m.{vcpus}c.{key}", Self::PREFIX),
            runtime,
            memory_mib,
            vcpus,
            kernel: function.kernel.clone(),
            root: function.root.clone(),
            cmdline: function.cmdline.clone(),
            init_timeout: Self::START,
            up_timeout: BootSpec::UP_TIMEOUT,
        }
    }
}

/// How far a build has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Images are being taken into the store.
    Images,
    /// The machine boots and the function starts.
    Booting,
    /// The function is called with warm-up event `number` (from 1) of `of`.
    Warming {
        /// Number of the event.
        number: usize,
        /// Number of events.
        of: usize,
    },
    /// The guest prepares for its freeze.
    Freezing,
    /// Memory is being written: bytes of RAM done, in all.
    Writing {
        /// Bytes done.
        done: u64,
        /// Bytes of RAM.
        total: u64,
    },
    /// Clones are tried, to learn which pages they touch.
    Recording,
}

/// A snapshot could not be built. Nothing of it is left in the store.
#[derive(Debug, Error)]
pub enum BuildError {
    /// An image cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The runtime that it is to stand on cannot be opened.
    #[error(transparent)]
    Base(#[from] OpenError),
    /// The runtime that it is to stand on is none, or another.
    #[error(
        "`{name}` is no runtime to build this function on: its {differs} differs; build one that fits, or build without it (`--flat`)"
    )]
    Misfit {
        /// Name of the runtime.
        name: String,
        /// What is not the same.
        differs: &'static str,
    },
    /// The code is larger than what a runtime's machine has room for.
    #[error(
        "code of {bytes} bytes is over the {CODE_ROOM} that a runtime has room for; build without one (`--flat`)"
    )]
    Room {
        /// Bytes of the code's image.
        bytes: u64,
    },
    /// No machine has such a shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The store refused: the name is being built, the disk is full.
    #[error(transparent)]
    Store(#[from] calve_snapshots::Error),
    /// The machine or the function did not start.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A warm-up call failed in the function.
    #[error("warm-up event {number} failed")]
    Warm {
        /// Number of the event, from 1.
        number: usize,
        /// The function's error.
        source: FunctionError,
    },
    /// A warm-up call did not come back.
    #[error("warm-up event {number} got no answer")]
    Call {
        /// Number of the event, from 1.
        number: usize,
        /// Why.
        source: CallError,
    },
    /// The machine could not be frozen.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
}

impl BuildError {
    /// Whether the fleet was cancelled, and nothing is wrong.
    pub fn is_cancelled(&self) -> bool {
        use {CallError as C, WorkerError::Cancelled};
        matches!(
            self,
            Self::Boot(BootError::Worker(Cancelled))
                | Self::Call { source: C::Worker(Cancelled), .. }
                | Self::Freeze(FreezeError::Worker(Cancelled))
        )
    }
}

/// Builds the snapshot that `spec` describes and returns its id. `progress` hears of every step.
/// To give up, [cancel](Fleet::canceller) the fleet.
///
/// # Errors
///
/// See [`BuildError`]; the store is as it was before.
pub fn build_snapshot(
    fleet: &Fleet,
    store: &Store,
    spec: &BuildSpec,
    progress: &mut dyn FnMut(Step),
) -> Result<Digest, BuildError> {
    build_snapshot_with(fleet, store, spec, progress, &mut |_, _| {})
}

/// Builds a snapshot and hands on what the function prints while it starts and is warmed up.
///
/// # Errors
///
/// As [`build_snapshot`].
pub fn build_snapshot_with(
    fleet: &Fleet,
    store: &Store,
    spec: &BuildSpec,
    progress: &mut dyn FnMut(Step),
    logs: &mut LogSink<'_>,
) -> Result<Digest, BuildError> {
    // First of all, so that a name in use is said before a minute has been spent.
    let mut draft = store.draft(&spec.name)?;
    progress(Step::Images);
    let base = spec.base.as_deref().map(|name| fleet.open_runtime(store, name)).transpose()?;
    let boot = open(&mut draft, spec)?;
    if let Some(base) = &base {
        check_base(base, &draft, &boot)?;
    }
    let disks = boot.disks.iter().map(|(disk, _)| disk.try_clone()).collect::<io::Result<_>>();
    let disks = disks.map_err(|e| FreezeError::from(WorkerError::Setup("share a file", e)))?;
    progress(Step::Booting);
    let mut machine = match &base {
        Some(base) => LiveMachine::on(fleet, base, boot, &spec.function, logs)?,
        None => fleet.boot_with(boot, &spec.function, logs)?,
    };
    let stats = stats(&machine);
    for (number, event) in (1..).zip(&spec.warm) {
        progress(Step::Warming { number, of: spec.warm.len() });
        let mut sink = |stream: LogStream, bytes: &[u8]| logs(stream, bytes);
        let options = CallOptions { logs: Some(&mut sink), ..CallOptions::default() };
        let outcome =
            machine.call(event, options).map_err(|source| BuildError::Call { number, source })?;
        outcome.result.map_err(|source| BuildError::Warm { number, source })?;
    }
    progress(Step::Freezing);
    let mut write = |done, total| progress(Step::Writing { done, total });
    let base = base.as_ref().map(Frozen::snapshot);
    let written = freeze::write(fleet, machine, draft, base, stats, &mut write)?;
    progress(Step::Recording);
    let event = spec.warm.first().map(Vec::as_slice);
    let workset = trial::workset(fleet, &written, disks, event).map_err(FreezeError::from)?;
    Ok(written.commit(Some(&workset))?)
}

/// Builds a runtime: a language that runs and waits to be told of its function. Functions are then built
/// [on it](BuildSpec::base): they share its memory, on disk and in the host's page cache.
///
/// # Errors
///
/// As [`build_snapshot`].
pub fn build_runtime(
    fleet: &Fleet,
    store: &Store,
    spec: &RuntimeSpec,
    progress: &mut dyn FnMut(Step),
) -> Result<Digest, BuildError> {
    let mut draft = store.draft(&spec.name)?;
    progress(Step::Images);
    let kernel = take(&mut draft, Role::Kernel, &spec.kernel)?;
    let root = take(&mut draft, Role::Root, &spec.root)?;
    let shape = Shape::new(spec.memory_mib, spec.vcpus, 2)?;
    let mut boot = BootSpec::new(shape, kernel, spec.cmdline.clone());
    let nothing = anonymous("calve-no-code", 0);
    let nothing = nothing.map_err(|e| FreezeError::from(WorkerError::Setup("make a file", e)))?;
    boot.disks = vec![(root, Access::ReadOnly), (nothing, Access::ReadOnly)];
    boot.up_timeout = spec.up_timeout;
    progress(Step::Booting);
    let machine = LiveMachine::preload(fleet, boot, &spec.runtime, spec.init_timeout)?;
    let stats = stats(&machine);
    progress(Step::Freezing);
    let mut write = |done, total| progress(Step::Writing { done, total });
    Ok(freeze::write(fleet, machine, draft, None, stats, &mut write)?.commit(None)?)
}

fn stats(machine: &LiveMachine) -> BTreeMap<String, u64> {
    let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    BTreeMap::from([
        ("boot_us".to_owned(), micros(machine.boot_time())),
        ("init_us".to_owned(), micros(machine.init_time())),
    ])
}

/// Whether a machine thawed from `base` is the one that `boot` describes, with the images of `draft`.
fn check_base(base: &Frozen, draft: &Draft<'_>, boot: &BootSpec) -> Result<(), BuildError> {
    let manifest = base.snapshot().manifest();
    let same = |role, theirs: &calve_snapshots::Digest| draft.image(role) == Some(*theirs);
    let differs = match () {
        () if !manifest.is_runtime() => "kind",
        () if base.shape() != boot.shape => "shape",
        () if manifest.machine.cmdline != boot.cmdline => "command line",
        () if !same(Role::Kernel, &manifest.images.kernel.digest) => "kernel",
        () if !same(Role::Root, &manifest.images.root.digest) => "root image",
        () => {
            let code = boot.disks.get(1).and_then(|(code, _)| code.metadata().ok());
            let bytes = code.map_or(0, |code| code.len());
            return if bytes <= CODE_ROOM { Ok(()) } else { Err(BuildError::Room { bytes }) };
        }
    };
    Err(BuildError::Misfit { name: base.snapshot().name().to_owned(), differs })
}

/// Opens an image once: the file that is booted is the file that is kept.
fn take(draft: &mut Draft<'_>, role: Role, path: &Path) -> Result<File, BuildError> {
    let file = File::open(path).map_err(|source| BuildError::Open { path: path.into(), source })?;
    draft.add_image(role, Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))?;
    Ok(file)
}

/// Opens every image.
fn open(draft: &mut Draft<'_>, spec: &BuildSpec) -> Result<BootSpec, BuildError> {
    let kernel = take(draft, Role::Kernel, &spec.kernel)?;
    let mut disks = vec![(take(draft, Role::Root, &spec.root)?, Access::ReadOnly)];
    if let Some(code) = &spec.code {
        disks.push((take(draft, Role::Code, code)?, Access::ReadOnly));
    }
    let count = if spec.code.is_some() { 2 } else { 1 };
    let shape = Shape::new(spec.memory_mib, spec.vcpus, count)?;
    let mut boot = BootSpec::new(shape, kernel, spec.cmdline.clone());
    boot.disks = disks;
    boot.up_timeout = spec.up_timeout;
    Ok(boot)
}
