//! The fleet as an engine: snapshots of one store, machines of one fleet.

mod bases;
mod habits;
mod open;
mod unopened;

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use calve_fleet::{
    BuildError, BuildSpec, CallError, CallOptions, Clone, Fleet, Frozen, Function, Keep, LogStream,
    Process, ResultSink, RuntimeSpec, ThawOptions, build_runtime, build_snapshot,
};
use calve_proto::{ErrorKind, FunctionError};
use calve_snapshots::Store;
use serde_json::json;

use self::bases::Bases;
use self::habits::Habits;
use self::open::{Open, Pupil, lock};
use self::unopened::unopened;
use super::{
    Answer, Blueprint, BuildFailure, Call, CollectError, Engine, EngineError, FunctionFailure,
    Instance, Killer, Need,
};
use crate::clock::now;
use crate::full::is_full;

/// What machines are made of besides functions: this crate knows nothing of images.
pub trait Images: Send + Sync + 'static {
    /// The kernel, and the command line that it needs.
    ///
    /// # Errors
    ///
    /// When it is not there and cannot be built.
    fn kernel(&self) -> Result<(PathBuf, String), Box<dyn Error + Send + Sync>>;

    /// The root image of a runtime, by our name for it.
    ///
    /// # Errors
    ///
    /// When it is not there and cannot be built.
    fn root(&self, runtime: &str) -> Result<PathBuf, Box<dyn Error + Send + Sync>>;

    /// Packs a folder of code into an image, with its layers, lowest first.
    ///
    /// # Errors
    ///
    /// For what cannot be packed, in words for the owner of the code.
    fn pack(
        &self,
        folder: &Path,
        layers: &[PathBuf],
        image: &Path,
    ) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// Shells of a shape that wait for content at the highest demand.
const MOST_SHELLS: usize = 8;
/// How often to look whether another process has built a runtime.
const LOOK: Duration = Duration::from_millis(200);
/// Time to start that a function has: AWS Lambda's.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The fleet behind [`Engine`].
pub struct FleetEngine {
    fleet: Fleet,
    store: Arc<Store>,
    images: Box<dyn Images>,
    open: Arc<Mutex<Open>>,
    /// One runtime is built at a time.
    building: Mutex<()>,
    /// The runtimes that builds stand on.
    bases: Bases,
}

impl FleetEngine {
    /// An engine on a fleet and a store.
    pub fn new(fleet: Fleet, store: Store, images: impl Images) -> Self {
        let (open, building, bases) = (Arc::default(), Mutex::default(), Bases::default());
        let store = Arc::new(store);
        Self { fleet, store, images: Box::new(images), open, building, bases }
    }

    fn frozen(&self, name: &str) -> Result<Arc<Frozen>, EngineError> {
        if let Some(frozen) = self.open().find(name) {
            return Ok(frozen);
        }
        // Not under the lock: it may read all of a snapshot.
        let frozen = self.fleet.open(&self.store, name).map_err(|e| unopened(name, e))?;
        let (frozen, habits) = self.recall(frozen);
        let frozen = Arc::new(frozen);
        // That nothing can be kept ready makes starts slower, and is no reason to refuse them.
        let _ = self.fleet.keep(frozen.shape(), Keep { least: 1, most: MOST_SHELLS });
        self.open().add(name, &frozen, habits);
        Ok(frozen)
    }

