//! The runtimes that functions are built on, and which of them nobody needs any more.
//!
//! A function's snapshot has the layers of its runtime in its own folder, so that it outlives the runtime's name. What a
//! runtime is kept for is the next function on it, which shares its memory with those that there are: for as long as there
//! is one, and as a build might be about to stand on it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use calve_fleet::RuntimeSpec;
use calve_snapshots::{Digest, Entry, Error};

use super::own_name;
use crate::engine::Need;
use crate::model::Millis;

/// A runtime that is younger than this stays: somebody has just made it, another process perhaps, to build on.
const GRACE: Millis = 15 * 60 * 1000;

/// Who stands on which runtime, among the builds of this process.
#[derive(Debug, Default)]
pub(super) struct Bases(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// Builds, by the runtime's name.
    builds: HashMap<String, usize>,
    /// Runtimes that a build has begun on since the last survey: what that build makes, the survey has not seen.
    since: HashSet<String>,
}

/// A runtime that a build stands on for as long as this is there.
#[derive(Debug)]
pub(super) struct Hold<'a> {
    bases: &'a Bases,
    name: &'a str,
}

impl Bases {
    /// Keeps a runtime for a build, from before the build looks for it.
    pub(super) fn hold<'a>(&'a self, name: &'a str) -> Hold<'a> {
        let mut held = self.lock();
        *held.builds.entry(name.to_owned()).or_default() += 1;
        held.since.insert(name.to_owned());
        Hold { bases: self, name }
    }

    /// A look at the store begins, after which runtimes may be removed.
    pub(super) fn survey(&self) {
        self.lock().since.clear();
    }

    /// Does something to a runtime that no build stands on, nor has begun to since the survey; none begins meanwhile.
    pub(super) fn unless_held<T>(&self, name: &str, work: impl FnOnce() -> T) -> Option<T> {
        let held = self.lock();
        let is_free = !held.builds.contains_key(name) && !held.since.contains(name);
        is_free.then(work)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut held = self.bases.lock();
        if let Some(builds) = held.builds.get_mut(self.name) {
            *builds -= 1;
            if *builds == 0 {
                held.builds.remove(self.name);
            }
        }
    }
}

/// A runtime in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base<'a> {
    pub(super) name: &'a str,
    /// Its language, and its machine's memory, MiB; none where nobody can build on it any more.
    kind: Option<(&'a str, u32)>,
}

impl Base<'_> {
    /// Whether a build may be about to stand on it.
    pub(super) fn suits(&self, need: &Need) -> bool {
        self.kind.is_some_and(|(runtime, memory_mib)| {
            own_name(&need.runtime) == Some(runtime) && need.memory_mib == memory_mib
        })
    }
}

/// The runtimes that no function in the store stands on. None if there is a function of which that cannot be told.
pub(super) fn unused(entries: &[Entry], now: Millis) -> Vec<Base<'_>> {
    let mut used = BTreeSet::<Digest>::new();
    let mut bases = Vec::new();
    for entry in entries {
        let named_so = entry.name.starts_with(RuntimeSpec::PREFIX);
        match &entry.manifest {
            Ok(manifest) if manifest.is_runtime() => {
                // Others may have runtimes of their own, under other names.
                if named_so && manifest.created_ms.saturating_add(GRACE) <= now {
                    let own = manifest.layers.last().map(|layer| layer.digest);
                    let kind = (manifest.function.runtime.as_str(), manifest.machine.memory_mib);
                    bases.push((Base { name: &entry.name, kind: Some(kind) }, own));
                }
            }
            Ok(manifest) => used.extend(manifest.layers.iter().map(|layer| layer.digest)),
            // This program cannot use it, whatever it is.
            Err(Error::FormatVersion { .. }) if named_so => {
                bases.push((Base { name: &entry.name, kind: None }, None));
            }
            Err(Error::FormatVersion { .. }) => {}
            Err(_) if named_so => {}
            Err(_) => return Vec::new(),
        }
    }
    let is_unused = |own: &Option<Digest>| own.is_none_or(|own| !used.contains(&own));
    bases.into_iter().filter(|(_, own)| is_unused(own)).map(|(base, _)| base).collect()
}

#[cfg(test)]
mod tests {
    use calve_snapshots::{Damage, Manifest};
    use serde_json::{Value, json};

    use super::*;

    const MADE: Millis = 1000;
    const LATER: Millis = MADE + GRACE;

    fn blob(of: &str, media: &str) -> Value {
        let media = format!("application/vnd.calve.{media}.v1");
        json!({ "media_type": media, "digest": Digest::of(of.as_bytes()), "length": 4096 })
    }

