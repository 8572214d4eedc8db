//! An engine without machines: it counts what it is asked for, and its instances do as the event says.
//!
//! | event | what the instance does |
//! | --- | --- |
//! | anything | answers with its identity, how many calls it has had, its version's code and the event |
//! | `"wait": gate` | first waits until the test opens that gate, or until it is killed |
//! | `"fail": text` | fails as a function does; `"leave": true`: and cannot be called again |
//! | `"die": true` | ends in the middle of the call |
//! | `"silent": true` | does not answer in time |
//! | `"print": text` | prints first |
//! | `"return": value` | answers with that alone |
//! | `"say": [text, {"wait": gate}, …]` | streams these texts, as `"as": type`, and waits at gates between; then as ever |
//!
//! Where the event is an HTTP request (a function URL's), it is its body that says these things.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use calve_manager::engine::{
    Answer, Blueprint, BuildFailure, Call, CollectError, Engine, EngineError, FunctionFailure,
    Instance, Killer, Need,
};
use serde_json::{Value, json};

use super::LONG;

/// What has happened, and what is to happen.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Snapshots that there are, with the code in them.
    pub(crate) snapshots: BTreeMap<String, String>,
    /// Snapshots that cannot be opened any more.
    pub(crate) damaged: BTreeSet<String>,
    /// Whether what is built cannot be opened.
    pub(crate) spoil_builds: bool,
    /// Runtime and memory that builds stood on, with the snapshots that stand on them.
    pub(crate) bases: BTreeMap<(String, u32), BTreeSet<String>>,
    /// The code of each layer in the last build of a function, in order.
    pub(crate) layers: BTreeMap<String, Vec<String>>,
    /// Function and version of every build that was begun.
    pub(crate) builds: Vec<(String, String)>,
    /// How often a snapshot was to be removed.
    pub(crate) asked_to_remove: u32,
    /// Snapshots that were removed.
    pub(crate) removed: Vec<String>,
    /// Machines that were started.
    pub(crate) starts: u32,
    /// Resets.
    pub(crate) resets: u32,
    /// Machines that were killed in the middle of a call.
    pub(crate) kills: Vec<String>,
    /// Calls that were begun: machine and request.
    pub(crate) calls: Vec<(String, String)>,
    /// Events of calls that have succeeded, in order.
    pub(crate) done: Vec<Value>,
    /// Machines that are there, and whether they have ended by themselves.
    pub(crate) machines: BTreeMap<String, bool>,
    /// What each machine was started from.
    pub(crate) origins: BTreeMap<String, String>,
    /// Calls that wait at a gate: machine and gate.
    pub(crate) waiting: Vec<(String, String)>,
    /// What nobody has to wait at any more.
    pub(crate) open: BTreeSet<String>,
    /// Whether snapshots cannot be removed.
    pub(crate) keep_snapshots: bool,
    /// Whether what was built is looked at only when this is no more.
    pub(crate) hold_checks: bool,
    /// Whether builds wait until this is no more.
    pub(crate) hold_builds: bool,
    /// The function whose builds wait until this is no more.
    pub(crate) slow: Option<String>,
    /// Whether starts and resets wait until this is no more.
    pub(crate) hold_starts: bool,
    /// Builds, starts and resets that wait for that.
    pub(crate) held: u32,
    /// What builds fail with.
    pub(crate) failure: Option<BuildFailure>,
    /// Starts that are to fail yet.
    pub(crate) fail_starts: u32,
    /// After so many more calls, none comes to an end.
    pub(crate) stall_after: Option<u32>,
    /// Takes the request id of every call that has succeeded, a line each.
    pub(crate) journal: Option<File>,
}

impl World {
    /// The code in a snapshot.
    fn open(&self, snapshot: &str) -> Result<String, EngineError> {
        let damaged = self.damaged.contains(snapshot);
        self.snapshots.get(snapshot).filter(|_| !damaged).cloned().ok_or_else(|| {
            let source = if damaged { "it is damaged" } else { "there is none" }.into();
            EngineError::Snapshot { snapshot: snapshot.to_owned(), source }
        })
    }

    /// Damages every snapshot that there is.
    pub(crate) fn damage_all(&mut self) {
        self.damaged = self.snapshots.keys().cloned().collect();
    }

    /// Machines that live.
    pub(crate) fn living(&self) -> Vec<String> {
        self.machines.iter().filter(|(_, ended)| !**ended).map(|(id, _)| id.clone()).collect()
    }
}

#[derive(Debug, Default)]
struct Shared {
    world: Mutex<World>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as it takes: what holds it is the test's to end.
    fn wait_while(&self, mut holds: impl FnMut(&mut World) -> bool) -> MutexGuard<'_, World> {
        self.changed
            .wait_while(self.lock(), |world| holds(world))
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeEngine(Arc<Shared>);

impl FakeEngine {
    /// Looks at the world, or changes it.
    pub(crate) fn with<T>(&self, what: impl FnOnce(&mut World) -> T) -> T {
        let value = what(&mut self.0.lock());
        self.0.changed.notify_all();
        value
    }