    /// Gives a snapshot what was learned of its calls, if anything was.
    fn recall(&self, frozen: Frozen) -> (Frozen, Habits) {
        let learned = habits::recall(&self.store, frozen.snapshot());
        match learned.and_then(|learned| frozen.with_workset(&learned).ok()) {
            Some(taught) => (taught, Habits::Known),
            None => (frozen, Habits::Unknown),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        lock(&self.open)
    }

    /// Has a runtime built if it is not there.
    fn prepare(&self, runtime: &RuntimeSpec) -> Result<(), Box<BuildError>> {
        loop {
            let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
            if self.fleet.has_runtime(&self.store, &runtime.name) {
                return Ok(());
            }
            match build_runtime(&self.fleet, &self.store, runtime, &mut |_| {}) {
                Ok(_) => return Ok(()),
                Err(BuildError::Store(calve_snapshots::Error::NameBusy(_))) => {
                    drop(building);
                    thread::sleep(LOOK);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn spec(&self, blueprint: &Blueprint<'_>, code: &Path) -> Result<BuildSpec, BuildFailure> {
        let runtime = own_name(blueprint.runtime).ok_or_else(|| BuildFailure {
            code: "InvalidRuntime".into(),
            reason: format!("there is no runtime {}", blueprint.runtime),
        })?;
        let (kernel, cmdline) = self.images.kernel().map_err(|e| BuildFailure::internal(&*e))?;
        self.images.pack(blueprint.code, blueprint.layers, code).map_err(|e| {
            let code =
                if is_full(&*e) { BuildFailure::NO_SPACE } else { "InvalidZipFileException" };
            BuildFailure { code: code.into(), reason: chain(&*e) }
        })?;
        let function = Function {
            version: blueprint.version.to_owned(),
            arn: blueprint.arn.to_owned(),
            env: blueprint.environment.clone(),
            timeout: blueprint.timeout,
            init_timeout: INIT_TIMEOUT,
            ..Function::new(blueprint.function, runtime, blueprint.handler)
        };
        Ok(BuildSpec {
            name: blueprint.snapshot.to_owned(),
            memory_mib: blueprint.memory_mib,
            vcpus: 1,
            kernel,
            root: self.images.root(runtime).map_err(|e| BuildFailure::internal(&*e))?,
            code: Some(code.to_owned()),
            cmdline,
            function,
            warm: Vec::new(),
            up_timeout: calve_fleet::BootSpec::UP_TIMEOUT,
            base: None,
        })
    }
}

impl Engine for FleetEngine {
    fn build(&self, blueprint: &Blueprint<'_>) -> Result<(), BuildFailure> {
        let folder = tempfile::tempdir().map_err(|e| BuildFailure::internal(&e))?;
        let mut spec = self.spec(blueprint, &folder.path().join("code.erofs"))?;
        let runtime = RuntimeSpec::under(&spec);
        let _held = self.bases.hold(&runtime.name);
        self.prepare(&runtime).map_err(|e| failure(&e))?;
        spec.base = Some(runtime.name.clone());
        build_snapshot(&self.fleet, &self.store, &spec, &mut |_| {}).map_err(|e| failure(&e))?;
        self.open().snapshots.remove(blueprint.snapshot);
        Ok(())
    }

    fn start(&self, snapshot: &str) -> Result<Box<dyn Instance>, EngineError> {
        let frozen = self.frozen(snapshot)?;
        let clone = self.fleet.thaw_with(&frozen, ThawOptions::default()).map_err(machine)?;
        let (open, store, name) = (self.open.clone(), self.store.clone(), snapshot.to_owned());
        let pupil = Pupil { open, store, name, frozen };
        Ok(Box::new(CloneInstance::new(clone, Some(pupil))?))
    }

    fn check(&self, snapshot: &str) -> Result<(), EngineError> {
        if self.store.is_trusting() {
            // To open it would be to read all of it, each time: its signature and its structure have to do.
            let looked = self.store.inspect(snapshot).map(drop);
            return looked.map_err(|e| unopened(snapshot, e.into()));
        }
        // Not kept: whoever looks at all of them would have those in use closed.
        self.fleet.open(&self.store, snapshot).map(drop).map_err(|e| unopened(snapshot, e))
    }

    fn remove(&self, snapshot: &str) -> Result<(), EngineError> {
        self.open().snapshots.remove(snapshot);
        match self.store.remove(snapshot) {
            Ok(()) | Err(calve_snapshots::Error::NotFound { .. }) => Ok(()),
            Err(e) => {
                Err(EngineError::Snapshot { snapshot: snapshot.to_owned(), source: e.into() })
            }
        }
    }

    fn snapshots(&self) -> Result<Vec<String>, CollectError> {
        self.store.names().map_err(|e| CollectError(e.into()))
    }

    fn collect(&self, wanted: &dyn Fn() -> BTreeSet<Need>) -> Result<Vec<String>, CollectError> {
        let failed = |error: calve_snapshots::Error| CollectError(error.into());
        self.bases.survey();
        let entries = self.store.list().map_err(failed)?;
        let mut removed = Vec::new();
        for base in bases::unused(&entries, now()) {
            // Builds of this process wait here; those of others have had their time.
            let tried = self.bases.unless_held(base.name, || {
                let is_wanted = wanted().iter().any(|need| base.suits(need));
                (!is_wanted).then(|| self.store.remove(base.name))
            });
            match tried.flatten() {
                None | Some(Err(calve_snapshots::Error::NotFound { .. })) => {}
                Some(Ok(())) => removed.push(base.name.to_owned()),
                Some(Err(error)) => return Err(failed(error)),
            }
        }
        Ok(removed)
    }
}

/// A clone of a snapshot.
struct CloneInstance {
    clone: Clone,
    process: Arc<Process>,
    calls: u64,
    /// Learns from it, if it is fresh.
    pupil: Option<Pupil>,
}

impl CloneInstance {
    fn new(clone: Clone, pupil: Option<Pupil>) -> Result<Self, EngineError> {
        let process = clone.process().map_err(|e| EngineError::Machine(e.into()))?;
        Ok(Self { clone, process: Arc::new(process), calls: 0, pupil })
    }
}

impl Killer for Process {
    fn kill(&self) {
        Self::kill(self);
    }
}

impl Instance for CloneInstance {
    fn call(&mut self, call: Call<'_>) -> Result<Answer, EngineError> {
        let Call { request, event, timeout, trace, logs, results } = call;
        let mut sink = |_: LogStream, bytes: &[u8]| logs(bytes);
        let mut pass;
        let results: Option<&mut ResultSink<'_>> = match results {
            Some(results) => {
                pass = |bytes: &[u8], content_type: &str| results(bytes, content_type);
                Some(&mut pass)
            }
            None => None,
        };
        let options = CallOptions {
            request_id: Some(request),
            timeout: Some(timeout),
            logs: Some(&mut sink),
            results,
            trace_id: trace,
            unmeasured: true,
            ..CallOptions::default()
        };
        self.calls += 1;
        let outcome = self.clone.call(event, options);
        if !outcome.as_ref().is_ok_and(|outcome| outcome.result.is_ok()) {
            self.pupil = None;
        }
        match outcome {
            Ok(outcome) => Ok(Answer {
                first_output_us: outcome.timings.first_output_us,
                private_kib: outcome.private_kib,
                result: outcome.result.map_err(|e| function_failure(&e)),
            }),
            Err(CallError::Request(e)) => Err(EngineError::Request(e.into())),
            Err(CallError::TimedOut { .. }) => Err(EngineError::TimedOut),
            Err(e) => Err(machine(e)),
        }
    }

    fn reset(self: Box<Self>) -> Result<Box<dyn Instance>, EngineError> {
        Ok(Box::new(Self::new(self.clone.reset().map_err(machine)?, None)?))
    }

    fn end(self: Box<Self>) {
        if let Some(pupil) = self.pupil.as_ref().filter(|_| self.calls == 1) {
            pupil.learn(&self.clone);
        }
    }

    fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    fn machine(&self) -> &str {
        self.clone.machine_id()
    }

    fn killer(&self) -> Option<Arc<dyn Killer>> {
        Some(self.process.clone())
    }
}

/// Our name for a runtime, by AWS Lambda's or our own.
pub(crate) fn own_name(runtime: &str) -> Option<&'static str> {
    Some(match runtime {
        "python3.11" => "python3.11",
        "nodejs20.x" | "node20" => "node20",
        "provided" | "provided.al2" | "provided.al2023" => "provided",
        _ => return None,
    })
}

/// A function's error as AWS Lambda's clients get it.
fn function_failure(error: &FunctionError) -> FunctionFailure {
    let mut body = json!({ "errorType": error.error_type, "errorMessage": error.error_message });
    if !error.stack_trace.is_empty() {
        body["stackTrace"] = json!(error.stack_trace);
    }
    // The runtime goes on after its handler's error; what else there is has ended it.
    let usable = matches!(
        error.kind,
        ErrorKind::Handler
            | ErrorKind::InvalidResult
            | ErrorKind::ResultTooLarge
            | ErrorKind::InvalidEvent
    );
    let timed_out = error.kind == ErrorKind::Timeout;
    FunctionFailure { timed_out, body: body.to_string().into_bytes(), usable }
}

/// What the owner of a function is told of a build that failed.
fn failure(error: &BuildError) -> BuildFailure {
    let code = match error {
        BuildError::Boot(calve_fleet::BootError::Init(init)) => match init.kind {
            ErrorKind::InitTimeout => "FunctionError.InitTimeout",
            _ => "FunctionError.InitError",
        },
        BuildError::Room { .. } => "InvalidZipFileException",
        BuildError::Freeze(calve_fleet::FreezeError::Guest(_)) => "FunctionError.HookError",
        _ => return BuildFailure::internal(error),
    };
    BuildFailure { code: code.into(), reason: chain(error) }
}

fn machine(error: impl Error + Send + Sync + 'static) -> EngineError {
    EngineError::Machine(error.into())
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
