//! A control plane for tests: a ledger in memory, code in a folder that goes away, and nobody who builds.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::request::{Blob, Create, Environment, Package, Settings};
use super::{BuildJob, Chosen, Control, Parts};
use crate::auth::{Caller, Keyring};
use crate::catalog::Catalog;
use crate::codes::CodeStore;
use crate::engine::BuildFailure;
use crate::ledger::{DeadLetter, Ledger, LedgerError, Message, Record, Source};
use crate::model::{AccessKey, Function, LayerVersion, Millis, Quota, Snapshot, Tenant};

/// The region of tests.
pub(crate) const REGION: &str = "eu-central-1";

/// A control plane, and what comes out of it.
pub(crate) struct Bench {
    pub(crate) control: Arc<Control>,
    pub(crate) ledger: Arc<MemoryLedger>,
    pub(crate) builds: UnboundedReceiver<BuildJob>,
    pub(crate) retired: UnboundedReceiver<String>,
    folder: tempfile::TempDir,
}

impl Bench {
    /// One with tenants `one` and `two`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(MemoryLedger::default());
        Self::over(ledger, folder)
    }

    /// The same after a restart.
    pub(crate) fn restarted(self) -> Self {
        Self::over(self.ledger, self.folder)
    }

    fn over(ledger: Arc<MemoryLedger>, folder: tempfile::TempDir) -> Self {
        let (builds_in, builds) = unbounded_channel();
        let (retired_in, retired) = unbounded_channel();
        let control = Control::new(Parts {
            catalog: Arc::new(Catalog::open(Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap()),
            codes: Arc::new(CodeStore::open(folder.path()).unwrap()),
            keyring: Arc::new(Keyring::open(Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap()),
            region: REGION.to_owned(),
            url_domain: "urls.test".to_owned(),
            builds: builds_in,
            retired: retired_in,
            ledger: Arc::clone(&ledger) as Arc<dyn Ledger>,
            readiness: Arc::new(()),
        });
        Self { control: Arc::new(control), ledger, builds, retired, folder }
    }

    /// Changes what tenant `one` may use.
    pub(crate) fn limit(&self, quota: Quota) {
        self.control.keyring().set_quota("one", quota).unwrap();
    }

    /// Makes a function of tenant `one`.
    pub(crate) fn create(&self, name: &str) -> Chosen {
        self.control.create(&one(), creation(name), settings()).unwrap()
    }

    /// Makes a function that can be called.
    pub(crate) fn active(&mut self, name: &str) {
        self.create(name);
        self.build_all();
    }

    /// Builds what is wanted, with success.
    pub(crate) fn build_all(&mut self) -> usize {
        let mut built = 0;
        while let Ok(job) = self.builds.try_recv() {
            let Some(plan) = self.control.plan(&job) else { continue };
            let revision = &plan.version.revision;
            assert!(self.control.built(&job, revision, Ok(plan.snapshot(revision))).unwrap());
            built += 1;
        }
        built
    }

    /// Has the next build fail.
    pub(crate) fn fail_next(&mut self) {
        let job = self.builds.try_recv().unwrap();
        let plan = self.control.plan(&job).unwrap();
        let failure = BuildFailure { code: "FunctionError".into(), reason: "it raised".into() };
        assert!(self.control.built(&job, &plan.version.revision, Err(failure)).unwrap());
    }
}

fn tenant(name: &str, account: &str, quota: Quota) -> Tenant {
    Tenant { name: name.to_owned(), account: account.to_owned(), quota, created: 0 }
}

/// Somebody of tenant `one`.
pub(crate) fn one() -> Caller {
    caller("one", "111111111111")
}

/// Somebody of tenant `two`.
pub(crate) fn two() -> Caller {
    caller("two", "222222222222")
}

fn caller(tenant: &str, account: &str) -> Caller {
    Caller { tenant: tenant.into(), account: account.into(), key: "AKIA".into(), root: false }
}

/// A snapshot of that name.
pub(crate) fn snapshot(name: &str) -> Snapshot {
    let lineage = format!("of {name}");
    Snapshot { name: name.to_owned(), memory_mib: 128, timeout_s: 3, lineage }
}

/// The least that a function has to have.
pub(crate) fn settings() -> Settings {
    Settings {
        role: Some("arn:aws:iam::111111111111:role/any".to_owned()),
        handler: Some("main.handler".to_owned()),
        runtime: Some("python3.11".to_owned()),
        ..Settings::default()
    }
}

/// A package of one file.
pub(crate) fn zip_of(content: &str) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("main.py", SimpleFileOptions::default()).unwrap();
    zip.write_all(content.as_bytes()).unwrap();
    zip.finish().unwrap().into_inner()
}

/// A request's package.
pub(crate) fn package(content: &str) -> Package {
    Package { zip_file: Some(Blob(zip_of(content))), ..Package::default() }
}

/// A request for a function.
pub(crate) fn creation(name: &str) -> Create {
    let code = Some(package("def handler(event, context): return event"));
    Create { function_name: Some(name.to_owned()), code, ..Create::default() }
}

/// A change of one environment variable.
pub(crate) fn variable(name: &str, value: &str) -> Settings {
    let variables = Some([(name.to_owned(), value.to_owned())].into());
    Settings { environment: Some(Environment { variables }), ..Settings::default() }
}

