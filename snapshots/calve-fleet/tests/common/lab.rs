//! Python functions in Linux guests, for tests that run in the lab.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "as in `common`")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "as in `common`")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use calve_fleet::{
    BuildError, BuildSpec, CallOptions, Clone, Fleet, Frozen, Function, FunctionError, Outcome,
    RuntimeSpec, build_runtime, build_snapshot,
};
use calve_snapshots::Store;
use serde_json::Value;
use tempfile::TempDir;

/// The kernel command line of `calve`; a later word wins.
const CMDLINE: &str = "console=ttyS0 quiet loglevel=1 reboot=t panic=-1 pci=off \
    swiotlb=noforce rcupdate.rcu_expedited=1 cgroup_disable=memory tsc=nowatchdog \
    root=/dev/vda rootfstype=erofs ro init=/sbin/calve-agent";

/// An emulated host is some 20 times slower than those that defaults are for.
pub const SLOW: Duration = Duration::from_secs(120);

/// A fleet and a store, shared by the tests of a binary.
pub struct Lab {
    pub fleet: Fleet,
    pub store: Store,
    pub dir: TempDir,
    frozen: Mutex<HashMap<String, Arc<Frozen>>>,
}

/// The lab's fleet and store, made by the first test that asks.
pub fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| Lab::new(crate::common::fleet()))
}

impl Lab {
    /// A store for this fleet.
    pub fn new(fleet: Fleet) -> Self {
        // RAM, and what SCM_RIGHTS and MAP_PRIVATE work with.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        Self { fleet, store, dir, frozen: Mutex::default() }
    }

    /// A snapshot of `functions/python`, built by the first test that asks.
    pub fn frozen(&self, name: &str) -> Arc<Frozen> {
        let mut frozen = self.frozen.lock().unwrap();
        let entry = frozen.entry(name.to_owned());
        let made = entry.or_insert_with(|| {
            self.build(name, "app.handler", &[br#"{"do":"identity"}"#]).unwrap();
            Arc::new(self.fleet.open(&self.store, name).unwrap())
        });
        made.clone()
    }

    /// A fresh clone of [`Lab::frozen`].
    pub fn thaw(&self, name: &str) -> Clone {
        self.fleet.thaw(&self.frozen(name)).unwrap()
    }

    /// A snapshot of `functions/python` on one of its runtime.
    pub fn build_on_a_runtime(&self, name: &str) {
        let base = format!("runtime-of-{name}");
        let spec = self.spec(name, "app.handler", &[]);
        let runtime = RuntimeSpec {
            name: base.clone(),
            runtime: spec.function.runtime.clone(),
            memory_mib: spec.memory_mib,
            vcpus: spec.vcpus,
            kernel: spec.kernel.clone(),
            root: spec.root.clone(),
            cmdline: spec.cmdline.clone(),
            init_timeout: SLOW,
            up_timeout: SLOW,
        };
        build_runtime(&self.fleet, &self.store, &runtime, &mut |_| {}).unwrap();
        let spec = BuildSpec { base: Some(base), ..spec };
        build_snapshot(&self.fleet, &self.store, &spec, &mut |_| {}).unwrap();
        let frozen = Arc::new(self.fleet.open(&self.store, name).unwrap());
        self.frozen.lock().unwrap().insert(name.to_owned(), frozen);
    }

    #[allow(clippy::result_large_err, reason = "the library's own, once a test")]
    pub fn build(&self, name: &str, handler: &str, warm: &[&[u8]]) -> Result<(), BuildError> {
        let spec = self.spec(name, handler, warm);
        build_snapshot(&self.fleet, &self.store, &spec, &mut |_| {}).map(drop)
    }

    fn spec(&self, name: &str, handler: &str, warm: &[&[u8]]) -> BuildSpec {
        BuildSpec {
            name: name.to_owned(),
            memory_mib: 256,
            vcpus: 1,
            kernel: self.in_ram("kernel", || cached("kernel", "vmlinux")),
            root: self.in_ram("root", || cached("root/python3.11-", "root.erofs")),
            code: Some(self.code()),
            cmdline: CMDLINE.to_owned(),
            function: function(handler),
            warm: warm.iter().map(|event| event.to_vec()).collect(),
            up_timeout: SLOW,
            base: None,
        }
    }

    /// A copy of a file that the lab shares with its host: reading those is slow.
    fn in_ram(&self, name: &str, original: impl FnOnce() -> PathBuf) -> PathBuf {
        let copy = self.dir.path().join(name);
        if !copy.exists() {
            std::fs::copy(original(), &copy).unwrap();
        }
        copy
    }

    fn code(&self) -> PathBuf {
        let image = self.dir.path().join("code.erofs");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/functions/python");
        let output = Command::new("mkfs.erofs")
            .args(["--quiet", "--all-root"])
            .args([&image, &folder])
            .output()
            .expect("mkfs.erofs: apt-get install erofs-utils");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        image
    }
}

pub fn function(handler: &str) -> Function {
    Function { timeout: SLOW, init_timeout: SLOW, ..Function::new("lab", "python3.11", handler) }
}

/// A file of the image cache, where `calve image build` leaves it: `<cache>/<prefix>*/<name>`.
fn cached(prefix: &str, name: &str) -> PathBuf {
    let cache = std::env::var_os("CALVE_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/calve");
    let cache = cache.unwrap_or_else(home);
    let (folder, prefix) = prefix.split_once('/').unwrap_or((prefix, ""));
    let entries = std::fs::read_dir(cache.join(folder)).into_iter().flatten().flatten();
    let images = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(name))
        .filter(|path| path.is_file());
    images
        .max_by_key(|path| path.metadata().and_then(|m| m.modified()).ok())
        .unwrap_or_else(|| panic!("no {prefix}*/{name} in {}: calve image build", cache.display()))
}

/// Calls a machine; the answer must come.
pub fn call(clone: &mut Clone, event: &Value) -> Outcome {
    clone.call(event.to_string().as_bytes(), CallOptions::default()).unwrap()
}

/// The result of a call that must succeed.
pub fn result(outcome: &Outcome) -> Value {
    serde_json::from_slice(outcome.result.as_ref().unwrap()).unwrap()
}

/// The error of a call that must fail in the function.
pub fn error(outcome: Outcome) -> FunctionError {
    outcome.result.unwrap_err()
}