    /// Waits until something is so.
    pub(crate) fn wait(&self, what: &str, so: impl Fn(&World) -> bool) {
        let mut world = self.0.lock();
        let until = Instant::now() + LONG;
        while !so(&world) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never: {what}; the world: {world:#?}");
            let waited = self.0.changed.wait_timeout(world, left);
            world = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until a call stands at a gate.
    pub(crate) fn wait_for_call_at(&self, gate: &str) -> String {
        self.wait(&format!("a call at {gate}"), |w| w.waiting.iter().any(|(_, g)| g == gate));
        self.with(|w| w.waiting.iter().find(|(_, g)| g == gate).unwrap().0.clone())
    }

    /// Lets everybody through a gate.
    pub(crate) fn open(&self, gate: &str) {
        self.with(|world| world.open.insert(gate.to_owned()));
    }

    /// Ends a machine from outside, as `kill -9` of its process does.
    pub(crate) fn murder(&self, machine: &str) {
        self.with(|world| *world.machines.get_mut(machine).unwrap() = true);
    }

    /// Lets go of whatever waits, for good: threads of a host that ends must not stay.
    pub(crate) fn release(&self) {
        self.with(|world| {
            (world.hold_builds, world.hold_starts, world.hold_checks) = (false, false, false);
            (world.slow, world.stall_after) = (None, None);
            world.machines.values_mut().for_each(|ended| *ended = true);
        });
    }

    fn hold(&self, held: impl Fn(&World) -> bool) -> MutexGuard<'_, World> {
        self.with(|world| world.held += 1);
        let mut world = self.0.wait_while(|world| held(world));
        world.held -= 1;
        world
    }

    fn machine(&self, snapshot: &str) -> Result<Box<dyn Instance>, EngineError> {
        let mut world = self.hold(|world| world.hold_starts);
        if world.fail_starts > 0 {
            world.fail_starts -= 1;
            self.0.changed.notify_all();
            return Err(EngineError::Machine("the test wants it so".into()));
        }
        let code = world.open(snapshot)?;
        world.starts += 1;
        let id = format!("machine-{}", world.starts);
        world.machines.insert(id.clone(), false);
        world.origins.insert(id.clone(), snapshot.to_owned());
        self.0.changed.notify_all();
        Ok(Box::new(FakeInstance { engine: self.clone(), id, code, calls: 0 }))
    }
}

impl Engine for FakeEngine {
    fn build(&self, blueprint: &Blueprint<'_>) -> Result<(), BuildFailure> {
        self.with(|world| {
            world.builds.push((blueprint.function.to_owned(), blueprint.version.to_owned()));
        });
        let slow = self.with(|world| world.slow.as_deref() == Some(blueprint.function));
        let mut world = self.hold(|world| world.hold_builds || slow && world.slow.is_some());
        if let Some(failure) = &world.failure {
            return Err(failure.clone());
        }
        let read = |folder: &Path| std::fs::read_to_string(folder.join("main.py")).unwrap();
        let code = read(blueprint.code);
        let layers = blueprint.layers.iter().map(|layer| read(layer)).collect();
        world.layers.insert(blueprint.function.to_owned(), layers);
        world.snapshots.insert(blueprint.snapshot.to_owned(), code);
        let base = (blueprint.runtime.to_owned(), blueprint.memory_mib);
        world.bases.entry(base).or_default().insert(blueprint.snapshot.to_owned());
        if world.spoil_builds {
            world.damaged.insert(blueprint.snapshot.to_owned());
        }
        self.0.changed.notify_all();
        Ok(())
    }

    fn start(&self, snapshot: &str) -> Result<Box<dyn Instance>, EngineError> {
        self.machine(snapshot)
    }

    fn check(&self, snapshot: &str) -> Result<(), EngineError> {
        self.0.wait_while(|world| world.hold_checks).open(snapshot).map(drop)
    }

    fn remove(&self, snapshot: &str) -> Result<(), EngineError> {
        self.with(|world| {
            world.asked_to_remove += 1;
            if world.keep_snapshots {
                return Err(EngineError::Machine("the test wants it so".into()));
            }
            world.damaged.remove(snapshot);
            world.bases.values_mut().for_each(|on| on.retain(|one| one != snapshot));
            world.snapshots.remove(snapshot);
            world.removed.push(snapshot.to_owned());
            Ok(())
        })
    }

    fn snapshots(&self) -> Result<Vec<String>, CollectError> {
        Ok(self.with(|world| world.snapshots.keys().cloned().collect()))
    }

    fn collect(&self, wanted: &dyn Fn() -> BTreeSet<Need>) -> Result<Vec<String>, CollectError> {
        let wanted = wanted();
        let is_wanted = |(runtime, memory): &(String, u32)| {
            wanted.iter().any(|need| need.runtime == *runtime && need.memory_mib == *memory)
        };
        let removed = self.with(|world| {
            let all = std::mem::take(&mut world.bases).into_iter();
            let (unused, used): (Vec<_>, Vec<_>) =
                all.partition(|(base, on)| on.is_empty() && !is_wanted(base));
            world.bases = used.into_iter().collect();
            unused
        });
        Ok(removed.into_iter().map(|((runtime, _), _)| runtime).collect())
    }
}

struct FakeInstance {
    engine: FakeEngine,
    id: String,
    code: String,
    /// Its memory: lost with it, and with a reset.
    calls: u32,
}

impl FakeInstance {
    fn has_ended_in(&self, world: &World) -> bool {
        world.machines.get(&self.id).copied().unwrap_or(true)
    }

