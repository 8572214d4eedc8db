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
use crate::error::{BootError, FreezeError, WorkerError};
use crate::fleet::Fleet;
use crate::freeze;
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
    let boot = open(&mut draft, spec)?;
    let disks = boot.disks.iter().map(|(disk, _)| disk.try_clone()).collect::<io::Result<_>>();
    let disks = disks.map_err(|e| FreezeError::from(WorkerError::Setup("share a file", e)))?;
    progress(Step::Booting);
    let mut machine = fleet.boot_with(boot, &spec.function, logs)?;
    let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    let stats = BTreeMap::from([
        ("boot_us".to_owned(), micros(machine.boot_time())),
        ("init_us".to_owned(), micros(machine.init_time())),
    ]);
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
    let written = freeze::write(fleet, machine, draft, stats, &mut write)?;
    progress(Step::Recording);
    let event = spec.warm.first().map(Vec::as_slice);
    let workset = trial::workset(fleet, &written, disks, event).map_err(FreezeError::from)?;
    Ok(written.commit(Some(&workset))?)
}

/// Opens every image once: the file that is booted is the file that is kept.
fn open(draft: &mut Draft<'_>, spec: &BuildSpec) -> Result<BootSpec, BuildError> {
    let mut take = |role, path: &Path| {
        let file =
            File::open(path).map_err(|source| BuildError::Open { path: path.into(), source })?;
        draft.add_image(role, Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))?;
        Ok::<_, BuildError>(file)
    };
    let kernel = take(Role::Kernel, &spec.kernel)?;
    let mut disks = vec![(take(Role::Root, &spec.root)?, Access::ReadOnly)];
    if let Some(code) = &spec.code {
        disks.push((take(Role::Code, code)?, Access::ReadOnly));
    }
    let count = if spec.code.is_some() { 2 } else { 1 };
    let shape = Shape::new(spec.memory_mib, spec.vcpus, count)?;
    let mut boot = BootSpec::new(shape, kernel, spec.cmdline.clone());
    boot.disks = disks;
    boot.up_timeout = spec.up_timeout;
    Ok(boot)
}
