//! From a live machine to a snapshot in the store.
//!
//! ```text
//!  agent prepares ──► stream closed ──► paused ──► saved ──► worker killed ──► draft written, committed
//! ```

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use calve_proto::limits::DEFAULT_FREEZE_TIMEOUT_MS;
use calve_snapshots::{
    Digest, Draft, Extent, MemoryLayout, MemorySource, Progress, Recipe, Snapshot, State, Workset,
};
use calve_vmm::Shape;
use calve_vmm::memory::{Stretch, regions};

use crate::boot::Function;
use crate::cancel::Canceller;
use crate::cpu;
use crate::error::{FreezeError, WorkerError};
use crate::fleet::Fleet;
use crate::layers::{Flat, Layers, Upper};
use crate::line::{Broken, Conversation};
use crate::live::LiveMachine;
use crate::machine::Machine;
use crate::saved::{Cause, Saved};

/// Time for hooks and for dropping caches and free pages, and for a guest that does not answer.
const PREPARE: Duration = Duration::from_millis(DEFAULT_FREEZE_TIMEOUT_MS as u64);
const PAGE: u64 = 4096;
const PREPARE_GRACE: Duration = Duration::from_secs(60);

/// Freezes a machine with an agent into `draft`, which has its images already, and commits it.
/// `stats` are figures for the manifest; some are added here.
///
/// # Errors
///
/// The machine is gone and the draft leaves nothing behind, whatever fails.
pub fn freeze(
    fleet: &Fleet,
    machine: LiveMachine,
    draft: Draft<'_>,
    stats: BTreeMap<String, u64>,
    progress: Progress<'_>,
) -> Result<Digest, FreezeError> {
    write(fleet, machine, draft, None, stats, progress)?.commit(None)
}

/// A frozen machine in a draft that lacks only its commit.
pub(crate) struct Written<'a> {
    pub(crate) draft: Draft<'a>,
    pub(crate) shape: Shape,
    pub(crate) state: State,
    pub(crate) layout: MemoryLayout,
    pub(crate) timeout: Duration,
    recipe: Recipe,
}

impl Written<'_> {
    /// Publishes the snapshot, with the pages that its clones touch if that is known.
    pub(crate) fn commit(mut self, workset: Option<&Workset>) -> Result<Digest, FreezeError> {
        if let Some(workset) = workset {
            // None at all is worth a figure, too: then the trials have failed.
            if !workset.runs().is_empty() {
                self.draft.write_workset(workset)?;
            }
            let (touched, written) = workset.pages();
            self.recipe.stats.insert("workset_pages".into(), touched);
            self.recipe.stats.insert("workset_written_pages".into(), written);
        }
        Ok(self.draft.commit(self.recipe)?)
    }
}

/// What a machine had when it was thawed or first forked.
struct Below<'a> {
    layers: &'a Layers,
    /// Where that is kept, so that the new snapshot can stand on it.
    snapshot: Option<&'a Snapshot>,
}

/// Most layers of a snapshot: a chain that would be longer is written as one.
const MOST_LAYERS: usize = 4;

/// Freezes a machine with an agent into `draft`, without committing it. One that was thawed from `base` is
/// written as what differs from that.
pub(crate) fn write<'a>(
    fleet: &Fleet,
    machine: LiveMachine,
    draft: Draft<'a>,
    base: Option<&Snapshot>,
    mut stats: BTreeMap<String, u64>,
    progress: Progress<'_>,
) -> Result<Written<'a>, FreezeError> {
    let LiveMachine { callee, shape, cmdline, function, writes_disks, left, .. } = machine;
    check_disks(shape, writes_disks)?;
    let mut conversation = callee.conversation;
    stats.insert("zeroed_bytes".into(), prepare(&mut conversation, Purpose::Freeze)?);
    let worker = conversation.into_stream().hang_up();
    let machine = Machine { worker, shape, cmdline, writes_disks };
    let below = left.as_deref().map(|content| Below { layers: &content.layers, snapshot: base });
    machine.write(fleet, draft, &function, below, stats, progress)
}

impl Machine {
    /// Freezes a machine as it is, whatever runs in it, into `draft`, which has its images
    /// already: a kernel, a root image for its first disk, code for its second if it has one.
    ///
    /// # Errors
    ///
    /// As [`freeze`].
    pub fn freeze(
        self,
        fleet: &Fleet,
        draft: Draft<'_>,
        function: &Function,
        stats: BTreeMap<String, u64>,
        progress: Progress<'_>,
    ) -> Result<Digest, FreezeError> {
        self.write(fleet, draft, function, None, stats, progress)?.commit(None)
    }

