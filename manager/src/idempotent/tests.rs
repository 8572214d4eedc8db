//! Runs, records and leases, with a real ledger and real files.

mod canonical;
mod crowd;
mod declared;
mod leases;
mod resources;
mod runs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::ledger::SqliteLedger;
use crate::model::Millis;
use crate::model::{Code, Configuration, Function, LATEST, Policy, State, Update, Version};

/// How long leases are.
const LEASE: Duration = Duration::from_secs(30);

/// A host with the functions `acme/f` and `other/f`.
struct Host {
    directory: tempfile::TempDir,
    ledger: Arc<SqliteLedger>,
    idempotent: Idempotent<String>,
    /// Executions of all calls.
    runs: Arc<AtomicU32>,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Arc::new(SqliteLedger::open(&directory.path().join("ledger")).unwrap());
        for tenant in ["acme", "other"] {
            ledger.put_function(&function(tenant)).unwrap();
            std::fs::create_dir_all(directory.path().join("resources").join(tenant)).unwrap();
        }
        let idempotent = Self::engine(&directory, &ledger);
        Self { directory, ledger, idempotent, runs: Arc::default() }
    }

    /// Another host with the same ledger and the same files.
    fn sibling(&self) -> Idempotent<String> {
        Self::engine(&self.directory, &self.ledger)
    }

    fn engine(directory: &tempfile::TempDir, ledger: &Arc<SqliteLedger>) -> Idempotent<String> {
        let resources = Resources::open(&directory.path().join("resources")).unwrap();
        Idempotent::with_clock(ledger.clone(), Arc::new(resources), LEASE, Arc::new(now))
    }

    fn path(&self, tenant: &str, name: &str) -> PathBuf {
        self.directory.path().join("resources").join(tenant).join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path("acme", name), content).unwrap();
    }

    /// An execution that has the number of executions for its result.
    fn work(&self) -> impl Future<Output = Result<Bytes, String>> + Send + use<> {
        self.work_after(Duration::ZERO)
    }

    /// The same, after some time.
    fn work_after(
        &self,
        time: Duration,
    ) -> impl Future<Output = Result<Bytes, String>> + Send + use<> {
        let runs = self.runs.clone();
        async move {
            let number = runs.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::time::sleep(time).await;
            Ok(number.to_string().into())
        }
    }

    async fn call(&self, request: Request) -> Verdict<String> {
        self.idempotent.run(request, self.work()).await.unwrap()
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

/// The time by tokio's clock, which tests may stop.
fn now() -> Millis {
    static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let began = tokio::time::Instant::from_std(*BEGAN.get_or_init(std::time::Instant::now));
    let since = tokio::time::Instant::now().saturating_duration_since(began);
    1_000_000 + u64::try_from(since.as_millis()).unwrap()
}

/// A call of `tenant/f` in a snapshot of that lineage.
fn call_of(tenant: &str, lineage: &str, event: &str, resources: &[&str]) -> Request {
    let resources: Vec<_> = resources.iter().map(|&name| name.to_owned()).collect();
    let environment = BTreeMap::new();
    let work =
        Work { tenant, function: "f", lineage, environment: &environment, resources: &resources };
    Request {
        tenant: tenant.into(),
        function: "f".into(),
        version: LATEST.into(),
        key: Key::of_event(work, event.as_bytes()),
        resources,
        ttl: Duration::from_secs(3600),
        patience: Duration::from_secs(300),
    }
}

/// A call of `acme/f`.
fn call(event: &str, resources: &[&str]) -> Request {
    call_of("acme", "s1", event, resources)
}

fn ran(result: &str) -> Verdict<String> {
    Verdict { result: Ok(result.to_owned().into()), hit: false, joined: false }
}

fn hit(result: &str) -> Verdict<String> {
    Verdict { hit: true, ..ran(result) }
}

fn function(tenant: &str) -> Function {
    let configuration = Configuration {
        runtime: "python3.11".into(),
        handler: "app.handler".into(),
        role: String::new(),
        description: String::new(),
        timeout_s: 3,
        memory_mib: 128,
        environment: BTreeMap::new(),
        layers: Vec::new(),
        dead_letter: String::new(),
        tracing: "PassThrough".into(),
        ephemeral_mib: 512,
        snap_start: "None".into(),
    };
    let latest = Version {
        number: None,
        configuration,
        code: Code { sha256: "00".repeat(32), size: 1 },
        state: State::Active,
        update: Update::Successful,
        revision: "r".into(),
        lineage: "l".into(),
        modified: 1,
        snapshot: None,
    };
    Function {
        tenant: tenant.into(),
        name: "f".into(),
        latest,
        versions: BTreeMap::new(),
        last_number: 0,
        aliases: BTreeMap::new(),
        reserved: None,
        provisioned: BTreeMap::new(),
        event_invoke: BTreeMap::new(),
        urls: BTreeMap::new(),
        tags: BTreeMap::new(),
        policy: Policy::default(),
    }
}