    /// A snapshot whose memory is made of these layers; with code, it is a function's.
    fn entry(name: &str, memory_mib: u32, layers: &[&str], code: bool) -> Entry {
        let layer = |of: &&str| {
            let mut layer = blob(of, "snapshot.memory");
            (layer["file"], layer["pages"], layer["runs"]) = (json!(of), json!(1), json!(1));
            layer
        };
        let mut images =
            json!({ "kernel": blob("k", "image.kernel"), "root": blob("r", "image.root") });
        if code {
            images["code"] = blob(name, "image.code");
        }
        let manifest: Manifest = serde_json::from_value(json!({
            "format_version": 2,
            "architecture": "x86_64",
            "created_ms": MADE,
            "cpu": { "vendor": "v", "features": [] },
            "machine": {
                "vcpus": 1,
                "disks": 2,
                "memory_mib": memory_mib,
                "memory": [{ "gpa": 0, "size": u64::from(memory_mib) << 20, "file_offset": 0 }],
                "cmdline": "",
            },
            "images": images,
            "state": blob("s", "snapshot.state"),
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
            "function": { "runtime": "python3.11", "handler": "a.b", "timeout_ms": 1 },
        }))
        .unwrap();
        Entry { name: name.into(), id: Digest::of(name.as_bytes()), manifest: Ok(manifest) }
    }

    fn names(entries: &[Entry], now: Millis) -> Vec<&str> {
        unused(entries, now).iter().map(|base| base.name).collect()
    }

    #[test]
    fn a_runtime_stays_while_a_function_has_its_layer() {
        let mut entries = vec![
            entry("runtime.python3.11.128m", 128, &["p128"], false),
            entry("runtime.python3.11.256m", 256, &["p256"], false),
            entry("fn.a", 128, &["p128", "a"], true),
            entry("python-of-my-own", 128, &["own"], false),
        ];
        assert_eq!(names(&entries, LATER), ["runtime.python3.11.256m"]);
        assert_eq!(names(&entries, LATER - 1), [""; 0], "it was just made");
        entries.retain(|entry| entry.name != "fn.a");
        let both = ["runtime.python3.11.128m", "runtime.python3.11.256m"];
        assert_eq!(names(&entries, LATER), both);
    }

    #[test]
    fn what_cannot_be_read_is_no_reason_to_remove_what_it_may_stand_on() {
        let name = || "fn.a".to_owned();
        let damaged = Error::Damaged { name: name(), file: String::new(), damage: Damage::Missing };
        let id = Digest::of(b"");
        let mut entries = vec![
            entry("runtime.python3.11.128m", 128, &["p128"], false),
            Entry { name: name(), id, manifest: Err(damaged) },
        ];
        assert_eq!(names(&entries, LATER), [""; 0]);
        // Of another version: nobody builds on it, whether it stays or not.
        let old = || Err(Error::FormatVersion { name: name(), found: 1 });
        entries[1].manifest = old();
        assert_eq!(names(&entries, LATER), ["runtime.python3.11.128m"]);
        entries.push(Entry { name: "runtime.old".into(), id, manifest: old() });
        assert_eq!(names(&entries, LATER), ["runtime.python3.11.128m", "runtime.old"]);
    }

    #[test]
    fn a_build_may_be_about_to_stand_on_one_of_its_language_and_size() {
        let entries = [entry("runtime.python3.11.128m", 128, &["p128"], false)];
        let base = unused(&entries, LATER)[0];
        let need = |runtime: &str, memory_mib| Need { runtime: runtime.into(), memory_mib };
        assert!(base.suits(&need("python3.11", 128)));
        assert!(!base.suits(&need("python3.11", 256)));
        assert!(!base.suits(&need("nodejs20.x", 128)));
        assert!(!base.suits(&need("cobol", 128)));
    }

    #[test]
    fn what_builds_stand_on_is_left_alone() {
        let bases = Bases::default();
        let is_free = |name| bases.unless_held(name, || ()).is_some();
        bases.survey();
        let (one, two) = (bases.hold("r"), bases.hold("r"));
        assert!(!is_free("r") && is_free("s"));
        drop(one);
        bases.survey();
        assert!(!is_free("r"), "there is another");
        drop(two);
        assert!(is_free("r"));
        // A build that was begun and is over since the survey may have left a function on it.
        drop(bases.hold("r"));
        assert!(!is_free("r"));
        bases.survey();
        assert!(is_free("r"));
    }
}