    fn write<'a>(
        self,
        fleet: &Fleet,
        mut draft: Draft<'a>,
        function: &Function,
        below: Option<Below<'_>>,
        mut stats: BTreeMap<String, u64>,
        progress: Progress<'_>,
    ) -> Result<Written<'a>, FreezeError> {
        let started = Instant::now();
        let Self { mut worker, shape, cmdline, writes_disks } = self;
        check_disks(shape, writes_disks)?;
        worker.pause()?;
        let saved = worker.save(shape.memory_bytes())?;
        // Killed here: from now on nobody can change what is being written.
        drop(worker);
        let (state, machine) = saved.state(shape).map_err(FreezeError::Damaged)?;
        draft.write_state(&state)?;
        let layout = layout(shape)?;
        let memory = Memory::of(saved, shape, below)?;
        let cancel = fleet.canceller();
        let written = memory.write(&mut draft, &layout, &cancel, progress);
        if cancel.is_cancelled() {
            return Err(WorkerError::Cancelled.into());
        }
        written?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        stats.insert("freeze_us".into(), micros);
        let cpu = cpu::required_cpu(&machine, &cpu::host_cpu()?);
        let (vcpus, disks) = (shape.vcpus(), shape.disks());
        let (timeout, function) = (function.timeout, recipe_function(function));
        let recipe = Recipe { cpu, vcpus, disks, cmdline, function, stats };
        Ok(Written { draft, shape, state, layout, timeout, recipe })
    }
}

/// Refuses what no snapshot has a place for, before anything is written over an older one.
pub(crate) fn check_disks(shape: Shape, writable: bool) -> Result<(), FreezeError> {
    match shape.disks() {
        1 | 2 if !writable => Ok(()),
        disks => Err(FreezeError::Disks { disks, writable }),
    }
}

/// What a guest prepares for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be written down, as small as it can be.
    Freeze,
    /// To be forked, and to go on with what it has.
    Fork,
}

/// Has the guest prepare itself; returns how many bytes of free memory it zeroed.
pub(crate) fn prepare(
    conversation: &mut Conversation,
    purpose: Purpose,
) -> Result<u64, FreezeError> {
    let (wanted, within) = ("prepare for its freeze", PREPARE.saturating_add(PREPARE_GRACE));
    conversation.stream().want(wanted, within);
    conversation.set_deadline(Instant::now().checked_add(within));
    let asked = match purpose {
        Purpose::Freeze => conversation.prepare_freeze(Some(PREPARE)),
        Purpose::Fork => conversation.prepare_fork(Some(PREPARE)),
    };
    let prepared = asked.and_then(|()| conversation.wait_freeze_ready(&mut |_, _| {}));
    match prepared {
        Ok(Ok(zeroed)) => Ok(zeroed),
        Ok(Err(error)) => Err(FreezeError::Guest(error)),
        Err(error) => Err(match conversation.stream().explain(error) {
            Broken::Worker(failure) => failure.into(),
            Broken::TimedOut => conversation.stream().worker().too_late(wanted, within).into(),
            Broken::Request(error) | Broken::Session(error) => FreezeError::Session(error),
        }),
    }
}

fn layout(shape: Shape) -> Result<MemoryLayout, FreezeError> {
    MemoryLayout::new(regions(&shape).into_iter().map(|r| (r.gpa, r.size))).map_err(damaged)
}

fn damaged(cause: impl Into<Cause>) -> FreezeError {
    FreezeError::Damaged(cause.into())
}

fn recipe_function(function: &Function) -> calve_snapshots::Function {
    calve_snapshots::Function {
        runtime: function.runtime.clone(),
        handler: function.handler.clone(),
        timeout_ms: u64::try_from(function.timeout.as_millis()).unwrap_or(u64::MAX),
        env: function.env.clone(),
    }
}

/// The memory to write.
enum Memory<'a> {
    /// All of it.
    Whole(Layers),
    /// What differs from the snapshot that the machine was thawed from.
    Upper { runs: Vec<Stretch>, layers: Layers, base: &'a Snapshot },
}

impl<'a> Memory<'a> {
    fn of(saved: Saved, shape: Shape, below: Option<Below<'a>>) -> Result<Self, FreezeError> {
        let made = match below {
            Some(Below { layers, snapshot: Some(base) }) if layers.files.len() < MOST_LAYERS => {
                saved.written(shape, layers).map(|(runs, layers)| Self::Upper {
                    runs,
                    layers,
                    base,
                })
            }
            below => saved.memory(shape, below.map(|below| below.layers)).map(Self::Whole),
        };
        made.map_err(FreezeError::Damaged)
    }

    fn write(
        &self,
        draft: &mut Draft<'_>,
        layout: &MemoryLayout,
        cancel: &Canceller,
        progress: Progress<'_>,
    ) -> Result<(), calve_snapshots::Error> {
        match self {
            Self::Whole(layers) => {
                let memory = Flat { layers, layout };
                draft.write_memory(&Cancellable { memory, cancel }, progress)
            }
            Self::Upper { runs, layers, base } => {
                draft.stand_on(base)?;
                let memory = Upper { layers, runs, layout };
                let extents = runs.iter().map(extent).collect();
                draft.write_layer(&Cancellable { memory, cancel }, extents, progress)
            }
        }
    }
}

/// Memory has fewer than 2³² pages: `MAX_RAM`.
fn extent(run: &Stretch) -> Extent {
    let page = |bytes: u64| u32::try_from(bytes / PAGE).unwrap_or(u32::MAX);
    Extent(page(run.offset), page(run.len))
}

/// Memory that stops being read when the fleet is cancelled.
struct Cancellable<'a, S> {
    memory: S,
    cancel: &'a Canceller,
}

impl<S: MemorySource> MemorySource for Cancellable<'_, S> {
    fn layout(&self) -> &MemoryLayout {
        self.memory.layout()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.memory.read_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.memory.next_data(offset)
    }
}