/// Remembers functions and layers, and nothing else.
#[derive(Default)]
pub(crate) struct MemoryLedger {
    functions: Mutex<HashMap<(String, String), Function>>,
    /// By tenant, name and number; none for what was removed.
    layers: Mutex<BTreeMap<(String, String, u32), Option<LayerVersion>>>,
}

type Done<T = ()> = Result<T, LedgerError>;

impl Ledger for MemoryLedger {
    fn functions(&self) -> Done<Vec<Function>> {
        Ok(self.functions.lock().unwrap().values().cloned().collect())
    }
    fn put_function(&self, function: &Function) -> Done {
        let key = (function.tenant.clone(), function.name.clone());
        self.functions.lock().unwrap().insert(key, function.clone());
        Ok(())
    }
    fn remove_function(&self, tenant: &str, name: &str) -> Done {
        self.functions.lock().unwrap().remove(&(tenant.to_owned(), name.to_owned()));
        Ok(())
    }

    fn layers(&self, tenant: &str) -> Done<Vec<LayerVersion>> {
        let layers = self.layers.lock().unwrap();
        Ok(layers.values().flatten().filter(|layer| layer.tenant == tenant).cloned().collect())
    }
    fn layer(&self, tenant: &str, name: &str, number: u32) -> Done<Option<LayerVersion>> {
        let key = (tenant.to_owned(), name.to_owned(), number);
        Ok(self.layers.lock().unwrap().get(&key).cloned().flatten())
    }
    fn add_layer(&self, layer: &LayerVersion) -> Done<u32> {
        let mut layers = self.layers.lock().unwrap();
        let key = |number| (layer.tenant.clone(), layer.name.clone(), number);
        let number = (1..).find(|number| !layers.contains_key(&key(*number))).unwrap();
        layers.insert(key(number), Some(LayerVersion { number, ..layer.clone() }));
        Ok(number)
    }
    fn remove_layer(&self, tenant: &str, name: &str, number: u32) -> Done<bool> {
        let key = (tenant.to_owned(), name.to_owned(), number);
        let mut layers = self.layers.lock().unwrap();
        Ok(layers.get_mut(&key).is_some_and(|layer| layer.take().is_some()))
    }

    fn tenants(&self) -> Done<Vec<Tenant>> {
        let tenants = [("one", "111111111111"), ("two", "222222222222")];
        Ok(tenants.map(|(name, account)| tenant(name, account, Quota::default())).into())
    }
    fn put_tenant(&self, _: &Tenant) -> Done {
        Ok(())
    }
    fn keys(&self) -> Done<Vec<AccessKey>> {
        Ok(Vec::new())
    }
    fn add_key(&self, _: &AccessKey) -> Done {
        Ok(())
    }
    fn remove_key(&self, _: &str) -> Done<bool> {
        Ok(false)
    }
    fn dead(&self, _: &str, _: &str) -> Result<u64, LedgerError> {
        Ok(0)
    }
    fn length(&self) -> Result<(u64, Option<Millis>), LedgerError> {
        Ok((0, None))
    }
    fn length_of(&self, _: &str) -> Done<u64> {
        Ok(0)
    }
    fn sweep(&self, _: Millis) -> Done<u64> {
        Ok(0)
    }
    fn enqueue(&self, _: &Message) -> Done {
        Ok(())
    }
    fn lease_but(
        &self,
        _: Millis,
        _: Millis,
        _: usize,
        _: &[String],
    ) -> Result<Vec<Message>, LedgerError> {
        Ok(Vec::new())
    }
    fn acknowledge(&self, _: &str) -> Done {
        Ok(())
    }
    fn postpone(&self, _: &str, _: Millis, _: u32) -> Done {
        Ok(())
    }
    fn bury(&self, _: &str, _: Millis, _: &str) -> Done {
        Ok(())
    }
    fn release_all(&self) -> Done {
        Ok(())
    }
    fn next_due(&self) -> Done<Option<Millis>> {
        Ok(None)
    }
    fn backlog(&self, _: &str, _: &str) -> Done<(u64, Option<Millis>)> {
        Ok((0, None))
    }
    fn dead_letters(&self, _: &str, _: &str, _: usize) -> Done<Vec<DeadLetter>> {
        Ok(Vec::new())
    }
    fn record(&self, _: &str, _: &str, _: Millis) -> Done<Option<Record>> {
        Ok(None)
    }
    fn put_record(&self, _: &Record) -> Done {
        Ok(())
    }
    fn claim(&self, _: &str, _: &str, _: &str, _: Millis, _: Millis) -> Done<bool> {
        Ok(false)
    }
    fn unclaim(&self, _: &str, _: &str, _: &str) -> Done {
        Ok(())
    }
    fn sources(&self) -> Done<Vec<Source>> {
        Ok(Vec::new())
    }
    fn put_source(&self, _: &Source) -> Done {
        Ok(())
    }
    fn remove_source(&self, _: &str) -> Done<bool> {
        Ok(false)
    }
    fn deliver(&self, _: &str, _: &str, _: &[Message]) -> Done {
        Ok(())
    }
    fn position(&self, _: &str) -> Done<String> {
        Ok(String::new())
    }
}
