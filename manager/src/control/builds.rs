//! Which snapshots are to be built, and what came of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;

use super::reference::Scope;
use super::{Control, state};
use crate::api::ApiError;
use crate::engine::{BuildFailure, Need};
use crate::ledger::LedgerError;
use crate::model::{Configuration, Function, Snapshot, Version};

/// A version that needs a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BuildJob {
    /// Whose.
    pub tenant: String,
    /// Which function.
    pub function: String,
    /// Which version; `None` is `$LATEST`.
    pub number: Option<u32>,
}

/// What a build is made from, as it is when the build begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The function.
    pub function: Arc<Function>,
    /// The version. Its revision is the build's identity: to be handed to [`Control::built`].
    pub version: Version,
    /// ARN of the version.
    pub arn: String,
}

impl Plan {
    /// The snapshot that the build makes, by its name in the store.
    pub fn snapshot(&self, name: impl Into<String>) -> Snapshot {
        let Configuration { memory_mib, timeout_s, .. } = self.version.configuration;
        let lineage = self.version.lineage.clone();
        Snapshot { name: name.into(), memory_mib, timeout_s, lineage }
    }
}

impl Control {
    /// What to build for a job; `None` when it has been built, or is not wanted any more.
    pub fn plan(&self, job: &BuildJob) -> Option<Plan> {
        let function = self.catalog().get(&job.tenant, &job.function)?;
        let version = state::version(&function, job.number)?.clone();
        if !state::is_building(&version) {
            return None;
        }
        let account = self.account(&job.tenant);
        let scope = Scope { region: self.region(), account: &account };
        let arn = scope.arn(&job.function, Some(&version.qualifier()));
        Some(Plan { function, version, arn })
    }

    /// Takes the result of the build that was begun when the version had `revision`. Whether it was still wanted: if
    /// not, the snapshot is the caller's to remove. Blocks.
    ///
    /// # Errors
    ///
    /// When the ledger fails: the version is as it was.
    pub fn built(
        &self,
        job: &BuildJob,
        revision: &str,
        result: Result<Snapshot, BuildFailure>,
    ) -> Result<bool, ApiError> {
        let outcome = self.change(&job.tenant, &job.function, |function| {
            let version = match job.number {
                None => Some(&mut function.latest),
                Some(number) => function.versions.get_mut(&number),
            };
            Ok(version.is_some_and(|version| state::finish(version, revision, result)))
        });
        match outcome {
            Ok((_, wanted)) => Ok(wanted),
            Err(gone) if gone.status == StatusCode::NOT_FOUND => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes down that a snapshot cannot be opened any more, and has it built anew. Whether calls were answered from it:
    /// if not, somebody else has said so before, or its version is gone. Blocks.
    ///
    /// # Errors
    ///
    /// When the ledger fails: nothing has changed.
    pub fn lose(&self, snapshot: &str) -> Result<bool, ApiError> {
        let functions = self.catalog().all();
        let whose = functions.iter().find(|function| state::snapshots(function).contains(snapshot));
        let Some(function) = whose else { return Ok(false) };
        let lost = self.change(&function.tenant, &function.name, |function| {
            Ok(state::lose(function, snapshot))
        });
        match lost {
            Ok((_, lost)) => Ok(lost),
            Err(gone) if gone.status == StatusCode::NOT_FOUND => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has a job done once more, after those of its tenant that wait.
    pub fn build_again(&self, job: BuildJob) {
        // Nobody receives while the host stops: what is unbuilt is found when it starts again.
        let _ = self.parts.builds.send(job);
    }

    /// What was being built when the host stopped: to be built when it starts.
    pub fn unbuilt(&self) -> Vec<BuildJob> {
        let functions = self.catalog().all();
        let jobs = functions.iter().flat_map(|function| {
            state::begun(None, function).into_iter().map(|number| BuildJob {
                tenant: function.tenant.clone(),
                function: function.name.clone(),
                number,
            })
        });
        jobs.collect()
    }

    /// What builds need to stand on that are under way or queued.
    pub fn needs(&self) -> BTreeSet<Need> {
        let functions = self.catalog().all();
        let versions = functions.iter().flat_map(|function| state::versions(function));
        let built = versions.filter(|version| state::is_building(version));
        let need =
            |of: &Configuration| Need { runtime: of.runtime.clone(), memory_mib: of.memory_mib };
        built.map(|version| need(&version.configuration)).collect()
    }

    /// The names of all snapshots that calls are answered from.
    pub fn snapshots(&self) -> BTreeSet<String> {
        let functions = self.catalog().all();
        let names = functions.iter().flat_map(|function| state::snapshots(function));
        names.map(str::to_owned).collect()
    }

    /// The names of all snapshots that calls are answered from, or will be when a build is done that is under way or to be
    /// made, of which `next` gives the name: by the ledger as well as by what is in memory. Blocks.
    ///
    /// # Errors
    ///
    /// When the ledger cannot be read.
    pub fn kept(
        &self,
        next: impl Fn(&Function, &Version) -> String,
    ) -> Result<BTreeSet<String>, LedgerError> {
        let written = self.parts.ledger.functions()?;
        let known = self.catalog().all();
        let mut kept = BTreeSet::new();
        for function in written.iter().chain(known.iter().map(Arc::as_ref)) {
            kept.extend(state::snapshots(function).into_iter().map(str::to_owned));
            let built = state::versions(function).filter(|version| state::is_building(version));
            kept.extend(built.map(|version| next(function, version)));
        }
        Ok(kept)
    }

    pub(super) fn account(&self, tenant: &str) -> String {
        let known = self.keyring().tenant(tenant);
        known.map_or_else(|| "000000000000".to_owned(), |tenant| tenant.account.clone())
    }
}
