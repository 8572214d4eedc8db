//! A machine thawed from a snapshot.

use std::io;
use std::path::Path;
use std::sync::Arc;

use calve_proto::FunctionError;
use calve_snapshots::{MemoryLayout, Workset};
use calve_vmm::memory::regions;

use crate::call::{CallError, CallOptions, Outcome};
use crate::callee::{Callee, Decision, Identity};
use crate::content::Content;
use crate::door::Door;
use crate::error::WorkerError;
use crate::fleet::ThawOptions;
use crate::process::Process;
use crate::record;
use crate::wiring::Wiring;

/// A copy-on-write clone of a frozen machine, in a worker of its own. Dropping it kills and reaps
/// the worker.
#[derive(Debug)]
pub struct Clone {
    callee: Callee,
    door: Option<Door>,
    /// What it was thawed from.
    origin: Arc<Content>,
}

impl Clone {
    pub(crate) fn new(callee: Callee, door: Option<Door>, origin: Arc<Content>) -> Self {
        Self { callee, door, origin }
    }

    pub(crate) fn take_apart(self) -> (Callee, Option<Door>, Arc<Content>) {
        (self.callee, self.door, self.origin)
    }

    /// Calls the function with a JSON event. The first call also makes the clone itself (seed,
    /// clock, identity) before any of its code runs, in the same frame.
    ///
    /// # Errors
    ///
    /// When the call did not reach the function or no answer came; an error *of the function* is
    /// in [`Outcome::result`]. After any error but [`CallError::Request`] the clone is dead.
    pub fn call(&mut self, event: &[u8], options: CallOptions<'_>) -> Result<Outcome, CallError> {
        self.callee.call(event, options)
    }

    /// Makes another clone of this one, in the same worker and as if thawed anew: for the next request
    /// of the same tenant and the same version of a function. Memory, processors and devices are what
    /// they were at the thaw; seed, clock and identity are new; streams and the door are gone. It
    /// costs what this clone has written, and no process.
    ///
    /// Whether a machine may be used again is the caller's to decide. Never between tenants: a guest
    /// that has found a flaw of KVM or of a device has it still.
    ///
    /// # Errors
    ///
    /// When this clone has ended or failed as far as is known. It is gone then: thaw another. As after a
    /// thaw, what fails from here on fails in [`Clone::call`] or [`Clone::wait_running`].
    pub fn reset(self) -> Result<Self, WorkerError> {
        self.reset_with(ThawOptions::default())
    }

    /// Resets with a door or ports of its own.
    ///
    /// # Errors
    ///
    /// As [`Clone::reset`], and when the door cannot be made.
    pub fn reset_with(self, options: ThawOptions) -> Result<Self, WorkerError> {
        let decision = Decision::now();
        let Self { callee, door, origin } = self;
        // Its path may be wanted again.
        drop(door);
        let (mut worker, Identity { timeout, .. }) = callee.part();
        // What it has still to say about its first life comes before what it says about the next.
        worker.wait_running()?;
        let wiring = Wiring::new(options)?;
        let (attach, fds) = wiring.attach(origin.disk_files());
        worker.reset(attach, &fds)?;
        drop(fds);
        let (line, door) = wiring.connect(worker)?;
        let callee = Callee::thawed(line, Identity::fresh(timeout)?, decision, true)?;
        Ok(Self::new(callee, door, origin))
    }

    /// Waits until the clone's vCPUs were let run. Calls do this by themselves.
    ///
    /// # Errors
    ///
    /// When the worker could not thaw it.
    pub fn wait_running(&mut self) -> Result<(), WorkerError> {
        self.callee.conversation.stream().worker().wait_running()
    }

    /// Asks the clone for a sign of life. It need not be itself yet, and is not made so: its function sleeps on,
    /// and takes no memory.
    ///
    /// # Errors
    ///
    /// As [`Clone::call`].
    pub fn ping(&mut self) -> Result<(), CallError> {
        self.callee.ping()
    }

    /// Makes the clone itself (seed, clock, identity) without calling it, for clones that other
    /// programs call through their [door](Clone::vsock_path). No effect on one that was called.
    ///
    /// # Errors
    ///
    /// As [`Clone::call`]; the inner error is that of the function's `after_restore` hook.
    pub fn introduce(&mut self) -> Result<Result<(), FunctionError>, CallError> {
        self.callee.introduce()
    }

    /// Its identity, unique among all machines: what its function reads from
    /// `/run/calve/machine-id`.
    pub fn machine_id(&self) -> &str {
        &self.callee.machine
    }

    /// The Unix socket over which other programs reach its ports, where one was
    /// [asked for](crate::ThawOptions::listen).
    pub fn vsock_path(&self) -> Option<&Path> {
        self.door.as_ref().map(Door::path)
    }

    /// Process id of its worker, for people and their tools.
    pub fn pid(&self) -> u32 {
        self.callee.conversation.stream().worker().pid()
    }

    /// A handle on its worker's process, for other threads. A clone that is reset stays in it.
    ///
    /// # Errors
    ///
    /// When this process has no descriptor left.
    pub fn process(&self) -> io::Result<Process> {
        self.callee.conversation.stream().worker().process()
    }

    /// Private memory of its worker, guest included, KiB.
    pub fn private_kib(&self) -> Option<u64> {
        self.callee.conversation.stream().worker().private_kib()
    }

    /// The pages of its memory that it has touched since its thaw, those included that were made ready for it. Of pages that
    /// were only read it may have some that lie beside: the kernel maps a few at once. Reads 8 bytes of `/proc` for each page
    /// of memory.
    ///
    /// # Errors
    ///
    /// When its worker is gone, or may not be looked into by this user.
    pub fn workset(&self) -> io::Result<Workset> {
        let regions = regions(&self.origin.shape).into_iter().map(|r| (r.gpa, r.size));
        let layout = MemoryLayout::new(regions).map_err(io::Error::other)?;
        let touched = record::touched(self.pid(), &self.origin.layers.files, &layout)?;
        Ok(Workset::of_pages(touched))
    }

    /// The end of its console.
    pub fn console(&self) -> String {
        self.callee.conversation.stream().worker().console_text()
    }
}
