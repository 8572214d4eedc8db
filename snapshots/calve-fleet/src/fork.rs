//! Fork: a machine goes on, and so do others from the same moment, without a snapshot in between.
//!
//! ```text
//!  agent prepares ──► stream closed ──► paused ── branched ──► parent goes on ──► its memory is copied
//!   (hooks, stop)                       └── for so long it stands still ──┘              │
//!                                                        children are thawed from it ◄───┘
//! ```
//!
//! The parent's machine stands still while the kernel changes page tables; what it has written is copied by a process that
//! has its memory as it was (`memory/branch.rs` of `calve-vmm`). To the function a fork is what a thaw is, in the
//! parent as in each child: hooks run, generators are reseeded.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use calve_proto::FunctionError;
use calve_vmm::Shape;
use thiserror::Error;

use crate::call::CallError;
use crate::callee::{Callee, Decision};
use crate::clone::Clone;
use crate::content::Content;
use crate::door::Door;
use crate::error::{FreezeError, WorkerError};
use crate::fleet::{Fleet, ThawOptions};
use crate::freeze::{self, Purpose};
use crate::live::LiveMachine;
use crate::wiring::Wiring;

/// A machine could not be forked. It is gone.
#[derive(Debug, Error)]
pub enum ForkError {
    /// It could not be prepared, or its worker could not keep its memory.
    #[error("cannot fork the machine")]
    Freeze(#[from] FreezeError),
    /// It cannot become itself, before or after.
    #[error("cannot fork a machine that did not become itself")]
    Call(#[from] CallError),
    /// Its `after_restore` hook failed, before or after.
    #[error("cannot fork a machine that did not become itself")]
    Hook(#[source] FunctionError),
    /// A child could not be thawed.
    #[error("cannot thaw a child")]
    Child(#[source] WorkerError),
}

impl From<WorkerError> for ForkError {
    fn from(error: WorkerError) -> Self {
        Self::Freeze(error.into())
    }
}

/// A machine as it was at one moment, in memory alone. Children are [thawed](Fleet::thaw_moment) from it, any
/// number and at any time; its memory is kept for as long as it or a child is there.
#[derive(Clone, Debug)]
pub struct Moment {
    content: Arc<Content>,
    paused: Duration,
}

impl Moment {
    /// Shape of its machine: what to [prepare](Fleet::prepare) shells for.
    pub fn shape(&self) -> Shape {
        self.content.shape
    }

    /// How long the parent's machine stood still. Its function is stopped for longer: from before its memory is
    /// kept, when it is told to prepare, until it is told that it goes on, right after.
    pub fn paused(&self) -> Duration {
        self.paused
    }

    pub(crate) fn content(&self) -> &Arc<Content> {
        &self.content
    }
}

/// What a fork needs to know of a machine.
pub(crate) struct Parent<'a> {
    pub(crate) shape: Shape,
    /// Its disks, which nobody writes to.
    pub(crate) disks: &'a [File],
    /// What it was thawed from, or has left behind when it was last forked.
    pub(crate) below: Option<&'a Content>,
}

/// Keeps a machine as it is, and goes on with it: itself, its door if it has one now, and the moment.
pub(crate) fn branch(
    mut callee: Callee,
    parent: &Parent<'_>,
    options: ThawOptions,
) -> Result<(Callee, Option<Door>, Moment), ForkError> {
    freeze::check_disks(parent.shape, false)?;
    callee.introduce()?.map_err(ForkError::Hook)?;
    freeze::prepare(&mut callee.conversation, Purpose::Fork)?;
    let decision = Decision::now();
    let (mut worker, identity) = callee.part();
    // What it has still to say about its life so far comes before what it says about the next.
    worker.wait_running()?;
    let wiring = Wiring::new(options)?;
    let (attach, fds) = wiring.attach(parent.disks);
    worker.fork(attach, &fds)?;
    drop(fds);
    let (line, door) = wiring.connect(worker)?;
    let timeout = identity.timeout;
    let mut callee = Callee::thawed(line, identity, decision, true)?;
    // Before its memory is waited for: its function has been stopped since it was asked to prepare.
    callee.introduce()?.map_err(ForkError::Hook)?;
    let forked = callee.conversation.stream().worker().forked(parent.shape.memory_bytes());
    let (saved, paused) = forked?;
    let (state, _) = saved.state(parent.shape).map_err(FreezeError::Damaged)?;
    let below = parent.below.map(|content| &content.layers);
    let layers = saved.memory(parent.shape, below).map_err(FreezeError::Damaged)?;
    let disks = parent.disks.iter().map(File::try_clone).collect::<std::io::Result<_>>();
    let content =
        disks.and_then(|disks| Content::new(parent.shape, timeout, &state, layers, disks));
    let content = content.map_err(|e| WorkerError::Setup("keep a machine", e))?;
    Ok((callee, door, Moment { content: Arc::new(content), paused }))
}

impl Clone {
    /// Keeps this clone as it is now, for [children](Fleet::thaw_moment) to go on from, and gives it back. Its
    /// open streams and its door end, as by a reset; its identity stays.
    ///
    /// # Errors
    ///
    /// When its function cannot be frozen or its worker fails; it is gone then.
    pub fn branch(self, options: ThawOptions) -> Result<(Self, Moment), ForkError> {
        let (callee, door, origin) = self.take_apart();
        // Its path may be wanted again.
        drop(door);
        let parent =
            Parent { shape: origin.shape, disks: origin.disk_files(), below: Some(&origin) };
        let (callee, door, moment) = branch(callee, &parent, options)?;
        Ok((Self::new(callee, door, origin), moment))
    }

    /// Forks this clone as it is now: gives it back, and with it `count` others that go on from the same moment.
    ///
    /// # Errors
    ///
    /// As [`Clone::branch`], and when a child cannot be thawed.
    pub fn fork(self, fleet: &Fleet, count: usize) -> Result<(Self, Vec<Clone>), ForkError> {
        let (parent, moment) = self.branch(ThawOptions::default())?;
        Ok((parent, fleet.thaw_children(&moment, count)?))
    }
}

impl LiveMachine {
    /// Keeps this machine as it is now; see [`Clone::branch`]. From then on it is itself a copy-on-write clone of
    /// what it was.
    ///
    /// # Errors
    ///
    /// As [`Clone::branch`], and for a machine that writes to its disks.
    pub fn branch(mut self, options: ThawOptions) -> Result<(Self, Moment), ForkError> {
        freeze::check_disks(self.shape, self.writes_disks)?;
        let parent = Parent { shape: self.shape, disks: &self.disks, below: self.left.as_deref() };
        let (callee, door, moment) = branch(self.callee, &parent, options)?;
        // Later, its own pages are those that it has written since the first time.
        self.left.get_or_insert_with(|| Arc::clone(moment.content()));
        Ok((Self { callee, door, ..self }, moment))
    }

    /// Forks this machine as it is now; see [`Clone::fork`].
    ///
    /// # Errors
    ///
    /// As [`LiveMachine::branch`], and when a child cannot be thawed.
    pub fn fork(self, fleet: &Fleet, count: usize) -> Result<(Self, Vec<Clone>), ForkError> {
        let (parent, moment) = self.branch(ThawOptions::default())?;
        Ok((parent, fleet.thaw_children(&moment, count)?))
    }
}

impl Fleet {
    /// Thaws a child of a machine that was [kept](Clone::branch).
    ///
    /// # Errors
    ///
    /// As [`Fleet::thaw_with`].
    pub fn thaw_moment(&self, moment: &Moment, options: ThawOptions) -> Result<Clone, WorkerError> {
        self.thaw_as_asked(moment.content(), options)
    }

    fn thaw_children(&self, moment: &Moment, count: usize) -> Result<Vec<Clone>, ForkError> {
        let child = |_| self.thaw_moment(moment, ThawOptions::default());
        (0..count).map(child).collect::<Result<_, _>>().map_err(ForkError::Child)
    }
}
