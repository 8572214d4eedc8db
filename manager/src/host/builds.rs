//! Versions become snapshots, a few at a time, of all tenants in turn.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use self::line::Line;
use super::Host;
use crate::control::{BuildJob, Plan};
use crate::engine::{Blueprint, BuildFailure, EngineError, chain};
use crate::full::is_full;
use crate::held::Holds;
use crate::metrics::BuildOutcome;
use crate::model::{Code, Function, Snapshot, Version};
use crate::package;

mod line;

/// How long to wait before something is tried again for which there was no room: a full disk must not keep us busy.
const PAUSE: Duration = Duration::from_secs(1);

/// Builds whatever is asked for, and what was under way when the host stopped.
pub(super) fn start(host: &Arc<Host>, mut wanted: UnboundedReceiver<BuildJob>) {
    let weak = Arc::downgrade(host);
    let unbuilt = host.control.unbuilt();
    let permits = Arc::new(Semaphore::new(host.settings.builds.max(1)));
    let busy = Busy::default();
    tokio::spawn(async move {
        let mut line = Line::default();
        line.extend(unbuilt);
        loop {
            let permit = tokio::select! {
                // Whoever came meanwhile is in the line before the next turn is given.
                biased;
                job = wanted.recv() => match job {
                    Some(job) => {
                        line.push(job);
                        continue;
                    }
                    None => return,
                },
                permit = permits.clone().acquire_owned(), if !line.is_empty() => permit,
            };
            let (Ok(permit), Some(job)) = (permit, line.pop()) else { return };
            let Some(host) = weak.upgrade() else { return };
            if host.is_draining() {
                return;
            }
            let (busy, weak) = (busy.clone(), weak.clone());
            let again = job.clone();
            let built = spawn_blocking(move || {
                let _permit = permit;
                host.build_all(&busy, &job)
            });
            tokio::spawn(async move {
                if let Ok(Built::NoSpace) = built.await {
                    // At its tenant's end of the line, and not at once: others may need less.
                    sleep(PAUSE).await;
                    if let Some(host) = weak.upgrade() {
                        host.control.build_again(again);
                    }
                }
            });
        }
    });
}

/// The jobs that somebody is at.
type Busy = Arc<Holds<BuildJob>>;

/// What came of a job.
enum Built {
    /// There is nothing more to do for it.
    Done,
    /// It is to be done again when there may be room.
    NoSpace,
}

impl Host {
    /// Builds a version until it is as it should be.
    fn build_all(&self, busy: &Busy, job: &BuildJob) -> Built {
        // One that is being built is looked at again when that is done: also after the turn was given back, for one that
        // came and was sent away in between.
        while !self.is_draining() && self.control.plan(job).is_some() {
            let Some(_turn) = busy.take(job.clone()) else { return Built::Done };
            while let Some(plan) = self.control.plan(job).filter(|_| !self.is_draining()) {
                if matches!(self.build(job, &plan), Built::NoSpace) {
                    return Built::NoSpace;
                }
            }
        }
        Built::Done
    }

    /// Builds a version and says what came of it.
    fn build(&self, job: &BuildJob, plan: &Plan) -> Built {
        let name = self.name(&plan.function, &plan.version);
        let built = self.try_build(job, plan, &name).and_then(|()| self.try_open(&name));
        let result = built.map(|()| plan.snapshot(&*name));
        let failed = result.as_ref().err().cloned();
        self.metrics.record_build(match &failed {
            None => BuildOutcome::Ok,
            Some(_) => BuildOutcome::Failed,
        });
        if let Some(failure) = &failed {
            tracing::warn!(tenant = %job.tenant, function = %job.function, %failure, "build failed");
        } else {
            tracing::info!(tenant = %job.tenant, function = %job.function, snapshot = %name, "built");
        }
        if failed.is_some_and(|failure| failure.code == BuildFailure::NO_SPACE) {
            return Built::NoSpace;
        }
        self.write_down(job, plan, &name, &result);
        Built::Done
    }

    /// Takes down what came of a build, however long that takes: it is not made again for want of a line in the ledger.
    fn write_down(
        &self,
        job: &BuildJob,
        plan: &Plan,
        name: &str,
        result: &Result<Snapshot, BuildFailure>,
    ) {
        loop {
            match self.control.built(job, &plan.version.revision, result.clone()) {
                Ok(true) => return,
                // Changed or deleted meanwhile.
                Ok(false) => return self.discard(name),
                Err(error) => {
                    tracing::error!(function = %job.function, %error, "cannot take down what was built");
                    if self.is_draining() {
                        return;
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn try_build(&self, job: &BuildJob, plan: &Plan, name: &str) -> Result<(), BuildFailure> {
        let version = &plan.version;
        let folder = tempfile::tempdir().map_err(|e| BuildFailure::internal(&e))?;
        // All of them together are to be no larger than one alone may be.
        let mut limits = package::Limits::default();
        let mut unpack = |code: &Code, name: &str, what: &str| -> Result<PathBuf, BuildFailure> {
            let zip = self.control.codes().read(&job.tenant, code);
            let zip = zip.map_err(|e| BuildFailure::internal(&e))?;
            let to = folder.path().join(name);
            let unpacked = package::unpack(&zip, &to, &limits).map_err(|e| {
                if is_full(&e) {
                    return BuildFailure::internal(&e);
                }
                let reason = format!("{what}{e}");
                BuildFailure { code: "InvalidZipFileException".into(), reason }
            })?;
            limits.bytes = limits.bytes.saturating_sub(unpacked.bytes);
            Ok(to)
        };
        let configuration = &version.configuration;
        let code = unpack(&version.code, "code", "")?;
        let layers = configuration.layers.iter().enumerate().map(|(number, layer)| {
            unpack(&layer.code, &format!("layer-{number}"), &format!("with {}, ", layer.arn))
        });
        let layers: Vec<PathBuf> = layers.collect::<Result<_, _>>()?;
        self.engine.build(&Blueprint {
            snapshot: name,
            function: &job.function,
            version: &version.qualifier(),
            arn: &plan.arn,
            runtime: &configuration.runtime,
            handler: &configuration.handler,
            environment: &configuration.environment,
            memory_mib: configuration.memory_mib,
            timeout: Duration::from_secs(configuration.timeout_s.into()),
            code: &code,
            layers: &layers,
        })
    }

    /// Opens what was built. Here, and not by its first call: what cannot be opened is a build that has failed, so that no
    /// call can have it built again and again.
    fn try_open(&self, name: &str) -> Result<(), BuildFailure> {
        match self.engine.check(name) {
            Err(error @ EngineError::Snapshot { .. }) => {
                self.discard(name);
                let source = std::error::Error::source(&error).map(chain).unwrap_or_default();
                let reason = format!("what was built cannot be opened: {source}");
                Err(BuildFailure { code: "InternalError".into(), reason })
            }
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(
                    snapshot = name,
                    why = chain(&error),
                    "cannot look at what was built"
                );
                Ok(())
            }
        }
    }

    /// The name of the snapshot that a version's next build makes.
    pub(super) fn name(&self, function: &Function, version: &Version) -> String {
        let (tenant, name) = (&*function.tenant, &*function.name);
        self.owner.name([tenant, name, &version.qualifier(), &version.revision])
    }

    /// Removes a snapshot that nobody wants.
    pub(super) fn discard(&self, name: &str) {
        // Two revisions can come to one name.
        if self.control.snapshots().contains(name) {
            return;
        }
        self.dispatcher.retire(name);
        if let Err(error) = self.engine.remove(name) {
            tracing::warn!(snapshot = %name, %error, "cannot remove a snapshot");
        }
    }
}