    /// Waits until that is no more so; an error if the machine ends before.
    fn hold(&self, gate: &str, held: impl Fn(&World) -> bool) -> Result<(), EngineError> {
        self.engine.with(|world| world.waiting.push((self.id.clone(), gate.to_owned())));
        let mut world = self.engine.0.wait_while(|w| held(w) && !self.has_ended_in(w));
        world.waiting.retain(|(machine, _)| *machine != self.id);
        match self.has_ended_in(&world) {
            true => Err(EngineError::Machine("killed".into())),
            false => Ok(()),
        }
    }
}

impl FakeInstance {
    /// Streams what the event says; whether it says anything.
    fn say(&self, event: &Value, call: &mut Call<'_>) -> Result<bool, EngineError> {
        let (Some(results), Some(said)) = (&mut call.results, event["say"].as_array()) else {
            return Ok(false);
        };
        let mut content_type = event["as"].as_str().unwrap_or("text/plain");
        for part in said {
            if let Some(gate) = part["wait"].as_str() {
                self.hold(gate, |world| !world.open.contains(gate))?;
            } else {
                results(part.as_str().unwrap().as_bytes(), content_type);
                content_type = "";
            }
        }
        Ok(true)
    }
}

impl Instance for FakeInstance {
    fn call(&mut self, mut call: Call<'_>) -> Result<Answer, EngineError> {
        let given: Value = serde_json::from_slice(call.event).unwrap();
        let body = given["body"].as_str().filter(|_| given["version"] == "2.0");
        let event = body.and_then(|body| serde_json::from_str(body).ok()).unwrap_or(given.clone());
        self.engine.with(|w| w.calls.push((self.id.clone(), call.request.to_owned())));
        self.calls += 1;
        if let Some(text) = event["print"].as_str() {
            (call.logs)(text.as_bytes());
        }
        if let Some(gate) = event["wait"].as_str() {
            self.hold(gate, |world| !world.open.contains(gate))?;
        }
        if event["die"] == true {
            self.engine.with(|world| world.machines.insert(self.id.clone(), true));
            return Err(EngineError::Machine("it died".into()));
        }
        if event["silent"] == true {
            return Err(EngineError::TimedOut);
        }
        let said = self.say(&event, &mut call)?;
        let answer = |result| Answer { result, first_output_us: 100, private_kib: Some(1) };
        if let Some(text) = event["fail"].as_str() {
            let body = json!({ "errorType": "Fake", "errorMessage": text }).to_string().into();
            let usable = event["leave"] != true;
            return Ok(answer(Err(FunctionFailure { timed_out: false, body, usable })));
        }
        if self.engine.with(|world| match &mut world.stall_after {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }) {
            self.hold("stalled", |world| world.stall_after.is_some())?;
        }
        let usual = json!({
            "machine": self.id,
            "calls": self.calls,
            "code": self.code,
            "event": given,
        });
        let body = event.get("return").unwrap_or(&usual).to_string();
        self.engine.with(|world| {
            world.done.push(given);
            if let Some(journal) = &mut world.journal {
                writeln!(journal, "{}", call.request).unwrap();
            }
        });
        Ok(answer(Ok(match (said, call.results) {
            (true, _) => Vec::new(),
            (false, Some(results)) => {
                results(body.as_bytes(), "");
                Vec::new()
            }
            (false, None) => body.into_bytes(),
        })))
    }

    fn reset(mut self: Box<Self>) -> Result<Box<dyn Instance>, EngineError> {
        let mut world = self.engine.hold(|world| world.hold_starts);
        if self.has_ended_in(&world) {
            return Err(EngineError::Machine("it has ended".into()));
        }
        world.resets += 1;
        drop(world);
        self.engine.0.changed.notify_all();
        self.calls = 0;
        Ok(self)
    }

    fn has_ended(&self) -> bool {
        self.has_ended_in(&self.engine.0.lock())
    }

    fn machine(&self) -> &str {
        &self.id
    }

    fn killer(&self) -> Option<Arc<dyn Killer>> {
        Some(Arc::new(FakeKiller { engine: self.engine.clone(), id: self.id.clone() }))
    }
}

impl Drop for FakeInstance {
    fn drop(&mut self) {
        self.engine.with(|world| world.machines.remove(&self.id));
    }
}

struct FakeKiller {
    engine: FakeEngine,
    id: String,
}

impl Killer for FakeKiller {
    fn kill(&self) {
        self.engine.with(|world| {
            if let Some(ended) = world.machines.get_mut(&self.id) {
                *ended = true;
                world.kills.push(self.id.clone());
            }
        });
    }
}
